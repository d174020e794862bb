//! A provider that is a function: it answers with the frames a test gives it.

use std::sync::{Arc, Mutex};

use harness::error::Error;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::TestBus;

/// One thing the stub does.
#[derive(Clone)]
pub(crate) enum Out {
    /// Sends an event.
    Event(Value),
    /// Sends text that is no event.
    Garbage(&'static str),
    /// Waits until the test lets it go on.
    Wait(Door),
    /// Fails the call.
    Fail(&'static str),
}

/// Opened by a test, once per waiter.
#[derive(Debug, Clone)]
pub(crate) struct Door(Arc<Semaphore>);

impl Door {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn open(&self) {
        self.0.add_permits(1);
    }

    pub(crate) async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

/// A function that does not answer until the test lets it.
pub(crate) struct Held {
    begun: Door,
    door: Door,
}

impl Held {
    /// Registers it, with what it answers in the end.
    pub(crate) fn serve(t: &TestBus, id: &str, answer: Value) -> Self {
        let (begun, door) = (Door::closed(), Door::closed());
        let (entered, held) = (begun.clone(), door.clone());
        t.serve(id, move |_| {
            let (entered, held, answer) = (entered.clone(), held.clone(), answer.clone());
            async move {
                entered.open();
                held.pass().await;
                Ok(answer)
            }
        });
        Self { begun, door }
    }

    /// Waits for one call.
    pub(crate) async fn called(&self) {
        self.begun.pass().await;
    }

    /// Lets one call go on.
    pub(crate) fn answers(&self) {
        self.door.open();
    }
}

/// Requests the stub has seen.
#[derive(Clone, Default)]
pub(crate) struct Stub(Arc<Mutex<Vec<Value>>>);

impl Stub {
    /// Registers `provider::stub::stream`; `answer` gets the number of the request, from 0, and the request.
    pub(crate) fn register(
        t: &TestBus,
        answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static,
    ) -> Self {
        Self::of(t, "stub", answer)
    }

    /// The same for another provider.
    pub(crate) fn of(
        t: &TestBus,
        provider: &str,
        answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static,
    ) -> Self {
        let stub = Self::default();
        let seen = stub.clone();
        let writers = t.writers();
        let answer = Arc::new(answer);
        t.serve(&format!("provider::{provider}::stream"), move |request| {
            let (seen, writers, answer) = (seen.clone(), writers.clone(), Arc::clone(&answer));
            async move {
                let number = {
                    let mut requests = seen.0.lock().unwrap();
                    requests.push(request.clone());
                    requests.len() - 1
                };
                let writer = writers.open(&request["writer_ref"]).await?;
                for out in answer(number, &request) {
                    let text = match out {
                        Out::Event(event) => event.to_string(),
                        Out::Garbage(text) => text.to_owned(),
                        Out::Wait(door) => {
                            door.pass().await;
                            continue;
                        }
                        Out::Fail(message) => return Err(Error::invalid(message)),
                    };
                    if writer.send(text).await.is_err() {
                        break;
                    }
                }
                writer.close().await;
                Ok(json!({ "ok": true }))
            }
        });
        stub
    }

    /// Waits until it has seen so many requests.
    pub(crate) async fn asked(&self, t: &TestBus, count: usize) {
        t.eventually(async || (self.requests().len() >= count).then_some(()))
            .await;
    }

    pub(crate) fn requests(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }
}

/// An assistant message of the stub.
pub(crate) fn message(content: Value, stop_reason: &str) -> Value {
    json!({
        "role": "assistant", "content": content, "stop_reason": stop_reason, "error_message": null, "error_kind": null,
        "usage": { "input": 1, "output": 1 }, "model": "m", "provider": "stub", "timestamp": 5,
    })
}

/// A turn that says something in deltas.
pub(crate) fn says(deltas: &[&str]) -> Vec<Out> {
    let whole = message(json!([{ "type": "text", "text": deltas.concat() }]), "end");
    let mut out = vec![Out::Event(
        json!({ "type": "start", "partial": message(json!([]), "end") }),
    )];
    let mut so_far = String::new();
    for delta in deltas {
        so_far.push_str(delta);
        let partial = message(json!([{ "type": "text", "text": so_far }]), "end");
        out.push(Out::Event(
            json!({ "type": "text_delta", "delta": delta, "partial": partial }),
        ));
    }
    out.push(done(whole));
    out
}

/// The terminal event.
pub(crate) fn done(message: Value) -> Out {
    Out::Event(json!({ "type": "done", "message": message }))
}

/// A turn that calls functions: id, target, payload.
pub(crate) fn calls(calls: &[(&str, &str, Value)]) -> Vec<Out> {
    let blocks: Vec<Value> = calls
        .iter()
        .map(|(id, target, payload)| {
            json!({ "type": "function_call", "id": id, "function_id": "agent_trigger",
                "arguments": { "function": target, "payload": payload } })
        })
        .collect();
    vec![done(message(json!(blocks), "function_call"))]
}

/// Calls first, then a word once there are results.
pub(crate) fn calls_then_ends(
    list: Vec<(&'static str, &'static str, Value)>,
) -> impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static {
    move |number, _| {
        if number == 0 {
            calls(&list)
        } else {
            says(&["done"])
        }
    }
}

//! A bus with this worker alone, over an engine that has nothing, for tests with paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::{BoxFuture, ready};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Harness, bridge, worker};
use crate::bus::{
    Bus, CallContext, CallFuture, CallOptions, Cx, EngineInfo, FunctionDef, Invocation, Ports, StreamItem,
    Transport, TriggerSpec, Write,
};
use crate::clock::ManualClock;
use crate::config::{Config, MapEnv};
use crate::error::{Error, Result};
use crate::ids::CountedIds;
use crate::telemetry::Metrics;

/// An engine without any function.
struct NoEngine;

impl Transport for NoEngine {
    fn start(&self, _: Bus) -> CallFuture<()> {
        Box::pin(ready(Ok(())))
    }

    fn call(&self, invocation: Invocation) -> CallFuture {
        Box::pin(ready(Err(Error::FunctionNotFound(
            invocation.function_id.to_string(),
        ))))
    }

    fn enqueue(&self, queue: &str, _: Invocation) -> CallFuture {
        Box::pin(ready(Err(Error::invalid(format!("no queue {queue}")))))
    }

    fn bind(&self, _: TriggerSpec) -> CallFuture<()> {
        Box::pin(ready(Ok(())))
    }

    fn commit(&self, _: Vec<Write>) -> CallFuture<()> {
        Box::pin(ready(Ok(())))
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            mode: "none",
            place: String::new(),
            problem: None,
        }
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        Box::pin(ready(()))
    }
}

/// A bus with nothing on it yet.
pub(super) fn bare(config: Config, env: MapEnv) -> Bus {
    let ports = Ports {
        clock: Arc::new(ManualClock::at(0)),
        ids: Arc::new(CountedIds::default()),
        env: Arc::new(env),
        config: Arc::new(ArcSwap::from_pointee(config)),
        metrics: Metrics::new(),
    };
    Bus::new(ports, Arc::new(NoEngine))
}

/// A bus that hosts this worker.
pub(super) async fn hosted(config: Config) -> Bus {
    let bus = bare(config, MapEnv::default());
    host(&bus).await;
    bus
}

/// Adds this worker.
pub(super) async fn host(bus: &Bus) {
    assert_eq!(bus.host(vec![worker()]).await, Ok(Vec::new()));
}

/// A context of this worker with memory of its own.
pub(super) fn cx(bus: &Bus) -> Cx<Harness> {
    Cx::new(bus.clone(), Arc::new(Harness::default()), CallContext::default())
}

/// Calls a function.
pub(super) async fn call(bus: &Bus, id: &str, payload: Value) -> Result<Value> {
    bus.invoke(
        &CallContext::default(),
        id,
        payload,
        CallOptions::timeout_ms(60_000),
    )
    .await
}

/// Subscribes and answers the number of browsers.
pub(super) async fn subscribe(bus: &Bus, browser: &str, session: Value) -> Value {
    let payload = json!({ "browser_id": browser, "session_id": session });
    call(bus, "ui::subscribe", payload).await.unwrap()["total_browsers"].take()
}

/// Emits an event as this process does.
pub(super) fn emit(bus: &Bus, session: &str, event: Value) {
    bus.show_to_taps(&StreamItem {
        stream: bridge::EVENTS.into(),
        group: session.into(),
        item: format!("{session}-{}-00000000", bus.epoch()),
        data: Arc::new(event),
    });
}

/// Lets everything run that is ready, and what is due by then.
pub(super) async fn settle(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// What a handler was called with, in order.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<Mutex<Vec<Value>>>);

impl Inbox {
    /// Registers a handler that takes `ms` per call; `None` never answers.
    pub(super) fn listen(&self, bus: &Bus, id: &str, ms: Option<u64>) {
        let inbox = self.clone();
        let function = FunctionDef::ad_hoc(id, move |payload, _| {
            let inbox = inbox.clone();
            async move {
                inbox.push(payload);
                match ms {
                    Some(0) => {}
                    Some(ms) => settle(ms).await,
                    None => std::future::pending().await,
                }
                Ok(Value::Null)
            }
        });
        bus.register(function).unwrap();
    }

    /// A browser's handler of session events that answers at once.
    pub(super) fn browser(bus: &Bus, browser: &str) -> Self {
        let inbox = Self::default();
        inbox.listen(bus, &format!("ui::session::event::{browser}"), Some(0));
        inbox
    }

    /// Adds a payload.
    pub(super) fn push(&self, payload: Value) {
        self.0.lock().unwrap().push(payload);
    }

    /// How much came and was not taken.
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Takes what came.
    pub(super) fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// What a double of the configuration worker does.
type Answer = Arc<dyn Fn(&str, &Value) -> Option<Result<Value>> + Send + Sync>;

/// A configuration worker whose answers the test decides; `None` never answers.
#[derive(Clone)]
pub(super) struct ConfigurationDouble {
    pub(super) calls: Arc<Mutex<Vec<(String, Value)>>>,
    answer: Arc<Mutex<Answer>>,
}

impl ConfigurationDouble {
    /// Registers it.
    pub(super) fn install(
        bus: &Bus,
        answer: impl Fn(&str, &Value) -> Option<Result<Value>> + Send + Sync + 'static,
    ) -> Self {
        let double = Self {
            calls: Arc::default(),
            answer: Arc::new(Mutex::new(Arc::new(answer))),
        };
        for verb in ["get", "register", "schema"] {
            let own = double.clone();
            let handler = move |payload: Value, _| {
                let own = own.clone();
                async move {
                    own.calls.lock().unwrap().push((verb.to_owned(), payload.clone()));
                    let answer = Arc::clone(&own.answer.lock().unwrap());
                    match answer(verb, &payload) {
                        Some(outcome) => outcome,
                        None => std::future::pending().await,
                    }
                }
            };
            bus.register(FunctionDef::ad_hoc(format!("configuration::{verb}"), handler))
                .unwrap();
        }
        double
    }

    /// Changes what it answers from now on.
    pub(super) fn now(&self, answer: impl Fn(&str, &Value) -> Option<Result<Value>> + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    /// Takes the registrations that came.
    pub(super) fn registered(&self) -> Vec<Value> {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls
            .into_iter()
            .filter(|(verb, _)| verb == "register")
            .map(|(_, payload)| payload)
            .collect()
    }
}

/// An entry with this value.
pub(super) fn holding(value: Value) -> impl Fn(&str, &Value) -> Option<Result<Value>> {
    move |verb, _| {
        Some(Ok(match verb {
            "get" => json!({"id": "harness", "value": value}),
            _ => json!({"id": "harness", "schema": {}}),
        }))
    }
}

/// No entry.
pub(super) fn empty() -> impl Fn(&str, &Value) -> Option<Result<Value>> {
    |verb, _| {
        Some(match verb {
            "get" => Err(Error::coded("NOT_FOUND", "no such entry")),
            _ => Ok(json!({"id": "harness", "schema": {}})),
        })
    }
}

/// What `harness::provider::resolve` answers.
pub(super) async fn resolve(bus: &Bus, provider: &str) -> Value {
    call(bus, "harness::provider::resolve", json!({ "provider": provider }))
        .await
        .unwrap()
}

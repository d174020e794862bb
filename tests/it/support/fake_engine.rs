//! An engine made of raw frames that does what a real one does on its bad days.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use harness::bus::embedded::ops::{Op, apply};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::engine::within;

/// How it differs from a good engine.
#[derive(Clone)]
pub(crate) struct Script {
    /// Functions that are there besides those of the worker.
    pub(crate) functions: Vec<&'static str>,
    /// Trigger types that are there.
    pub(crate) types: Vec<&'static str>,
    /// Names of further workers.
    pub(crate) workers: Vec<&'static str>,
    /// Results that come sooner than this after their call are lost (contract 00 §2.7).
    pub(crate) loses_under: Duration,
    /// Registrations count once the worker has said who it is, as from 0.23 on.
    pub(crate) waits_for_name: bool,
    /// The name is somebody else's, as from 0.23 on.
    pub(crate) refuses_worker: bool,
    /// This function is somebody else's, as from 0.23 on.
    pub(crate) refuses_function: Option<&'static str>,
    /// Calls of this function are answered with this code.
    pub(crate) fails: Option<(&'static str, &'static str)>,
    /// Bindings for this function are refused.
    pub(crate) refuses_binding: Option<&'static str>,
    /// Answers come this late.
    pub(crate) delay: Duration,
    /// Nothing is read or answered, but the connection stays.
    pub(crate) is_mute: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            functions: vec![
                "state::set",
                "stream::set",
                "configuration::register",
                "engine::queue::enqueue",
            ],
            types: vec!["state", "stream", "configuration", "cron"],
            workers: vec!["iii-state"],
            loses_under: Duration::ZERO,
            waits_for_name: false,
            refuses_worker: false,
            refuses_function: None,
            fails: None,
            refuses_binding: None,
            delay: Duration::ZERO,
            is_mute: false,
        }
    }
}

/// The engine; its connections end when it is dropped.
pub(crate) struct FakeEngine {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    tasks: TaskTracker,
    script: Mutex<Script>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: u64,
    workers: BTreeMap<u64, Worker>,
    /// Frames of workers, as they came.
    frames: Vec<Value>,
    pending: HashMap<String, Pending>,
    lost: usize,
    rows: HashMap<String, Value>,
}

struct Worker {
    out: mpsc::Sender<Value>,
    name: Option<String>,
    functions: Vec<Value>,
    triggers: Vec<Value>,
    hang_up: CancellationToken,
}

struct Pending {
    sent: Instant,
    answer: oneshot::Sender<Value>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn script(&self) -> Script {
        self.script.lock().unwrap().clone()
    }
}

impl FakeEngine {
    pub(crate) async fn start(script: Script) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub(crate) async fn at(address: SocketAddr, script: Script) -> Self {
        let listener = within(async {
            loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await;
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            tasks: TaskTracker::new(),
            script: Mutex::new(script),
            state: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let accepting = accept(listener, Arc::clone(&shared), stop.clone());
        shared
            .tasks
            .spawn(stop.clone().run_until_cancelled_owned(accepting));
        Self {
            address,
            shared,
            stop,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Changes its ways from now on.
    pub(crate) fn rescript(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script.lock().unwrap());
    }

    /// Ends all connections; new ones are taken.
    pub(crate) fn hang_up(&self) {
        for worker in self.shared.state().workers.values() {
            worker.hang_up.cancel();
        }
    }

    /// Frames of this type that workers have sent.
    pub(crate) fn frames(&self, kind: &str) -> Vec<Value> {
        let state = self.shared.state();
        state
            .frames
            .iter()
            .filter(|frame| frame["type"] == kind)
            .cloned()
            .collect()
    }

    /// Connections that were made so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.state().connections
    }

    /// Results that were lost.
    pub(crate) fn lost(&self) -> usize {
        self.shared.state().lost
    }

    /// Whether the worker of this name hosts a function now.
    pub(crate) fn hosts(&self, worker: &str, function: &str) -> bool {
        self.shared.state().workers.values().any(|known| {
            known.name.as_deref() == Some(worker) && known.functions.iter().any(|row| row["id"] == function)
        })
    }

    /// Calls a function as an outside caller would; answers the result frame, `None` when none came in time.
    pub(crate) async fn invoke(
        &self,
        function: &str,
        data: Value,
        beside: Value,
        limit: Duration,
    ) -> Option<Value> {
        let id = Uuid::from_u128(u128::from(rand_of(&self.shared))).to_string();
        let mut frame = json!({
            "type": "invokefunction", "invocation_id": id, "function_id": function, "data": data,
        });
        for (name, value) in beside.as_object().unwrap() {
            frame[name] = value.clone();
        }
        let out = {
            let state = self.shared.state();
            let host = state
                .workers
                .values()
                .find(|worker| worker.functions.iter().any(|row| row["id"] == function));
            host.map(|worker| worker.out.clone())?
        };
        let (answer, answered) = oneshot::channel();
        let pending = Pending {
            sent: Instant::now(),
            answer,
        };
        self.shared.state().pending.insert(id, pending);
        out.send(frame).await.ok()?;
        tokio::time::timeout(limit, answered).await.ok()?.ok()
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.stop.cancel();
        self.hang_up();
    }
}

fn rand_of(shared: &Shared) -> u64 {
    let mut state = shared.state();
    state.connections += 1 << 32;
    state.connections >> 32
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let serving = serve(stream, Arc::clone(&shared));
        shared
            .tasks
            .spawn(stop.clone().run_until_cancelled_owned(serving));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(16 << 20))
        .max_message_size(Some(64 << 20));
    let Ok(socket) = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await else {
        return;
    };
    let (mut sink, mut stream) = socket.split();
    let (out, mut outgoing) = mpsc::channel::<Value>(1024);
    let hang_up = CancellationToken::new();
    let id = {
        let mut state = shared.state();
        state.connections += 1;
        let id = state.connections & u64::from(u32::MAX);
        let worker = Worker {
            out: out.clone(),
            name: None,
            functions: Vec::new(),
            triggers: Vec::new(),
            hang_up: hang_up.clone(),
        };
        state.workers.insert(id, worker);
        id
    };
    let greeting = json!({
        "type": "workerregistered", "worker_id": Uuid::from_u128(u128::from(id)).to_string(),
        "reattach_token": Uuid::from_u128(1).to_string(),
    });
    out.send(greeting).await.unwrap();
    loop {
        if shared.script().is_mute {
            tokio::select! {
                () = hang_up.cancelled() => break,
                () = tokio::time::sleep(Duration::from_millis(5)) => continue,
            }
        }
        tokio::select! {
            () = hang_up.cancelled() => break,
            frame = outgoing.recv() => {
                let Some(frame) = frame else { break };
                if sink.send(Message::text(frame.to_string())).await.is_err() {
                    break;
                }
                if frame["type"] == "registrationrejected" && frame["code"] == "WORKER_NAMESPACE_CONFLICT" {
                    break;
                }
            }
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => take(&shared, id, &out, serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
        }
    }
    shared.state().workers.remove(&id);
}

/// One frame of a worker.
fn take(shared: &Arc<Shared>, id: u64, out: &mpsc::Sender<Value>, frame: Value) {
    let script = shared.script();
    let mut state = shared.state();
    state.frames.push(frame.clone());
    let Some(worker) = state.workers.get_mut(&id) else {
        return;
    };
    match frame["type"].as_str().unwrap() {
        "registerfunction" if script.refuses_function.is_some_and(|taken| frame["id"] == taken) => {
            let rejected = json!({
                "type": "registrationrejected", "code": "FUNCTION_NAMESPACE_CONFLICT", "namespace": "default",
                "function_id": frame["id"], "owner_worker_id": Uuid::nil().to_string(),
            });
            out.try_send(rejected).unwrap();
        }
        "registerfunction" => worker.functions.push(frame),
        "unregisterfunction" => worker.functions.retain(|row| row["id"] != frame["id"]),
        "registertrigger"
            if script
                .refuses_binding
                .is_some_and(|taken| frame["function_id"] == taken) =>
        {
            let refused = json!({
                "type": "triggerregistrationresult", "id": frame["id"], "trigger_type": frame["trigger_type"],
                "function_id": frame["function_id"],
                "error": {"code": "trigger_registration_failed", "message": "no"},
            });
            out.try_send(refused).unwrap();
        }
        "registertrigger" => worker.triggers.push(frame),
        "invocationresult" => {
            let key = frame["invocation_id"].as_str().unwrap().to_owned();
            let Some(pending) = state.pending.remove(&key) else {
                return;
            };
            if pending.sent.elapsed() < script.loses_under {
                // The engine did not know the call yet; its entry is then never completed.
                state.lost += 1;
                state.pending.insert(key, pending);
                return;
            }
            pending.answer.send(frame).ok();
        }
        "invokefunction" if frame["function_id"] == "engine::workers::register" => {
            worker.name = frame["data"]["name"].as_str().map(str::to_owned);
            if script.refuses_worker {
                let rejected = json!({
                    "type": "registrationrejected", "code": "WORKER_NAMESPACE_CONFLICT", "namespace": "default",
                    "worker_name": worker.name, "owner_worker_id": Uuid::nil().to_string(),
                });
                out.try_send(rejected).unwrap();
            }
        }
        "invokefunction" => {
            let answer = answer(&mut state, &script, &frame);
            let out = out.clone();
            shared.tasks.spawn(async move {
                tokio::time::sleep(script.delay).await;
                if !frame["invocation_id"].is_null() && !answer.is_null() {
                    out.send(answer).await.ok();
                }
            });
        }
        _ => {}
    }
}

fn answer(state: &mut State, script: &Script, frame: &Value) -> Value {
    let id = frame["function_id"].as_str().unwrap();
    let mut answer = json!({
        "type": "invocationresult", "invocation_id": frame["invocation_id"], "function_id": id,
    });
    if let Some((function, code)) = script.fails
        && function == id
    {
        answer["error"] = json!({ "code": code, "message": "not now" });
        return answer;
    }
    if script.functions.contains(&"state::set") && matches!(id, "state::get" | "state::update") {
        let data = &frame["data"];
        let key = format!("{}/{}", data["scope"], data["key"]);
        let old = state.rows.get(&key).cloned();
        answer["result"] = if id == "state::get" {
            old.unwrap_or_default()
        } else {
            let ops: Vec<Op> = serde_json::from_value(data["ops"].clone()).unwrap();
            let new = apply(old.clone(), &ops).value;
            state.rows.insert(key, new.clone());
            json!({ "old_value": old, "new_value": new })
        };
        return answer;
    }
    let named = || {
        state
            .workers
            .values()
            .filter(|worker| worker.name.is_some() || !script.waits_for_name)
    };
    answer["result"] = match id {
        "engine::workers::list" => {
            let ours = state.workers.values().filter_map(|worker| worker.name.clone());
            let others = script.workers.iter().map(|name| (*name).to_owned());
            let rows: Vec<Value> = others.chain(ours).map(|name| json!({ "name": name })).collect();
            json!({ "workers": rows })
        }
        "engine::functions::list" => {
            let ours = named().flat_map(|worker| {
                let name = worker.name.as_deref();
                worker
                    .functions
                    .iter()
                    .map(move |row| json!({ "function_id": row["id"], "worker_name": name }))
            });
            let others = script
                .functions
                .iter()
                .map(|id| json!({ "function_id": id, "worker_name": "engine" }));
            json!({ "functions": others.chain(ours).collect::<Vec<_>>() })
        }
        "engine::triggers::list" => {
            let rows: Vec<Value> = script.types.iter().map(|id| json!({ "id": id })).collect();
            json!({ "triggers": rows })
        }
        "engine::registered-triggers::list" => {
            let rows: Vec<Value> = named().flat_map(|worker| worker.triggers.clone()).collect();
            json!({ "registered_triggers": rows })
        }
        "fake::echo" => frame["data"].clone(),
        "fake::silent" => return Value::Null,
        id if script.functions.contains(&id) => json!({ "old_value": null, "new_value": null }),
        _ => {
            let message = format!("Function {id} not found");
            answer["error"] = json!({ "code": "function_not_found", "message": message });
            return answer;
        }
    };
    answer
}

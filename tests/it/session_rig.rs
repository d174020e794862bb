//! The session workers on an embedded engine in memory, behind a transport that records and can be told to fail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use harness::bus::embedded::Embedded;
use harness::bus::{
    Bus, CallContext, CallFuture, CallOptions, EngineInfo, Invocation, Transport, TriggerSpec, Write,
};
use harness::clock::{Clock, ManualClock};
use harness::config::Config;
use harness::error::{Error, Result};
use harness::model::api::Contract;
use harness::workers::{session_inbox, session_tree};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::pass_on::pass_on_to;
use crate::support::way::Way;
use crate::support::{TestBus, TestOptions};

/// Start of the clock.
pub(crate) const T0: i64 = 1_700_000_000_000;

/// Makes commits fail after they were stored.
pub(crate) const LATE: &str = "commit, but too late";

/// One thing the workers asked of the engine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// `state::list`, …, or `commit`.
    pub(crate) what: String,
    /// Scopes and keys.
    pub(crate) rows: Vec<(String, String)>,
    /// Length of the JSON that went over.
    pub(crate) bytes: usize,
}

/// What was asked, and what is to fail.
#[derive(Default)]
struct Record {
    asked: Mutex<Vec<Asked>>,
    failing: Mutex<Option<String>>,
}

/// Passes everything on, writes it down, and fails what it is told to.
struct Recorder {
    inner: Arc<dyn Transport>,
    exclusive: bool,
    record: Arc<Record>,
}

impl Record {
    fn note(&self, what: &str, rows: Vec<(String, String)>, bytes: usize) -> Option<Error> {
        let place = |failing: &str, scope: &str| failing == scope || failing == format!("{what} {scope}");
        let hit = |failing: &str| failing == what || rows.iter().any(|(scope, _)| place(failing, scope));
        let fails = self.failing.lock().unwrap().as_deref().is_some_and(hit);
        let what = what.to_owned();
        self.asked.lock().unwrap().push(Asked { what, rows, bytes });
        fails.then(|| Error::Unavailable("disk on fire".into()))
    }
}

impl Transport for Recorder {
    pass_on_to!(inner);

    fn call(&self, invocation: Invocation) -> CallFuture {
        let bytes = invocation.payload.to_string().len();
        let member = |name: &str| invocation.payload[name].as_str().unwrap_or_default().to_owned();
        let rows = vec![(member("scope"), member("key"))];
        match self.record.note(&invocation.function_id, rows, bytes) {
            Some(error) => ready(Err(error)).boxed(),
            None => self.inner.call(invocation),
        }
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        for write in &writes {
            if let Write::StateSet { scope, key, value } = write {
                rows.push((scope.clone(), key.clone()));
                bytes += value.to_string().len();
            }
        }
        let late = self.record.failing.lock().unwrap().as_deref() == Some(LATE);
        match self.record.note("commit", rows, bytes) {
            Some(error) => ready(Err(error)).boxed(),
            None if late => {
                let written = self.inner.commit(writes);
                async move {
                    written.await?;
                    Err(Error::Unavailable("no answer".into()))
                }
                .boxed()
            }
            None => self.inner.commit(writes),
        }
    }

    fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}

/// The session workers, ready to be called.
#[derive(Clone)]
pub(crate) struct Rig {
    bus: Arc<TestBus>,
    pub(crate) clock: Arc<ManualClock>,
    engine: Arc<Embedded>,
    record: Arc<Record>,
}

impl Rig {
    /// On a fresh engine.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// On a fresh engine, with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut options = TestOptions::default();
        change(&mut options.config);
        Self::on(options, |inner| (inner.is_exclusive(), inner)).await
    }

    /// On a fresh engine that others write to as well, and whose batches may be stored in part.
    pub(crate) async fn on_shared_engine() -> Self {
        Self::on(TestOptions::default(), |inner| (false, inner)).await
    }

    /// A new life of the workers on the engine of this one: nothing is remembered, everything stored is there. They are
    /// beside it, whichever way this life goes.
    pub(crate) async fn reborn(&self) -> Self {
        let options = TestOptions {
            way: Way::InProcess,
            ..TestOptions::default()
        };
        let engine = Arc::clone(&self.engine);
        let mut life = Self::on(options, move |_| (true, Arc::new(Restarted(engine)))).await;
        life.engine = Arc::clone(&self.engine);
        life
    }

    /// `engine` says from the test's engine whether it is to count as the workers' own, and what to use instead.
    async fn on(
        options: TestOptions,
        engine: impl FnOnce(Arc<dyn Transport>) -> (bool, Arc<dyn Transport>) + Send + 'static,
    ) -> Self {
        let record = Arc::new(Record::default());
        let clock = Arc::new(ManualClock::at(T0));
        let kept = Arc::clone(&record);
        let wrap = move |inner| {
            let (exclusive, inner) = engine(inner);
            Arc::new(Recorder {
                inner,
                exclusive,
                record: kept,
            }) as Arc<dyn Transport>
        };
        let options = TestOptions {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            workers: vec![session_inbox::worker(), session_tree::worker()],
            wrap: Box::new(wrap),
            ..options
        };
        let bus = Arc::new(TestBus::with(options).await);
        Self {
            engine: bus.engine(),
            bus,
            clock,
            record,
        }
    }

    /// The bus of this life.
    pub(crate) fn bus(&self) -> &Bus {
        self.bus.bus()
    }

    /// Calls a function with JSON.
    pub(crate) async fn call(&self, id: &str, payload: Value) -> Result<Value> {
        self.bus.call(id, payload).await
    }

    /// Calls a function by its contract.
    pub(crate) async fn typed<C: Contract>(&self, request: C::Request) -> Result<C::Response> {
        self.bus()
            .call::<C>(&CallContext::default(), request, CallOptions::default())
            .await
    }

    /// Text of the error of a call that must fail.
    pub(crate) async fn refusal(&self, id: &str, payload: Value) -> String {
        let error = self.call(id, payload).await.unwrap_err();
        assert_eq!(error.wire_code(), "invocation_failed");
        error.to_string()
    }

    /// Makes a session.
    pub(crate) async fn session(&self) -> String {
        let reply = self.call("session-tree::create", json!({})).await.unwrap();
        reply["session_id"].as_str().unwrap().to_owned()
    }

    /// Appends a message and answers the id of its entry.
    pub(crate) async fn append(&self, session: &str, message: Value, parent: Option<&str>) -> String {
        let request = json!({"session_id": session, "message": message, "parent_id": parent});
        let reply = self.call("session-tree::append", request).await.unwrap();
        reply["entry_id"].as_str().unwrap().to_owned()
    }

    /// Rows of `session-tree::messages`.
    pub(crate) async fn messages(&self, request: Value) -> Vec<Value> {
        let reply = self.call("session-tree::messages", request).await.unwrap();
        reply["messages"].as_array().unwrap().clone()
    }

    /// Texts of the messages on the active path.
    pub(crate) async fn texts(&self, session: &str) -> Vec<String> {
        let rows = self.messages(json!({ "session_id": session })).await;
        rows.iter()
            .map(|row| {
                row["message"]["content"][0]["text"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect()
    }

    /// Writes a row of a tree by hand.
    pub(crate) async fn write_row(&self, session: &str, row: Value) {
        let scope = format!("session_tree:{session}");
        let request = json!({"scope": scope, "key": row["id"], "value": row});
        self.call("state::set", request).await.unwrap();
    }

    /// The rows of a tree as they are stored.
    pub(crate) async fn rows(&self, session: &str) -> Vec<Value> {
        let scope = format!("session_tree:{session}");
        let reply = self.call("state::list", json!({ "scope": scope })).await.unwrap();
        reply.as_array().unwrap().clone()
    }

    /// A session's row as it is stored.
    pub(crate) async fn meta(&self, session: &str) -> Value {
        self.call(
            "state::get",
            json!({"scope": "session_tree_meta", "key": session}),
        )
        .await
        .unwrap()
    }

    /// Answers `turn::get_state` for the workers from now on.
    pub(crate) fn turn_state(&self, answer: impl Fn(&str) -> Value + Send + Sync + 'static) {
        self.bus.serve("turn::get_state", move |request| {
            let answer = answer(request["session_id"].as_str().unwrap());
            async move { Ok(answer) }
        });
    }

    /// Forgets what was asked so far.
    pub(crate) fn clear(&self) {
        self.record.asked.lock().unwrap().clear();
    }

    /// What the engine was asked since the last clearing.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.record.asked.lock().unwrap().clone()
    }

    /// Counts of what the engine was asked since the last clearing.
    pub(crate) fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for asked in self.asked() {
            *counts.entry(asked.what).or_default() += 1;
        }
        counts
    }

    /// Whatever writes, as names, since the last clearing.
    pub(crate) fn writes(&self) -> Vec<String> {
        let writes = |what: &str| matches!(what, "commit" | "state::set" | "state::update" | "state::delete");
        self.asked()
            .into_iter()
            .map(|asked| asked.what)
            .filter(|what| writes(what))
            .collect()
    }

    /// Lets an engine function, or `commit`, or everything about a scope, or one of them
    /// in a scope (`commit inbox`), fail from now on; `None` ends it.
    pub(crate) fn fail(&self, what: Option<&str>) {
        *self.record.failing.lock().unwrap() = what.map(str::to_owned);
    }
}

/// Runs tasks beside each other; answers in the order of their ends.
pub(crate) async fn together<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    tasks.into_iter().collect::<JoinSet<_>>().join_all().await
}

/// An engine that is started already.
pub(crate) struct Restarted(pub(crate) Arc<Embedded>);

impl Transport for Restarted {
    fn start(&self, _: Bus) -> CallFuture<()> {
        ready(Ok(())).boxed()
    }

    fn call(&self, invocation: Invocation) -> CallFuture {
        self.0.call(invocation)
    }

    fn enqueue(&self, queue: &str, invocation: Invocation) -> CallFuture {
        self.0.enqueue(queue, invocation)
    }

    fn bind(&self, trigger: TriggerSpec) -> CallFuture<()> {
        self.0.bind(trigger)
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        self.0.commit(writes)
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn info(&self) -> EngineInfo {
        self.0.info()
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}

/// A user message.
pub(crate) fn u(text: &str) -> Value {
    json!({"role": "user", "content": [{"type": "text", "text": text}], "timestamp": 1})
}

/// An assistant message.
pub(crate) fn a(text: &str) -> Value {
    json!({"role": "assistant", "content": [{"type": "text", "text": text}], "stop_reason": "end", "model": "m",
           "provider": "p", "timestamp": 2})
}

/// A function result.
pub(crate) fn r(text: &str) -> Value {
    json!({"role": "function_result", "function_call_id": "c", "function_id": "f::g",
           "content": [{"type": "text", "text": text}], "details": null, "is_error": false, "timestamp": 3})
}

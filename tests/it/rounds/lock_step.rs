//! The engine that answers in lock step, and a program on it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all, ready};
use harness::bus::embedded::Embedded;
use harness::bus::{
    Bus, CallFuture, EngineInfo, Invocation, StreamItem, Transport, TriggerSpec, Write, commit_apart,
};
use harness::error::Error;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use crate::support::engine::{Engine, within};
use crate::support::stub::{Door, Out, Stub};
use crate::support::{TestBus, TestOptions};
use crate::turn::run;

/// Nothing moves any more when the scheduler has come round this often and no call was added. Everything is in one thread
/// but the store, and that is asked by the engine only.
const STILL: usize = 1_000;

/// Handle for the test.
#[derive(Clone, Default)]
pub(super) struct LockStep(Arc<Inner>);

#[derive(Default)]
struct Inner {
    held: Mutex<Vec<Held>>,
    came: Notify,
    /// Waves that were waited for.
    waves: Mutex<Vec<String>>,
    /// Calls that are held back or being answered.
    open: AtomicUsize,
    /// Whether a wave costs the turn time.
    counts: Mutex<bool>,
}

struct Held {
    invocation: Invocation,
    answer: oneshot::Sender<Result<Value, Error>>,
}

impl LockStep {
    fn call(&self, invocation: Invocation) -> CallFuture {
        let (answer, answered) = oneshot::channel();
        self.0.open.fetch_add(1, Ordering::SeqCst);
        self.0.held.lock().unwrap().push(Held { invocation, answer });
        self.0.came.notify_one();
        async move { answered.await.unwrap_or(Err(Error::Stopped)) }.boxed()
    }

    /// Answers wave after wave, for ever.
    async fn run(self, engine: Arc<Embedded>) {
        loop {
            self.0.came.notified().await;
            self.still().await;
            let wave = std::mem::take(&mut *self.0.held.lock().unwrap());
            if wave.is_empty() {
                continue;
            }
            if *self.0.counts.lock().unwrap() {
                // What is written behind goes along with some wave; none is waited for because of it.
                let names = wave.iter().map(|held| name(&held.invocation));
                let mut names: Vec<String> = names.filter(|name| !name.starts_with("stream::set")).collect();
                names.sort();
                self.0.waves.lock().unwrap().push(names.join(", "));
            }
            let answers = wave
                .iter()
                .map(|held| match held.invocation.function_id.as_str() {
                    "outside::f" => ready(Ok(json!({ "done": true }))).boxed(),
                    _ => engine.call(held.invocation.clone()),
                });
            let answers = join_all(answers).await;
            for (held, answer) in wave.into_iter().zip(answers) {
                held.answer.send(answer).ok();
                self.0.open.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    async fn still(&self) {
        let mut before = 0;
        loop {
            let now = self.0.held.lock().unwrap().len();
            if now == before {
                return;
            }
            before = now;
            for _ in 0..STILL {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until everything that was asked is answered, and nothing more comes of it.
    async fn idle(&self) {
        let mut rounds = 0;
        while rounds < STILL {
            tokio::task::yield_now().await;
            let rests = self.0.open.load(Ordering::SeqCst) == 0;
            rounds = if rests { rounds + 1 } else { 0 };
        }
    }

    /// A model at work: all the engine has to do is done meanwhile.
    async fn think(self, answer: Door) {
        self.count(false);
        self.idle().await;
        self.count(true);
        answer.open();
    }

    fn count(&self, counts: bool) {
        *self.0.counts.lock().unwrap() = counts;
    }
}

/// What is called, where, and the state of a record that is written.
fn name(invocation: &Invocation) -> String {
    let payload = &invocation.payload;
    let parts = [
        &payload["scope"],
        &payload["stream_name"],
        &payload["value"]["state"],
    ];
    let mut name = invocation.function_id.to_string();
    for part in parts.into_iter().filter_map(Value::as_str) {
        name.push(' ');
        name.push_str(part);
    }
    name
}

/// Between the bus of the workers and the engine, which has one of its own.
struct Between {
    steps: LockStep,
}

impl Transport for Between {
    fn start(&self, _: Bus) -> CallFuture<()> {
        ready(Ok(())).boxed()
    }

    fn enqueue(&self, _: &str, invocation: Invocation) -> CallFuture {
        self.steps.call(invocation)
    }

    /// Nothing of these turns comes back through a trigger.
    fn bind(&self, _: TriggerSpec) -> CallFuture<()> {
        ready(Ok(())).boxed()
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            mode: "connect",
            place: "lock step".into(),
            problem: None,
        }
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }

    fn call(&self, invocation: Invocation) -> CallFuture {
        self.steps.call(invocation)
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        let steps = self.steps.clone();
        commit_apart(move |invocation| steps.call(invocation), writes)
    }

    fn is_exclusive(&self) -> bool {
        false
    }
}

/// A program on such an engine.
pub(super) struct Program {
    t: TestBus,
    engine: Engine,
    steps: LockStep,
    ended: Arc<Notify>,
}

impl Program {
    /// The model's answer depends on whether its call has a result already.
    pub(super) async fn start(answer: impl Fn(bool) -> Vec<Out> + Send + Sync + 'static) -> Self {
        let steps = LockStep::default();
        let engine = Engine::memory().await;
        let (answering, over) = (
            steps.clone().run(engine.embedded.clone()),
            engine.bus.shutdown_token().clone(),
        );
        engine.bus.spawn(async move {
            over.run_until_cancelled(answering).await;
        });
        let between = Between { steps: steps.clone() };
        let t = TestBus::with(TestOptions {
            rules: Some("rules: ['*']"),
            wrap: Box::new(move |_| Arc::new(between)),
            ..TestOptions::default()
        })
        .await;
        t.record("inside::f", json!({ "done": true }));
        t.ok("models::register", json!({ "provider": "stub", "id": "m" }))
            .await;
        let (thinking, program) = (steps.clone(), t.bus().downgrade());
        Stub::register(&t, move |_, request| {
            let has_result = request["messages"]
                .as_array()
                .unwrap()
                .iter()
                .any(|message| message["role"] == "function_result");
            let door = Door::closed();
            if let Some(bus) = program.upgrade() {
                bus.spawn(thinking.clone().think(door.clone()));
            }
            let mut out = vec![Out::Wait(door)];
            out.extend(answer(has_result));
            out
        });
        let ended = Arc::new(Notify::new());
        let (watching, at_end) = (steps.clone(), Arc::clone(&ended));
        let watch = move |item: &StreamItem| {
            if item.data["type"] == "agent_end" {
                watching.count(false);
                at_end.notify_one();
            }
        };
        t.bus().tap_stream("agent::events", Arc::new(watch));
        Self {
            t,
            engine,
            steps,
            ended,
        }
    }

    /// Brings a session into memory.
    pub(super) async fn load(&self, session: &str) {
        let request = json!({ "session_id": session });
        self.t.ok("session-tree::ensure", request.clone()).await;
        self.t.ok("session-tree::messages", request).await;
        self.steps.idle().await;
    }

    /// Runs a turn; answers the waves it waited for.
    pub(super) async fn turn(&self, session: &str) -> Vec<String> {
        self.steps.idle().await;
        self.steps.count(true);
        assert_eq!(self.t.ok("run::start", run(session)).await["started"], true);
        within(self.ended.notified()).await;
        self.steps.idle().await;
        std::mem::take(&mut *self.steps.0.waves.lock().unwrap())
    }

    pub(super) async fn stop(self) {
        self.t.stop().await;
        self.engine.stop().await;
    }
}

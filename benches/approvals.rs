//! What a session that waits for a person costs: memory, and the time from the decision to the call.
//!
//! `cargo bench --bench approvals` (all), `… -- memory`, `… -- dispatch`. The yardsticks are measured in the same run: the
//! memory of as many sessions whose call was allowed by a rule and whose run has ended, and the time from a `state::set` to
//! a subscriber of its scope, which is the engine's part of every decision. Compare ratios, not numbers.

#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

#[path = "support/figures.rs"]
mod figures;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/process.rs"]
mod process;
#[path = "support/program.rs"]
#[expect(dead_code, reason = "other benches need the rest")]
mod program;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use harness::bus::{FunctionDef, StreamItem, TriggerSpec};
use harness::scripted::{Reply, Script};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};

use figures::{Samples, say, say_load};
use memory::resident_mb;
use process::{cpu_time, median, ms, wanted};
use program::{Durability, Program};

const SESSIONS: usize = 1_000;
/// Decisions one after the other.
const ALONE: usize = 100;
/// Starts at a time.
const TOGETHER: usize = 50;
const ROUNDS: usize = 3;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    say_load("before");
    runtime.block_on(waiting());
    say_load("after");
}

async fn waiting() {
    let bench = Bench::start().await;
    if wanted("memory") {
        bench.memory().await;
    }
    if wanted("dispatch") {
        bench.dispatch().await;
    }
    bench.program.stop().await;
}

struct Bench {
    program: Program,
    /// One permit per session that parked.
    parked: Arc<Semaphore>,
    /// Who waits until the call of a session, or the yardstick's subscriber, is reached.
    waiting: Arc<Mutex<HashMap<String, oneshot::Sender<Instant>>>>,
}

impl Bench {
    async fn start() -> Self {
        // The user's text names the target; the call carries the session.
        let script = Script::answer(|request| {
            if !request.tool_results().is_empty() {
                return Reply::says("Done.", 1);
            }
            let text = request.last_user_text();
            let (target, session) = text.split_once(' ').expect("target and session");
            let arguments = json!({ "function": target, "payload": { "session": session } }).to_string();
            Reply::calls([("call-1", "agent_trigger", arguments.as_str())])
        });
        let program = Program::start(Durability::Normal, script, |config| {
            std::fs::write(&config.permissions_path, "rules: ['free']").expect("rules");
        })
        .await;
        let bench = Self {
            program,
            parked: Arc::new(Semaphore::new(0)),
            waiting: Arc::default(),
        };
        let parked = Arc::clone(&bench.parked);
        let tap = move |item: &StreamItem| {
            let state = item.data.pointer("/new_value/state");
            if state.is_some_and(|state| state == "function_awaiting_approval") {
                parked.add_permits(1);
            }
        };
        bench.program.bus().tap_stream("agent::events", Arc::new(tap));
        for (id, member) in [("free", "/session"), ("asked", "/session"), ("yardstick", "/key")] {
            bench.serve(id, member);
        }
        let trigger = TriggerSpec {
            id: "yardstick".into(),
            trigger_type: "state".into(),
            function_id: "yardstick".into(),
            config: json!({ "scope": "yardstick" }),
            metadata: None,
        };
        let transport = bench.program.bus().transport();
        transport.bind(trigger).await.expect("a binding");
        bench
    }

    fn serve(&self, id: &str, member: &'static str) {
        let waiting = Arc::clone(&self.waiting);
        let function = FunctionDef::ad_hoc(id, move |payload: Value, _| {
            let at = Instant::now();
            let who = payload
                .pointer(member)
                .and_then(Value::as_str)
                .unwrap_or_default();
            if let Some(waiting) = lock(&waiting).remove(who) {
                waiting.send(at).ok();
            }
            std::future::ready(Ok(json!({ "ok": true })))
        });
        self.program.bus().register(function).expect("a function");
    }

    /// Starts so many sessions and waits until their call is parked.
    async fn park(&self, kind: &str, count: usize) -> Vec<String> {
        let names: Vec<String> = (0..count).map(|n| format!("{kind}-{n}")).collect();
        for some in names.chunks(TOGETHER) {
            join_all(some.iter().map(|name| self.start_run(name))).await;
            let all = u32::try_from(some.len()).expect("few");
            self.parked.acquire_many(all).await.expect("open").forget();
        }
        names
    }

    async fn start_run(&self, session: &str) {
        let request = json!({
            "session_id": session, "provider": "openai", "model": "gpt-5",
            "messages": [{ "role": "user", "content": [{ "type": "text", "text": format!("asked {session}") }],
                           "timestamp": self.program.bus().now_ms() }],
        });
        self.program.call("run::start", request).await;
    }

    /// Decides; answers how long it took until the call was reached.
    async fn decide(&self, session: &str) -> Duration {
        let request = json!({ "session_id": session, "function_call_id": "call-1", "decision": "allow" });
        self.measured(session, "approval::resolve", request).await
    }

    /// The engine's part: a row, and a subscriber of its scope.
    async fn yardstick(&self, key: &str) -> Duration {
        let row =
            json!({ "scope": "yardstick", "key": key, "value": { "decision": "allow", "reason": null } });
        self.measured(key, "state::set", row).await
    }

    async fn measured(&self, who: &str, function: &str, request: Value) -> Duration {
        let (waiting, reached) = oneshot::channel();
        lock(&self.waiting).insert(who.to_owned(), waiting);
        let began = Instant::now();
        self.program.call(function, request).await;
        reached.await.expect("an arrival") - began
    }

    async fn memory(&self) {
        say(format!("\n## memory, {SESSIONS} sessions each"));
        // What is loaded once is loaded now.
        for n in 0..ALONE {
            self.program
                .turn(&format!("warm-{n}"), &format!("free warm-{n}"))
                .await;
        }
        let me = std::process::id();
        let empty = resident_mb(me);
        for n in (0..SESSIONS).step_by(TOGETHER) {
            let names = (n..n + TOGETHER).map(|n| format!("ended-{n}"));
            join_all(names.map(|name| async move {
                self.program.turn(&name, &format!("free {name}")).await;
            }))
            .await;
        }
        let ended = resident_mb(me);
        self.park("resting", SESSIONS).await;
        let parked = resident_mb(me);
        let per_session = |mb: f64| mb * 1024.0 / 1_000.0;
        say(format!(
            "ended {:6.2} KB   parked {:6.2} KB   ratio {:.2}   (with their transcripts, and the model server's memory of their requests)",
            per_session(ended - empty),
            per_session(parked - ended),
            (parked - ended) / (ended - empty),
        ));
    }

    async fn dispatch(&self) {
        say("\n## from the decision to the call");
        let few = self.park("few", ALONE).await;
        self.one_by_one("100 parked, one after the other", &few).await;
        let many = self.park("many", SESSIONS).await;
        let (first, rest) = many.split_at(ALONE);
        self.one_by_one("1,000 parked, one after the other", first).await;

        let mut rates = (Vec::new(), Vec::new());
        let (mut engine, mut ours) = (Samples::default(), Samples::default());
        let spent = cpu_time();
        for some in rest.chunks(rest.len() / ROUNDS) {
            let began = Instant::now();
            engine
                .0
                .extend(join_all(some.iter().map(|name| self.yardstick(name))).await);
            let count = f64::from(u32::try_from(some.len()).expect("few"));
            rates.0.push(count / began.elapsed().as_secs_f64());
            let began = Instant::now();
            ours.0
                .extend(join_all(some.iter().map(|name| self.decide(name))).await);
            rates.1.push(count / began.elapsed().as_secs_f64());
        }
        say(format!(
            "{} at once: state::set to its subscriber {:.0} /s, p99 {:.2} ms   decision to call {:.0} /s, p99 {:.2} ms   cpu {:.2} s",
            rest.len() / ROUNDS,
            median(rates.0),
            ms(engine.quantile(99)),
            median(rates.1),
            ms(ours.quantile(99)),
            cpu_time().saturating_sub(spent).as_secs_f64(),
        ));
    }

    async fn one_by_one(&self, what: &str, sessions: &[String]) {
        let (mut engine, mut ours) = (Samples::default(), Samples::default());
        for session in sessions {
            engine.push(self.yardstick(session).await);
            ours.push(self.decide(session).await);
        }
        let line = |name: &str, row: Duration, call: Duration| {
            say(format!(
                "{what}, {name}: state::set to its subscriber {:7.3} ms   decision to call {:7.3} ms   ratio {:.2}",
                ms(row),
                ms(call),
                ms(call) / ms(row),
            ));
        };
        line("p50", engine.median(), ours.median());
        line("p99", engine.quantile(99), ours.quantile(99));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

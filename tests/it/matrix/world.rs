//! A world for the program to live and die in: a directory, a model behind real HTTP, a worker with targets, the rules. A
//! life has a runtime of its own; when it ends all its tasks are cut where they are.

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::bus::{FunctionDef, WorkerDef};
use harness::config::Config;
use harness::scripted::{Reply, Request, Script, Server, Step};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::line::Line;
use crate::support::{TestBus, TestOptions};

/// The function that agents call.
pub(crate) const WORK: &str = "work::do";
const KEY: &str = "OPENAI_API_KEY";
const RULES: &str = "policy::check_permissions";

pub(crate) struct World {
    dir: TempDir,
    pub(crate) server: Server,
    pub(crate) line: Line,
    /// Calls that took effect, as often as they did.
    pub(crate) effects: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// Must be called inside a runtime that outlives all lives: the model's.
    pub(crate) fn new(line: Line, answer: impl Fn(&Line, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let known = line.clone();
        Self {
            dir: tempfile::tempdir().unwrap(),
            server: Server::start(Script::answer(move |request| answer(&known, request))).unwrap(),
            line,
            effects: Arc::default(),
        }
    }

    /// One life of the program, driven by a client until the client is through with it.
    pub(crate) fn live<T>(&self, client: impl AsyncFnOnce(&TestBus) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.unwrap();
        let outcome = runtime.block_on(async {
            let t = self.open().await;
            self.line.watch(t.bus());
            client(&t).await
        });
        drop(runtime);
        self.line.revive();
        self.is_left();
        outcome
    }

    /// Waits until the store's own threads have let go of it too.
    fn is_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while File::open(self.dir.path().join("data/lock"))
            .unwrap()
            .try_lock()
            .is_err()
        {
            assert!(
                Instant::now() < deadline,
                "something of the last life holds the store"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    async fn open(&self) -> TestBus {
        let mut config = Config::default();
        config.turn.step_backoff_ms = 1;
        config.turn.step_retries = 2;
        config.events.coalesce_ms = 0;
        config.provider_openai.default_api_url = self.server.url();
        TestBus::with(TestOptions {
            config,
            env: [(KEY.to_owned(), "not-a-secret".to_owned())].into(),
            data_dir: Some(self.dir.path().join("data")),
            workers: self.workers(),
            wrap: self.line.wrap(),
            ..TestOptions::default()
        })
        .await
    }

    /// All workers, with the target and the rules of this world.
    fn workers(&self) -> Vec<WorkerDef> {
        let mut workers = harness::workers::all();
        for worker in &mut workers {
            worker
                .functions
                .retain(|function| function.id().as_str() != RULES);
        }
        workers[0].functions.extend([self.rules(), self.target()]);
        workers
    }

    /// Calls whose name begins with C wait for a person.
    fn rules(&self) -> FunctionDef {
        let line = self.line.clone();
        FunctionDef::ad_hoc(RULES, move |request: Value, _| {
            let line = line.clone();
            async move {
                let call = name(&request["args"]);
                line.outside(format!("gate: asked about {call}")).await;
                let verdict = if call.starts_with('C') {
                    "needs_approval"
                } else {
                    "allow"
                };
                line.outside(format!("gate: answers about {call}")).await;
                Ok(json!({ "decision": verdict, "rule_id": "r" }))
            }
        })
    }

    /// Takes effect once per call. B takes longer than A.
    fn target(&self) -> FunctionDef {
        let (line, effects) = (self.line.clone(), Arc::clone(&self.effects));
        FunctionDef::ad_hoc(WORK, move |request: Value, _| {
            let (line, effects) = (line.clone(), Arc::clone(&effects));
            async move {
                let call = name(&request);
                line.outside(format!("call {call}: dispatched")).await;
                if call == "B" {
                    line.result_stored("A").await;
                }
                effects.lock().unwrap().push(call.clone());
                line.outside(format!("call {call}: has run")).await;
                Ok(json!({ "did": call }))
            }
        })
    }
}

fn name(arguments: &Value) -> String {
    arguments["call"].as_str().unwrap_or_default().to_owned()
}

/// An answer: text in one piece, which is stored before the rest comes; then calls of the target.
pub(crate) fn answer(line: &Line, text: &str, calls: &[String]) -> Reply {
    let calls: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(index, id)| {
            let arguments = json!({ "function": WORK, "payload": { "call": id } });
            json!({ "index": index, "id": id, "type": "function",
                "function": { "name": "agent_trigger", "arguments": arguments.to_string() } })
        })
        .collect();
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    let mut steps = vec![
        chunk(&json!({ "role": "assistant", "content": text }), None),
        Step::Wait(line.until_text_is_stored()),
    ];
    if !calls.is_empty() {
        steps.push(chunk(&json!({ "tool_calls": calls }), None));
    }
    steps.extend([chunk(&json!({}), Some(finish)), Step::send("data: [DONE]\n\n")]);
    Reply::raw(steps)
}

fn chunk(delta: &Value, finish: Option<&str>) -> Step {
    let chunk = json!({ "id": "x", "object": "chat.completion.chunk", "created": 0, "model": "gpt-5",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
    Step::send(format!("data: {chunk}\n\n"))
}

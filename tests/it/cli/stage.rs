//! `harness serve` with a scripted model, a worker with tools, and the commands of the program that talk to it.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::bus::iii::IiiOptions;
use harness::bus::{Bus, CallContext, CallOptions, FunctionDef, Link, Worker};
use harness::error::Error;
use harness::scripted::{Reply, Request, Script, Server};
use serde_json::{Value, json};

use super::home::{Home, Ran, Running};
use crate::connect::join;
use crate::support::bus::Recorded;
use crate::support::engine::within;
use crate::support::{TestBus, TestOptions};

pub(super) const POLL: Duration = Duration::from_millis(2);

/// Lets the agent look at the weather, forbids it the disk, and asks about the rest.
const RULES: &str = "rules: ['!test::wipe', 'test::weather']";

pub(super) struct Stage {
    home: Home,
    rules: &'static str,
    pub(super) model: Server,
    serve: Option<Running>,
    address: String,
    /// A worker beside the program, with the functions the agent calls.
    pub(super) tools: Option<Bus>,
}

/// Answers what is asked: by the first word of the last user text, or by the result of a call.
pub(super) fn answers(request: &Request) -> Reply {
    if let [(_, text), ..] = request.tool_results().as_slice() {
        return Reply::says(format!("I got: {}", text.lines().last().unwrap_or_default()), 3);
    }
    let said = request.last_user_text();
    match said.split(' ').next().unwrap_or_default() {
        "weather" => call("weather", r#"{"city":"Oslo"}"#),
        "mail" => call("mail", r#"{"to":"ada"}"#),
        "mails" => Reply::calls([
            (
                "c1",
                "agent_trigger",
                r#"{"function":"test::mail","payload":{"to":"ada"}}"#,
            ),
            (
                "c2",
                "agent_trigger",
                r#"{"function":"test::mail","payload":{"to":"bob"}}"#,
            ),
        ]),
        "wipe" => call("wipe", "{}"),
        "fail" => Reply::fails(400, r#"{"error":{"message":"no such luck"}}"#),
        _ => Reply::says(format!("You said: {said}"), 4),
    }
}

fn call(name: &str, payload: &str) -> Reply {
    let arguments = format!(r#"{{"function":"test::{name}","payload":{payload}}}"#);
    Reply::calls([("c1", "agent_trigger", arguments.as_str())])
}

impl Stage {
    pub(super) async fn start() -> Self {
        Self::with(Script::answer(answers)).await
    }

    pub(super) async fn with(script: Script) -> Self {
        Self::ruled_by(RULES, script).await
    }

    /// With another rule file.
    pub(super) async fn ruled_by(rules: &'static str, script: Script) -> Self {
        let mut stage = Self {
            home: Home::new(),
            rules,
            model: Server::start(script).unwrap(),
            serve: None,
            address: "127.0.0.1:0".into(),
            tools: None,
        };
        stage.serve();
        let tools = [
            ("test::weather", "14 °C\nrain"),
            ("test::mail", "sent"),
            ("test::wipe", "wiped"),
        ];
        let functions =
            tools.map(|(id, reply)| FunctionDef::ad_hoc(id, move |_, _| async move { Ok(json!(reply)) }));
        stage.join("tools", functions.into()).await;
        stage
    }

    /// Starts the program, at the same address as before if there was one.
    pub(super) fn serve(&mut self) {
        std::fs::write(self.home.path().join("rules.yaml"), self.rules).unwrap();
        // JSON is YAML.
        self.home.write(
            &json!({
                "permissions_path": "./rules.yaml",
                "engine": { "mode": "embedded", "listen": self.address, "durability": "normal" },
                "http": { "listen": "" },
                "provider_openai": { "default_api_url": self.model.url() },
                "turn": { "step_backoff_ms": 10 },
            })
            .to_string(),
        );
        let mut serve = self.home.serve(&["serve"], &[("OPENAI_API_KEY", "not-a-secret")]);
        let line = serve.says("listening for workers");
        self.address = line.rsplit_once("address=").unwrap().1.trim().to_owned();
        serve.says("ready");
        self.serve = Some(serve);
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        self.serve = None;
    }

    pub(super) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Another worker of the engine, in place of the one before.
    pub(super) async fn join(&mut self, name: &str, functions: Vec<FunctionDef>) {
        let options = IiiOptions {
            url: self.url(),
            worker_name: name.to_owned(),
            ..IiiOptions::default()
        };
        let mut worker = Worker::new("tools", "Tools of an agent", ()).build();
        worker.functions = functions;
        self.tools = Some(join(options, vec![worker]).await);
    }

    /// Waits until the worker has found the engine again.
    pub(super) async fn tools_are_back(&self) {
        let mut link = self.tools.as_ref().unwrap().link();
        within(link.wait_for(|link| matches!(link, Link::Up(2..))))
            .await
            .unwrap();
    }

    /// One more function of that worker.
    pub(super) fn offers<R>(&self, id: &str, handler: impl Fn(Value) -> R + Send + Sync + 'static)
    where
        R: Future<Output = Result<Value, Error>> + Send + 'static,
    {
        let function = FunctionDef::ad_hoc(id, move |payload, _| handler(payload));
        self.tools.as_ref().unwrap().register(function).unwrap();
    }

    pub(super) async fn call(&self, id: &str, payload: Value) -> Value {
        self.tools
            .as_ref()
            .unwrap()
            .invoke(&CallContext::default(), id, payload, CallOptions::default())
            .await
            .unwrap()
    }

    /// What is in the transcript, a line for each message.
    pub(super) async fn transcript(&self, session: &str) -> Vec<String> {
        let list = self
            .call("session-tree::messages", json!({ "session_id": session }))
            .await;
        let rows = list["messages"].as_array().unwrap().iter();
        rows.map(|row| {
            let message = &row["message"];
            let text = message["content"][0]["text"].as_str().unwrap_or("-");
            format!("{}: {text}", message["role"].as_str().unwrap())
        })
        .collect()
    }

    /// The command with the engine's address in its environment, to its end.
    pub(super) async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "").await
    }

    pub(super) async fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut program = self.begin(args);
        program.types(input);
        program.ends().await
    }

    pub(super) fn begin(&self, args: &[&str]) -> Program {
        let mut command = self.home.command(args);
        command.env("III_URL", self.url());
        Program::of(command)
    }
}

/// An engine that takes messages and can do nothing else.
pub(super) struct Deaf {
    bus: TestBus,
    home: Home,
    messages: Recorded,
    url: String,
}

impl Deaf {
    pub(super) async fn start() -> Self {
        let bus = TestBus::with(TestOptions {
            workers: Vec::new(),
            ..TestOptions::default()
        })
        .await;
        Self {
            home: Home::new(),
            messages: bus.record(
                "harness::trigger",
                json!({"status_code": 200, "body": {"started": true}}),
            ),
            url: format!("ws://{}", bus.listen().await),
            bus,
        }
    }

    /// A command that has sent its message.
    pub(super) async fn asked(&self, args: &[&str], input: &str) -> Program {
        let mut command = self.home.command(args);
        command.args(["--model", "m", "--url", &self.url]);
        let mut program = Program::of(command);
        program.types(input);
        self.bus
            .eventually(async || (self.messages.count() == 1).then_some(()))
            .await;
        program
    }

    pub(super) async fn stop(self) {
        self.bus.stop().await;
    }
}

/// A command at work, with its input in hand.
pub(super) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    out: Heard,
    err: Heard,
}

/// What came so far, and the thread that reads on.
struct Heard(Arc<Mutex<Vec<u8>>>, Option<std::thread::JoinHandle<()>>);

impl Heard {
    fn new(mut source: impl Read + Send + 'static) -> Self {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let into = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = source.read(&mut piece) {
                into.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        Self(text, Some(reader))
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn all(&mut self) -> String {
        self.1.take().unwrap().join().unwrap();
        self.so_far()
    }
}

impl Program {
    fn of(mut command: Command) -> Self {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
        Self {
            input: child.stdin.take(),
            out: Heard::new(child.stdout.take().unwrap()),
            err: Heard::new(child.stderr.take().unwrap()),
            child,
        }
    }

    pub(super) fn types(&mut self, text: &str) {
        // It may have ended without reading.
        self.input.as_mut().unwrap().write_all(text.as_bytes()).ok();
    }

    /// Waits until this is on stdout or on stderr.
    pub(super) async fn says(&self, what: &str) {
        let said = || self.out.so_far().contains(what) || self.err.so_far().contains(what);
        let wait = async {
            while !said() {
                tokio::time::sleep(POLL).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(
            waited.is_ok(),
            "never said {what:?}:\n{}\n{}",
            self.out.so_far(),
            self.err.so_far()
        );
    }

    /// Ctrl-C.
    pub(super) fn interrupt(&self) {
        self.signal("INT");
    }

    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Closes its input and waits for its end.
    pub(super) async fn ends(mut self) -> Ran {
        self.input = None;
        let status = within(async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
        Ran {
            code: status.code(),
            out: self.out.all(),
            err: self.err.all(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

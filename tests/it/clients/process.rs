//! Processes of these stories: the program itself, and scripts of other languages.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::scripted::{Reply, Script, Server};
use serde_json::json;
use tempfile::TempDir;

use crate::support::ws::Ws;

/// Interpreters take their time on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(5);

/// A child process with its output in files; it does not outlive its test.
pub(crate) struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    pub(crate) fn start(mut command: Command, dir: &TempDir, name: &str) -> Self {
        let (out, err) = (
            dir.path().join(format!("{name}.out")),
            dir.path().join(format!("{name}.err")),
        );
        let child = command
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, out, err }
    }

    /// Its standard output, once it has ended well.
    pub(crate) async fn output(&mut self) -> String {
        let status = self
            .eventually("end", |process| process.child.try_wait().unwrap())
            .await;
        assert!(status.success(), "{status}\n{}", self.errors());
        std::fs::read_to_string(&self.out).unwrap()
    }

    /// The first line of its standard output, once it is there.
    pub(crate) async fn first_line(&mut self) -> String {
        let line = self.eventually("line", |process| {
            let output = std::fs::read_to_string(&process.out).unwrap();
            Some(output.split_once('\n')?.0.to_owned())
        });
        line.await
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    async fn eventually<T>(&mut self, what: &str, mut probe: impl FnMut(&mut Self) -> Option<T>) -> T {
        let polling = async {
            loop {
                if let Some(found) = probe(self) {
                    return found;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, polling).await;
        found.unwrap_or_else(|_| panic!("no {what} in time\n{}", self.errors()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fine also when it has ended by itself.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// `harness serve` with a model that asks for the weather and then says it.
pub(super) struct Program {
    pub(super) address: SocketAddr,
    pub(super) dir: TempDir,
    _process: Process,
    model: Server,
}

impl Program {
    pub(super) async fn start() -> Self {
        // The user's text names the client whose function is to be called.
        let model = Server::start(Script::answer(|request| {
            if !request.tool_results().is_empty() {
                return Reply::says("It is clear in Oslo.", 3);
            }
            let function = format!("demo::weather::{}", request.last_user_text());
            let arguments = json!({ "function": function, "payload": { "city": "Oslo" } }).to_string();
            Reply::calls([("c1", "agent_trigger", arguments.as_str())])
        }))
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = json!({
            "permissions_path": dir.path().join("rules.yaml"),
            "engine": { "mode": "embedded", "data_dir": dir.path().join("data"), "listen": "127.0.0.1:0" },
            "http": { "listen": "" },
            "provider_openai": { "default_api_url": model.url() },
        });
        // JSON is YAML.
        std::fs::write(dir.path().join("config.yaml"), config.to_string()).unwrap();
        std::fs::write(dir.path().join("rules.yaml"), "rules: []").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command
            .args(["serve", "--config", "config.yaml"])
            .env_clear()
            .env("OPENAI_API_KEY", "not-a-secret");
        let mut process = Process::start(command, &dir, "program");
        let address = process
            .eventually("address", |process| address(&process.errors()))
            .await;
        Self {
            address,
            dir,
            _process: process,
            model,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// A web server that lists models.
    pub(super) fn models(&self) -> String {
        self.model.url().replace("/chat/completions", "/models")
    }

    pub(super) async fn join(&self) -> Ws {
        Ws::join(self.address).await
    }
}

fn address(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("listening for workers"))?;
    let (_, address) = line.split_once("address=")?;
    address.split_whitespace().next()?.parse().ok()
}

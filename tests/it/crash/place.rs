//! A directory with a store, and the lives that are started in it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::bus::Write;
use harness::config::Config;
use pretty_assertions::assert_eq;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::model::Model;
use crate::support::engine::within;
use crate::support::spy::{Op, Spy};
use crate::support::{TestBus, TestOptions};
use crate::turn::{of_type, user};

pub(super) const SESSION: &str = "s";
/// Runs what the model of these tests calls.
pub(super) const ALLOWING: &str = "rules: ['session-inbox::push', 'provider::openai::complete']";
/// Leaves the pushes to a person.
pub(super) const ASKING: &str = "rules: ['provider::openai::complete']";
const POLL: Duration = Duration::from_millis(2);
pub(crate) const KEY: &str = "OPENAI_API_KEY";

/// A directory with a store, its rules and its configuration.
pub(super) struct Place {
    dir: TempDir,
    url: String,
    rules: &'static str,
    lives: AtomicUsize,
}

impl Place {
    pub(super) fn new(model: &Model, rules: &'static str) -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            url: model.server.url(),
            rules,
            lives: AtomicUsize::new(0),
        };
        place.configure(1000);
        place
    }

    /// A copy, as the dead process left it.
    pub(super) fn fork(&self) -> Self {
        let copy = Self {
            dir: tempfile::tempdir().unwrap(),
            url: self.url.clone(),
            rules: self.rules,
            lives: AtomicUsize::new(0),
        };
        copy.configure(1000);
        std::fs::create_dir(copy.data()).unwrap();
        for file in std::fs::read_dir(self.data()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.data().join(file.file_name())).unwrap();
        }
        copy
    }

    /// Writes the configuration; `grace_ms` is how long a stop may take.
    pub(super) fn configure(&self, grace_ms: u64) {
        let config = json!({
            "permissions_path": self.dir.path().join("rules.yaml"),
            "engine": { "mode": "embedded", "data_dir": self.data(), "durability": "normal", "listen": "127.0.0.1:0" },
            "http": { "listen": "" },
            "turn": { "step_backoff_ms": 10 },
            "provider_openai": { "default_api_url": self.url },
            "shutdown": { "grace_ms": grace_ms },
        });
        std::fs::write(self.dir.path().join("rules.yaml"), self.rules).unwrap();
        // JSON is YAML.
        std::fs::write(self.dir.path().join("config.yaml"), config.to_string()).unwrap();
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts the program.
    pub(super) fn start(&self) -> Life {
        let life = self.lives.fetch_add(1, Ordering::SeqCst);
        let log = self.dir.path().join(format!("life-{life}.log"));
        Life::begin(&self.dir.path().join("config.yaml"), log)
    }

    /// The program on this store inside this process; it resumes what is open.
    pub(super) async fn open(&self) -> TestBus {
        self.open_with(|_| {}).await
    }

    pub(super) async fn open_with(&self, change: impl FnOnce(&mut TestOptions)) -> TestBus {
        let mut config = Config::default();
        config.turn.step_backoff_ms = 1;
        config.provider_openai.default_api_url = self.url.clone();
        let mut options = TestOptions {
            config,
            env: [(KEY.to_owned(), "not-a-secret".to_owned())].into(),
            rules: Some(self.rules),
            data_dir: Some(self.data()),
            ..TestOptions::default()
        };
        change(&mut options);
        TestBus::with(options).await
    }

    /// The store with nothing at work on it but the workers that keep conversations.
    pub(super) async fn open_idle(&self) -> TestBus {
        self.open_with(|options| {
            let keeps = |name: &str| name == "session" || name == "session-inbox";
            options.workers.retain(|worker| keeps(worker.name));
        })
        .await
    }

    /// Leaves what a process leaves that dies right before the first operation of which `fatal` says so.
    pub(super) async fn die(&self, says: &str, before: impl FnMut(&Op<'_>) -> bool + Send + 'static) {
        self.die_with(says, |_| {}, before).await;
    }

    async fn die_with(
        &self,
        says: &str,
        change: impl FnOnce(&mut TestOptions),
        before: impl FnMut(&Op<'_>) -> bool + Send + 'static,
    ) {
        let (spy, dead) = dying(before);
        let t = self
            .open_with(|options| {
                options.wrap = spy.wrap();
                options.config.turn.step_retries = 0;
                change(options);
            })
            .await;
        let request = json!({ "session_id": SESSION, "provider": "openai", "model": "gpt-5", "messages": [user(says)] });
        assert_eq!(
            t.ok("run::start", request).await,
            json!({ "session_id": SESSION, "started": true })
        );
        t.eventually(async || dead.load(Ordering::SeqCst).then_some(()))
            .await;
        t.stop().await;
    }

    /// Resumes what is open, and dies as [`Self::die`] does. False: it ended before.
    pub(super) async fn resume_and_die(&self, before: impl FnMut(&Op<'_>) -> bool + Send + 'static) -> bool {
        let (spy, dead) = dying(before);
        let t = self
            .open_with(|options| {
                options.wrap = spy.wrap();
                options.config.turn.step_retries = 0;
            })
            .await;
        let died = t
            .eventually(async || {
                if dead.load(Ordering::SeqCst) {
                    return Some(true);
                }
                let ended = !of_type(&t.events(SESSION).await, "agent_end").is_empty();
                ended.then_some(false)
            })
            .await;
        t.stop().await;
        died
    }

    /// The store of a run that was accepted and has done nothing yet.
    pub(super) async fn accept(&self, says: &str) {
        // The model is asked while that record is on its way to the store: here there is nobody to ask it.
        let nobody =
            |options: &mut TestOptions| options.workers.retain(|worker| worker.name != "provider-openai");
        let before = |op: &Op<'_>| saves(op, |record| record["state"] == "assistant_streaming");
        self.die_with(says, nobody, before).await;
        assert_eq!(self.record()["state"], "provisioning");
    }

    pub(super) fn select(&self, sql: &str) -> Vec<Value> {
        let file = std::fs::read_dir(self.data())
            .unwrap()
            .map(|file| file.unwrap().path())
            .find(|path| path.extension().is_some_and(|end| end == "db" || end == "sqlite"))
            .unwrap();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|row| serde_json::from_str(&row.unwrap()).unwrap())
            .collect()
    }

    /// The stored record, read beside whoever works on it.
    pub(super) fn record(&self) -> Value {
        let rows = self.select("SELECT value FROM state WHERE scope = 'turn_state' AND key = 's'");
        rows.into_iter().next().unwrap_or_default()
    }

    /// The stored events, likewise.
    pub(super) fn events(&self) -> Vec<Value> {
        self.select("SELECT value FROM streams WHERE stream = 'agent::events' AND \"group\" = 's'")
    }

    pub(super) async fn eventually<T>(&self, mut probe: impl FnMut() -> Option<T>) -> T {
        within(async {
            loop {
                if let Some(found) = probe() {
                    return found;
                }
                tokio::time::sleep(POLL).await;
            }
        })
        .await
    }

    /// Waits until the stored record is as wanted.
    pub(super) async fn reaches(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.eventually(|| Some(self.record()).filter(|record| wanted(record)))
            .await
    }

    /// Waits until text of the model is stored as an event.
    pub(super) async fn shows_text(&self) {
        let is_text = |event: &Value| event["llm_event"]["type"] == "text_delta";
        self.eventually(|| self.events().iter().any(is_text).then_some(()))
            .await;
    }

    /// Waits until the run has ended.
    pub(super) async fn ended(&self) {
        self.eventually(|| (!of_type(&self.events(), "agent_end").is_empty()).then_some(()))
            .await;
    }

    /// Starts the program once more and lets it end the run.
    pub(super) async fn finish(&self) {
        let life = self.start();
        self.ended().await;
        life.kill();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for life in 0..self.lives.load(Ordering::SeqCst) {
            let log = std::fs::read_to_string(self.dir.path().join(format!("life-{life}.log")));
            eprintln!("life {life}:\n{}", log.unwrap_or_default());
        }
        if self.data().exists() {
            for event in self.events() {
                eprintln!("event {event}");
            }
        }
    }
}

pub(super) fn dying(mut before: impl FnMut(&Op<'_>) -> bool + Send + 'static) -> (Spy, Arc<AtomicBool>) {
    let (spy, dead) = (Spy::default(), Arc::new(AtomicBool::new(false)));
    let died = Arc::clone(&dead);
    spy.fail_when(move |op| {
        let dies = died.load(Ordering::SeqCst) || before(op);
        died.store(dies, Ordering::SeqCst);
        dies
    });
    (spy, dead)
}

/// Whether an operation stores such a turn record.
pub(super) fn saves(op: &Op<'_>, such: impl Fn(&Value) -> bool) -> bool {
    let Op::Commit(writes) = op else { return false };
    writes.iter().any(
        |write| matches!(write, Write::StateSet { scope, value, .. } if scope == "turn_state" && such(value)),
    )
}

/// Whether an operation appends such a message to a transcript.
pub(super) fn appends(op: &Op<'_>, role: &str) -> bool {
    let Op::Commit(writes) = op else { return false };
    let wanted = format!("\"role\":\"{role}\"");
    writes.iter().any(|write| {
        matches!(write, Write::StateSet { scope, value, .. } if scope != "turn_state" && value.to_string().contains(&wanted))
    })
}

/// A running program.
pub(crate) struct Life {
    child: Child,
    log: PathBuf,
}

impl Life {
    /// Starts the program with a configuration.
    pub(crate) fn begin(config: &Path, log: PathBuf) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_harness"));
        program
            .arg("serve")
            .arg("--config")
            .arg(config)
            .env_clear()
            .env(KEY, "not-a-secret")
            .current_dir(config.parent().unwrap());
        Self::of(&mut program, log)
    }

    /// Starts any program that tells what it does on stderr.
    pub(crate) fn of(program: &mut Command, log: PathBuf) -> Self {
        let child = program
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// SIGKILL, and the process is gone.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{name} {}", self.child.id()))
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        within(async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(POLL).await;
            }
        })
        .await
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Where outside workers reach it.
    pub(crate) async fn listens(&self) -> SocketAddr {
        self.address("listening for workers").await
    }

    /// The address in a line of its log.
    pub(crate) async fn address(&self, of: &str) -> SocketAddr {
        self.says(of).await;
        let log = self.log();
        let line = log
            .lines()
            .find(|line| line.contains(of) && line.contains("address="));
        let address = line.and_then(|line| line.split("address=").nth(1));
        let address = address.and_then(|text| text.split_whitespace().next());
        address.unwrap_or_else(|| panic!("{log}")).parse().unwrap()
    }

    /// Waits until it says something.
    pub(crate) async fn says(&self, what: &str) {
        within(self.has_said(what)).await;
    }

    /// Waits for as long as it takes.
    pub(crate) async fn has_said(&self, what: &str) {
        while !self.log().contains(what) {
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Fine also when it has ended by itself.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

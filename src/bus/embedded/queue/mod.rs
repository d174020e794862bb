//! Named queues and durable topics (contract 00 §6).
//!
//! ```text
//!  enqueue, publish ─► INSERT ─► COMMIT ─► receipt
//!                                   └────► schedule of the line ─► one task per line ─► attempt ─► outcome stored ─► next
//! ```
//!
//! A line is a named queue, or one subscribed function's copy of a topic. Invariants: a receipt is given after COMMIT only;
//! a job leaves the disk only when it is done; an outcome is on disk before the next job of its group begins; nothing polls,
//! timers exist only for retries and for targets that are not registered. Which job may run is decided in [`schedule`],
//! without I/O. Not here: what a job does.

mod context;
mod dead_letters;
mod enqueue;
mod execute;
mod functions;
mod jobs;
mod line;
mod policy;
mod schedule;
mod topics;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Core;
use super::configuration::{Configuration, Registration};
use crate::error::Result;
use crate::model::FunctionId;

use jobs::{Kind, Stored};
use line::{Line, Ticker};
use policy::Policy;

pub(super) use enqueue::enqueue;
pub(super) use functions::FUNCTIONS;
pub(super) use topics::TRIGGER;

/// The queue that exists without a declaration.
const DEFAULT_QUEUE: &str = "default";
/// Configuration id with the declarations.
pub(super) const CONFIGURATION_ID: &str = "queue";
/// Most jobs of one line: each costs memory while it waits.
const MAX_DEPTH: usize = 1_000_000;
/// Most subscribed functions over all topics.
const MAX_TOPIC_LINES: usize = 10_000;

/// All lines of jobs.
pub(super) struct Queues {
    lines: RwLock<Lines>,
    ticker: Ticker,
    life: OnceLock<Life>,
}

/// What is known once the engine runs.
struct Life {
    core: Weak<Core>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Lines {
    named: HashMap<String, Arc<Line>>,
    topics: HashMap<String, HashMap<FunctionId, Arc<Line>>>,
}

impl Queues {
    pub(super) fn new() -> Self {
        Self {
            lines: RwLock::default(),
            ticker: Ticker::new(),
            life: OnceLock::new(),
        }
    }

    /// Takes up the jobs of the life before and opens the declared queues. The configuration is loaded already.
    pub(super) async fn start(&self, core: &Arc<Core>) -> Result<()> {
        let bus = core.bus()?;
        let stop = bus.shutdown_token().child_token();
        self.life.get_or_init(|| Life {
            core: Arc::downgrade(core),
            stop,
        });
        let now_ms = bus.now_ms();
        let waiting = core
            .store
            .transact(move |connection| jobs::open(connection, now_ms))
            .await?;
        for stored in &waiting {
            self.line_of(stored).push(line::job(stored, self.ticker, now_ms));
        }
        for line in self.all_lines().iter().filter(|line| line.is_open()) {
            self.run(core, line);
        }
        let registration = Registration {
            id: CONFIGURATION_ID.to_owned(),
            name: "Queues".to_owned(),
            description: "Named queues of the engine".to_owned(),
            schema: policy::schema(),
            initial_value: None,
            metadata: None,
        };
        // Opens the declared queues too, as every change of this configuration does.
        Configuration::register(core, registration, &super::CallContext::default())
            .await
            .map(|_| ())
    }

    /// Follows the declarations; a queue that is no longer declared keeps its jobs and takes no new ones.
    pub(super) fn declare(&self, core: &Arc<Core>, declared: &Value) {
        let configs = declared.get("queue_configs").and_then(Value::as_object);
        let default = configs.is_none_or(|configs| !configs.contains_key(DEFAULT_QUEUE));
        let implied = default.then(|| (DEFAULT_QUEUE.to_owned(), json!({})));
        let all = configs
            .into_iter()
            .flatten()
            .map(|(name, config)| (name.clone(), config.clone()))
            .chain(implied);
        let mut open = Vec::new();
        for (name, config) in all {
            match Policy::of_queue(&config) {
                Ok(policy) => self.open_named(core, &name, policy),
                Err(error) => {
                    tracing::warn!(queue = %name, %error, "a queue is declared wrongly, its declaration is ignored");
                }
            }
            open.push(name);
        }
        for (name, line) in &self.read().named {
            if !open.contains(name) {
                line.close();
            }
        }
    }

    /// A function was registered somewhere: jobs may be waiting for it.
    pub(super) fn targets_changed(&self) {
        for line in self.all_lines().iter().filter(|line| line.depth() > 0) {
            line.targets_changed();
        }
    }

    fn all_lines(&self) -> Vec<Arc<Line>> {
        let lines = self.read();
        let topics = lines.topics.values().flat_map(HashMap::values);
        lines.named.values().chain(topics).cloned().collect()
    }

    fn open_named(&self, core: &Arc<Core>, name: &str, policy: Policy) {
        let line = self.named_line(name);
        line.open(policy);
        self.run(core, &line);
    }

    fn run(&self, core: &Arc<Core>, line: &Arc<Line>) {
        if let Some(life) = self.life.get() {
            line.run(core, self.ticker, &life.stop);
        }
    }

    /// A declared queue.
    fn declared(&self, name: &str) -> Option<Arc<Line>> {
        self.read().named.get(name).filter(|line| line.is_open()).cloned()
    }

    fn named_line(&self, name: &str) -> Arc<Line> {
        let make = || Line::new(name, Policy::default());
        Arc::clone(self.write().named.entry(name.to_owned()).or_insert_with(make))
    }

    fn topic_line(&self, topic: &str, function: &str) -> Arc<Line> {
        let make = || Line::new(topic, Policy::default());
        let mut lines = self.write();
        let copies = lines.topics.entry(topic.to_owned()).or_default();
        Arc::clone(copies.entry(function.into()).or_insert_with(make))
    }

    fn line_of(&self, stored: &Stored) -> Arc<Line> {
        match stored.kind {
            Kind::Named => self.named_line(&stored.line),
            Kind::Topic => self.topic_line(&stored.line, &stored.target),
        }
    }

    fn core(&self) -> Option<Arc<Core>> {
        self.life.get().and_then(|life| life.core.upgrade())
    }

    fn read(&self) -> RwLockReadGuard<'_, Lines> {
        self.lines.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Lines> {
        self.lines.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        if let Some(life) = self.life.get() {
            life.stop.cancel();
        }
    }
}

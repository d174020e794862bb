//! Who declared itself as a provider, and the schema that follows from it (contract 09 B2, B4).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Harness;
use super::builtin::{BUILTIN, Builtin};
use super::credential::{Slice, key_was_retyped};
use super::entry;
use crate::bus::{CallOptions, Cx};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::api::provider::{Declaration, Resolved};

/// Limit of each call to the configuration worker (contract 09 B1).
const CALL: Duration = Duration::from_secs(5);
/// Limit of all calls for one answer. Callers wait for 5 s: environment and defaults must answer before that.
const ANSWER: Duration = Duration::from_secs(4);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often it is checked that the engine still has our schema: a restarted one has lost it.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// Declared providers in declaration order. In memory only: providers declare again at every start.
#[derive(Debug)]
pub(super) struct Registry {
    rows: Mutex<Rows>,
    /// Held while the schema is written: one write at a time.
    writing: tokio::sync::Mutex<()>,
    /// A write failed; the background work should try again.
    failed: Notify,
}

#[derive(Debug)]
struct Rows {
    rows: Vec<Row>,
    /// The declarations whose schema the configuration worker has.
    written: Option<Vec<Declaration>>,
}

#[derive(Debug)]
enum Row {
    Builtin(&'static Builtin),
    Declared(Box<Declaration>),
}

impl Row {
    fn id(&self) -> &str {
        match self {
            Self::Builtin(builtin) => builtin.id,
            Self::Declared(declaration) => &declaration.id,
        }
    }

    fn declaration(&self, config: &Config) -> Declaration {
        match self {
            Self::Builtin(builtin) => builtin.declaration(config),
            Self::Declared(declaration) => Declaration::clone(declaration),
        }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            rows: Mutex::new(Rows {
                rows: BUILTIN.iter().map(Row::Builtin).collect(),
                written: None,
            }),
            writing: tokio::sync::Mutex::default(),
            failed: Notify::new(),
        }
    }
}

impl Registry {
    /// All declarations, in order.
    pub(super) fn all(&self, config: &Config) -> Vec<Declaration> {
        self.rows()
            .rows
            .iter()
            .map(|row| row.declaration(config))
            .collect()
    }

    /// One declaration.
    pub(super) fn get(&self, id: &str, config: &Config) -> Option<Declaration> {
        let rows = self.rows();
        let row = rows.rows.iter().find(|row| row.id() == id)?;
        Some(row.declaration(config))
    }

    /// Stores a declaration; a repeated id keeps its position.
    pub(super) fn declare(&self, declaration: Declaration, config: &Config) {
        let mut rows = self.rows();
        match rows.rows.iter_mut().find(|row| row.id() == &*declaration.id) {
            // One of ours that says the same stays as it is, and follows the settings.
            Some(row) if row.declaration(config) == declaration => {}
            Some(row) => *row = Row::Declared(Box::new(declaration)),
            None => rows.rows.push(Row::Declared(Box::new(declaration))),
        }
    }

    /// Asks the background work to write the schema soon.
    fn retry_later(&self) {
        self.failed.notify_one();
    }

    /// Whether the configuration worker has the schema of all declarations. A reload of the settings can change defaults.
    fn is_written(&self, config: &Config) -> bool {
        let declared = self.all(config);
        self.rows().written.as_ref() == Some(&declared)
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the schema of all declarations, unless the configuration worker has it already.
pub(super) async fn publish(cx: &Cx<Harness>) -> Result<()> {
    let registry = &cx.state().registry;
    let _writing = registry.writing.lock().await;
    let declared = registry.all(&cx.config());
    if registry.rows().written.as_ref() == Some(&declared) {
        return Ok(());
    }
    write(cx, &declared).await?;
    registry.rows().written = Some(declared);
    Ok(())
}

/// The same for a caller who waits for an answer: a write that takes longer than that goes on, a failed one is tried again.
pub(super) async fn publish_soon(cx: &Cx<Harness>) {
    let (done, is_done) = oneshot::channel::<()>();
    let own = cx.clone();
    cx.spawn(async move {
        if let Err(error) = publish(&own).await {
            tracing::warn!(%error, "provider declared, but its settings are not in the configuration yet");
            own.state().registry.retry_later();
        }
        drop(done);
    });
    if tokio::time::timeout(ANSWER, is_done).await.is_err() {
        tracing::info!("the configuration entry takes long to register, the declaration counts already");
    }
}

/// Writes it whatever was written before, for an engine that may have forgotten it.
pub(super) async fn publish_again(cx: Cx<Harness>) -> Result<()> {
    let registry = &cx.state().registry;
    registry.rows().written = None;
    let published = publish(&cx).await;
    if published.is_err() {
        registry.retry_later();
    }
    published
}

async fn write(cx: &Cx<Harness>, declared: &[Declaration]) -> Result<()> {
    // An initial value would replace what is stored, so nothing but a clear "there is none" leads to one.
    let stored = match read(cx, true, CALL).await {
        Ok(value) => Some(value).filter(|value| !value.is_null()),
        Err(error) if error.wire_code() == "NOT_FOUND" => None,
        Err(error) => return Err(error),
    };
    let mut request = json!({
        "id": entry::ID,
        "name": entry::ID,
        "description": entry::DESCRIPTION,
        "schema": entry::schema(declared, stored.iter().flat_map(entry::stored_ids)),
    });
    let again = request.clone();
    if stored.is_none() {
        request["initial_value"] = entry::seed();
    }
    configuration(cx, "register", request, CALL).await?;
    // An engine that has just started can lose the schema of an entry (contract 00 §7).
    if let Ok(false) = has_schema(cx).await {
        configuration(cx, "register", again, CALL).await?;
    }
    Ok(())
}

/// Keeps the schema written: after a failure with growing pauses, and when the engine was restarted.
pub(super) async fn keep_written(cx: Cx<Harness>) -> Result<()> {
    let registry = &cx.state().registry;
    let mut pause = FIRST_PAUSE;
    loop {
        let wait = if registry.is_written(&cx.config()) {
            CHECK_EVERY
        } else {
            pause
        };
        tokio::select! {
            () = cx.shutdown_token().cancelled() => return Ok(()),
            () = registry.failed.notified() => continue,
            () = tokio::time::sleep(wait) => {}
        }
        if registry.is_written(&cx.config()) {
            pause = FIRST_PAUSE;
            if let Ok(false) = has_schema(&cx).await {
                tracing::info!("the configuration entry has lost its schema, it is registered again");
                registry.rows().written = None;
            }
        }
        if let Err(error) = publish(&cx).await {
            tracing::debug!(%error, "the configuration entry is not registered yet");
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Credential and settings of a provider, read afresh.
pub(super) async fn resolve(cx: &Cx<Harness>, provider: &str) -> Resolved {
    let until = Instant::now() + ANSWER;
    let mut stored = Stored::read(cx, until).await;
    if stored.needs_text_of_key(provider)
        && let Ok(value) = read(cx, true, until - Instant::now()).await
    {
        stored = Stored { value, raw: true };
    }
    let declaration = cx.state().registry.get(provider, &cx.config());
    let var = |name: &str| cx.ports().env.var(name);
    stored.slice(provider, &var).resolve(declaration.as_ref(), &var)
}

/// Which of the declared providers have a credential, by one read of the entry.
pub(super) async fn configured(cx: &Cx<Harness>, declared: &[Declaration]) -> Vec<bool> {
    let stored = Stored::read(cx, Instant::now() + ANSWER).await;
    let var = |name: &str| cx.ports().env.var(name);
    declared
        .iter()
        .map(|declaration| {
            let slice = stored.slice(&declaration.id, &var);
            slice.resolve(Some(declaration), &var).configured
        })
        .collect()
}

/// The value of the entry, with its templates expanded by the configuration worker or not yet.
struct Stored {
    value: Value,
    raw: bool,
}

impl Stored {
    /// An entry that is not valid or not expandable as a whole is read raw, so that one provider's mistake does not disable
    /// the others; one that cannot be read at all counts as empty, so that environment and defaults still answer.
    async fn read(cx: &Cx<Harness>, until: Instant) -> Self {
        match read(cx, false, until - Instant::now()).await {
            Ok(value) => Self { value, raw: false },
            Err(error) if matches!(error.wire_code(), "SCHEMA_INVALID" | "EXPAND_FAILED") => {
                Self::read_raw(cx, until).await
            }
            Err(error) => Self::unreadable(&error),
        }
    }

    async fn read_raw(cx: &Cx<Harness>, until: Instant) -> Self {
        match read(cx, true, until - Instant::now()).await {
            Ok(value) => Self { value, raw: true },
            Err(error) => Self::unreadable(&error),
        }
    }

    fn unreadable(error: &Error) -> Self {
        if error.wire_code() != "NOT_FOUND" {
            // The message may quote a value of the entry; the code cannot.
            tracing::warn!(
                code = error.wire_code(),
                "the configuration entry is not readable"
            );
        }
        Self {
            value: Value::Null,
            raw: true,
        }
    }

    fn slice(&self, provider: &str, var: &dyn Fn(&str) -> Option<String>) -> Slice {
        match entry::slice(&self.value, provider) {
            None => Slice::default(),
            Some(slice) if self.raw => Slice::raw(slice, var),
            Some(slice) => Slice::expanded(slice),
        }
    }

    fn needs_text_of_key(&self, provider: &str) -> bool {
        !self.raw && entry::slice(&self.value, provider).is_some_and(key_was_retyped)
    }
}

async fn read(cx: &Cx<Harness>, raw: bool, limit: Duration) -> Result<Value> {
    let mut reply = configuration(cx, "get", json!({ "id": entry::ID, "raw": raw }), limit).await?;
    match reply.get_mut("value") {
        Some(value) => Ok(value.take()),
        None => Err(Error::Unavailable(
            "unexpected answer of configuration::get: no value".into(),
        )),
    }
}

async fn has_schema(cx: &Cx<Harness>) -> Result<bool> {
    match configuration(cx, "schema", json!({ "id": entry::ID }), CALL).await {
        Ok(row) => Ok(row.get("schema").is_some_and(|schema| !schema.is_null())),
        Err(error) if error.wire_code() == "NOT_FOUND" => Ok(false),
        Err(error) => Err(error),
    }
}

async fn configuration(cx: &Cx<Harness>, verb: &str, request: Value, limit: Duration) -> Result<Value> {
    let id = format!("configuration::{verb}");
    let options = CallOptions {
        timeout: Some(limit),
        ..CallOptions::default()
    };
    cx.invoke(&id, request, options).await
}

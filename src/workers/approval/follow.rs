//! Follows the configuration entry `harness`: the default mode, and providers whose models must be asked for again
//! (contract 03 §5, 09 §B5).
//!
//! One task does it all, so that events, repeated reads and the debounce need no locks between them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::State;
use super::entry::{self, Changed, Entry, Providers};
use super::wake;
use crate::bus::{CallOptions, Cx};
use crate::error::{Error, Result};
use crate::model::api::approval::Mode;
use crate::model::api::provider::{Empty, List};

/// Limit of one call of the configuration worker or the registry, milliseconds.
const READ_TIMEOUT_MS: u64 = 5_000;

/// Limit of one provider's model listing, milliseconds.
const REFRESH_TIMEOUT_MS: u64 = 30_000;

/// Quiet time after the last event before providers are asked.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// First pause after a failed read; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause between reads.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The read before the process is ready. When it fails, the mode is manual and the follower goes on trying.
pub(super) async fn first_read(cx: Cx<State>) -> Result<()> {
    match read(&cx).await {
        Ok(entry) => {
            cx.state().set_default_mode(entry.mode.unwrap_or_default());
            cx.state().set_processed(entry.providers);
        }
        Err(error) => {
            tracing::warn!(%error, "default permission mode unreadable, manual until it can be read");
            cx.state().set_default_mode(Mode::Manual);
            cx.state().changed.notify_one();
        }
    }
    Ok(())
}

/// Runs until the process stops.
pub(super) async fn run(cx: Cx<State>) -> Result<()> {
    let shutdown = cx.shutdown_token().clone();
    let mut follower = Follower::new(&cx);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = follower.step() => {}
        }
    }
}

struct Follower<'a> {
    cx: &'a Cx<State>,
    /// What the providers were last asked for.
    processed: Providers,
    /// What the entry said last.
    latest: Option<Providers>,
    read_at: Option<Instant>,
    refresh_at: Option<Instant>,
    pause: Duration,
    /// When sessions are to be woken that a change of the default mode may let go on.
    wake_at: Option<Instant>,
    wake_pause: Duration,
}

impl<'a> Follower<'a> {
    fn new(cx: &'a Cx<State>) -> Self {
        Self {
            cx,
            processed: cx.state().take_processed(),
            latest: None,
            read_at: None,
            refresh_at: None,
            pause: FIRST_PAUSE,
            wake_at: None,
            wake_pause: FIRST_PAUSE,
        }
    }

    /// Waits for the next thing to do, and does it.
    async fn step(&mut self) {
        tokio::select! {
            biased;
            () = self.cx.state().changed.notified() => {
                self.pause = FIRST_PAUSE;
                self.read().await;
            }
            () = at(self.read_at) => self.read().await,
            () = at(self.wake_at) => self.wake().await,
            () = at(self.refresh_at) => self.refresh().await,
        }
    }

    async fn read(&mut self) {
        self.read_at = None;
        match read(self.cx).await {
            Ok(entry) => {
                self.pause = FIRST_PAUSE;
                let mode = entry.mode.unwrap_or_default();
                if self.cx.state().set_default_mode(mode) {
                    self.wake_pause = FIRST_PAUSE;
                    self.wake().await;
                }
                self.latest = Some(entry.providers);
                self.refresh_at = Some(Instant::now() + DEBOUNCE);
            }
            Err(error) => {
                tracing::warn!(%error, "configuration entry unreadable, the default permission mode stays");
                self.read_at = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    async fn wake(&mut self) {
        self.wake_at = None;
        let woken = wake::default_changed(self.cx, self.cx.state().default_mode()).await;
        if let Err(error) = woken {
            tracing::warn!(%error, "sessions that wait for approval not woken yet");
            self.wake_at = Some(Instant::now() + self.wake_pause);
            self.wake_pause = (self.wake_pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn refresh(&mut self) {
        self.refresh_at = None;
        let Some(latest) = self.latest.clone() else {
            return;
        };
        let changed = Changed::between(&self.processed, &latest);
        if changed != Changed::Some(Vec::new())
            && let Err(error) = start_refreshes(self.cx, &changed).await
        {
            tracing::warn!(%error, "providers unknown, models are asked for later");
            self.refresh_at = Some(Instant::now() + LONGEST_PAUSE);
            return;
        }
        self.processed = latest;
    }
}

/// Resolves at the time, never without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Asks all changed providers at once, in the background; one that fails says so itself.
async fn start_refreshes(cx: &Cx<State>, changed: &Changed) -> Result<()> {
    let options = CallOptions::timeout_ms(READ_TIMEOUT_MS);
    let declared = cx.call_with::<List>(Empty {}, options).await?;
    let listing = declared.providers.iter().filter(|row| row.supports_model_listing);
    for row in listing.filter(|row| changed.has(&row.id)) {
        let (cx, id) = (cx.clone(), format!("provider::{}::refresh_models", row.id));
        cx.clone().spawn(async move {
            let options = CallOptions::timeout_ms(REFRESH_TIMEOUT_MS);
            if let Err(error) = cx.invoke(&id, json!({}), options).await {
                tracing::info!(function = id, %error, "models not refreshed");
            }
        });
    }
    Ok(())
}

/// Reads the entry. One that cannot be expanded or does not fit its schema is read as stored: a mistake in one provider's
/// slice must not hide the other providers, nor a mode that lets less happen. More is allowed by a valid entry only.
async fn read(cx: &Cx<State>) -> Result<Entry> {
    let hasher = &cx.state().hasher;
    let unusable = match get(cx, false).await {
        Ok(value) => return Ok(Entry::read(&value, hasher)),
        Err(error) if is(&error, "NOT_FOUND") => return Ok(Entry::read(&Value::Null, hasher)),
        Err(error) if is(&error, "SCHEMA_INVALID") || is(&error, "EXPAND_FAILED") => error,
        Err(error) => return Err(error),
    };
    let value = get(cx, true).await?;
    // A mode that is a template cannot be told from here; one that is missing or wrong means manual.
    let template = value
        .pointer("/permissions/default_mode")
        .and_then(Value::as_str)
        .is_some_and(|mode| mode.contains("${"));
    if template {
        return Err(unusable);
    }
    let mut entry = Entry::read(&value, hasher);
    let (mode, current) = (entry.mode.unwrap_or_default(), cx.state().default_mode());
    if mode != current {
        tracing::warn!(error = %unusable, "the configuration entry is not valid");
    }
    entry.mode = Some(lower(mode, current));
    Ok(entry)
}

/// The mode that allows less.
fn lower(one: Mode, other: Mode) -> Mode {
    match (one, other) {
        (Mode::Manual, _) | (_, Mode::Manual) => Mode::Manual,
        (Mode::Auto, _) | (_, Mode::Auto) => Mode::Auto,
        (Mode::Full, Mode::Full) => Mode::Full,
    }
}

async fn get(cx: &Cx<State>, raw: bool) -> Result<Value> {
    let request = json!({ "id": entry::ID, "raw": raw });
    let mut reply = cx
        .invoke(
            "configuration::get",
            request,
            CallOptions::timeout_ms(READ_TIMEOUT_MS),
        )
        .await?;
    match reply.get_mut("value") {
        Some(value) => Ok(value.take()),
        None => Err(Error::Unavailable(
            "configuration::get answered without a value".into(),
        )),
    }
}

/// Engines carry the code beside the message or in front of it.
fn is(error: &Error, code: &str) -> bool {
    error.wire_code() == code || error.to_string().starts_with(code)
}

//! Worker `approval-gate`: what people decide about agents' calls, and each session's permission settings (contract 03).
//!
//! It intercepts nothing. It writes decisions and settings into state and says what they are; the turn reads them in its
//! consult order, with the steps of [`crate::rules`]. Changes of one session run one after the other under a lock; a change
//! that may release a waiting call wakes the session's turn.

mod add_always_allow;
mod approve_always;
mod change;
mod checked;
mod clear_settings;
mod entry;
mod follow;
mod get_settings;
mod on_harness_config;
mod remove_always_allow;
mod resolve;
mod set_mode;
mod settings;
mod wake;

use std::hash::RandomState;
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde_json::json;
use tokio::sync::Notify;

use crate::bus::{Worker, WorkerDef};
use crate::model::api::approval::Mode;
use entry::Providers;

/// Memory of the worker.
#[derive(Debug, Default)]
pub struct State {
    /// Mode of the sessions that chose none; never unset, `manual` until it could be read.
    default_mode: ArcSwap<Mode>,
    /// Set when the configuration entry must be read.
    changed: Notify,
    /// Providers as found before the start, for the follower.
    processed: Mutex<Providers>,
    /// Makes fingerprints that mean nothing outside this process.
    hasher: RandomState,
}

impl State {
    fn default_mode(&self) -> Mode {
        **self.default_mode.load()
    }

    /// Answers whether it was another one.
    fn set_default_mode(&self, mode: Mode) -> bool {
        let changes = self.default_mode() != mode;
        if changes {
            tracing::info!(?mode, "default permission mode");
            self.default_mode.store(mode.into());
        }
        changes
    }

    fn set_processed(&self, providers: Providers) {
        *self.processed.lock().unwrap_or_else(PoisonError::into_inner) = providers;
    }

    fn take_processed(&self) -> Providers {
        self.processed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// The worker's registration table.
pub fn worker() -> WorkerDef {
    Worker::new(
        "approval-gate",
        "Records people's decisions on agents' calls and the permission settings of each session.",
        State::default(),
    )
    .function::<add_always_allow::AddAlwaysAllow>()
    .function::<approve_always::ApproveAlways>()
    .function::<clear_settings::ClearSettings>()
    .function::<get_settings::GetSettings>()
    .function::<on_harness_config::OnHarnessConfig>()
    .function::<remove_always_allow::RemoveAlwaysAllow>()
    .function::<resolve::Resolve>()
    .function::<set_mode::SetMode>()
    .trigger(
        "configuration",
        "approval::on_harness_config",
        json!({ "configuration_id": entry::ID }),
    )
    .prepare(follow::first_read)
    .background(follow::run)
    .reconnected(|cx| async move {
        // Changes may have been missed meanwhile.
        cx.state().changed.notify_one();
        Ok(())
    })
    .build()
}

/// Name that is held while a session's settings change, so that no two changes overwrite each other (contract 03
/// weakness 4).
fn settings_hold(session_id: &str) -> String {
    format!("approval_settings/{session_id}")
}

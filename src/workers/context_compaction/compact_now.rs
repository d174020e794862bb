//! `context-compaction::compact_now`: compacts a session before its next model call (contract 10 §6.1).

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tracing::Instrument;

use super::compact::{self, Job};
use super::lease::{self, Lease};
use super::session;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::api::compaction::{CompactNowRequest, CompactResult};
use crate::model::event::CompactionMode;

const MESSAGES_MS: u64 = 30_000;

/// See the module.
#[derive(Debug)]
pub(super) struct CompactNow;

impl Function for CompactNow {
    const ID: &'static str = "context-compaction::compact_now";
    const DESCRIPTION: &'static str = "Sync pre-turn compaction triggered by turn-orchestrator when a turn would overflow. Performs prune+summarise+reinject+continue.";
    type State = ();
    type Request = CompactNowRequest;
    type Response = CompactResult;

    fn decode(payload: Value) -> Result<CompactNowRequest> {
        session::request(payload, Self::ID)
    }

    async fn call(cx: &Cx<()>, request: CompactNowRequest) -> Result<CompactResult> {
        sync(cx, &request).await
    }
}

/// Compacts while somebody waits.
///
/// # Errors
/// As [`compact::run`].
pub(super) async fn sync(cx: &Cx<()>, request: &CompactNowRequest) -> Result<CompactResult> {
    let session = &request.session_id;
    let span = tracing::info_span!(
        "compaction.sync",
        session_id = session.as_str(),
        lease_wait_ms = tracing::field::Empty,
        replayed = tracing::field::Empty,
        tokens_before = tracing::field::Empty,
        auto_continued = tracing::field::Empty,
    );
    let work = async {
        let wait = Duration::from_millis(cx.config().compaction.busy_timeout_ms);
        let began = Instant::now();
        let Some(lease) = Lease::acquire(cx.bus(), lease::COMPACTION, session, wait).await else {
            return Ok(CompactResult::Busy);
        };
        let waited = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::Span::current().record("lease_wait_ms", waited);
        let job = Job {
            session,
            model: &request.model,
            mode: CompactionMode::Sync,
            open_question: &request.last_user_message_id,
            read_ms: MESSAGES_MS,
            budget_id: request.budget_id.as_deref(),
        };
        let outcome = compact::run(cx, &lease, job).await;
        lease.release().await;
        outcome
    };
    work.instrument(span).await
}

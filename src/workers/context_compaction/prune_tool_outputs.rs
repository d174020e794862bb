//! `context-compaction::prune_tool_outputs`: frees room without a model (contract 10 §6.4).

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::Instrument;

use super::lease::{self, Lease};
use super::{compact, prune, session};
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::SessionId;
use crate::model::api::session::SessionRef;

/// See the module.
#[derive(Debug)]
pub(super) struct PruneToolOutputs;

/// Response of `context-compaction::prune_tool_outputs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct PruneResult {
    /// Estimated tokens that were freed.
    pruned_tokens: u64,
    /// Outputs that were dropped.
    pruned_parts: u64,
    /// Outputs that were looked at.
    scanned_parts: u64,
    /// True when another pruning of the session is under way; nothing was done then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    busy: Option<bool>,
}

impl Function for PruneToolOutputs {
    const ID: &'static str = "context-compaction::prune_tool_outputs";
    const DESCRIPTION: &'static str = "Prune older tool outputs without summarisation (cheap path).";
    type State = ();
    type Request = SessionRef;
    type Response = PruneResult;

    fn decode(payload: Value) -> Result<SessionRef> {
        session::request(payload, Self::ID)
    }

    async fn call(cx: &Cx<()>, request: SessionRef) -> Result<PruneResult> {
        let session = &request.session_id;
        let Some(lease) = Lease::acquire(cx.bus(), lease::PRUNE, session, Duration::ZERO).await else {
            return Ok(PruneResult {
                busy: Some(true),
                ..PruneResult::default()
            });
        };
        let span = tracing::info_span!(
            "compaction.prune",
            session_id = session.as_str(),
            pruned_tokens = tracing::field::Empty,
            pruned_parts = tracing::field::Empty,
            scanned_parts = tracing::field::Empty,
        );
        let outcome = pruned(cx, session).instrument(span).await;
        lease.release().await;
        outcome
    }
}

async fn pruned(cx: &Cx<()>, session: &SessionId) -> Result<PruneResult> {
    let rows = session::messages(cx, session, compact::MESSAGES_MS).await?;
    let plan = prune::plan(&rows, prune::Limits::of(&cx.config().compaction));
    let result = PruneResult {
        pruned_tokens: plan.tokens,
        pruned_parts: plan.entries.len() as u64,
        scanned_parts: plan.scanned,
        busy: None,
    };
    let span = tracing::Span::current();
    span.record("pruned_tokens", result.pruned_tokens);
    span.record("pruned_parts", result.pruned_parts);
    span.record("scanned_parts", result.scanned_parts);
    if !plan.entries.is_empty() {
        session::prune(cx, session, &plan.entries).await?;
    }
    Ok(result)
}

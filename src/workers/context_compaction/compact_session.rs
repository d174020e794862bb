//! `context-compaction::compact_session`: compacts a session because its user wants it (contract 10 §6.2).

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{compact_now, resolve, session};
use crate::bus::{CallContext, Cx, Function};
use crate::error::{Error, Result};
use crate::model::api::compaction::{CompactModel, CompactNowRequest, CompactResult};
use crate::model::{SessionId, lenient};

/// See the module.
#[derive(Debug)]
pub(super) struct CompactSession;

/// Request of `context-compaction::compact_session`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// The session.
    session_id: SessionId,
    /// The model that summarises; the session's own when absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    model: Option<CompactModel>,
}

impl Function for CompactSession {
    const ID: &'static str = "context-compaction::compact_session";
    const DESCRIPTION: &'static str = "User-initiated synchronous compaction of a session. Required: session_id. Optional: model { id, providerID, limit? } to skip auto-resolution. If model is omitted, falls back to (1) most recent assistant message in session-tree, (2) orchestrator run_request.";
    const CLIENT: bool = true;
    type State = ();
    type Request = Request;
    type Response = CompactResult;

    fn decode(payload: Value) -> Result<Request> {
        session::request(payload, Self::ID)
    }

    /// The work goes on when the reply is due before its end; `compaction_done` tells of that.
    async fn call(cx: &Cx<()>, request: Request) -> Result<CompactResult> {
        let reply_ms = cx.config().compaction.session_reply_ms;
        let (answer, mut result) = oneshot::channel();
        let own = cx.with_context(CallContext {
            cancel: None,
            batch: None,
            ..cx.context().clone()
        });
        cx.spawn(async move {
            let outcome = work(&own, request).await;
            if let Err(unheard) = answer.send(outcome) {
                match unheard {
                    Ok(result) => tracing::info!(?result, "compaction ended after its caller was answered"),
                    Err(error) => tracing::warn!(%error, "compaction failed after its caller was answered"),
                }
            }
        });
        let outcome = match reply_ms {
            0 => result.await,
            limit => match tokio::time::timeout(Duration::from_millis(limit), &mut result).await {
                Ok(outcome) => outcome,
                Err(_) => return Ok(CompactResult::Busy),
            },
        };
        outcome.unwrap_or(Err(Error::Stopped))
    }
}

async fn work(cx: &Cx<()>, request: Request) -> Result<CompactResult> {
    let model = resolve::of_session(cx, request.model, &request.session_id).await?;
    let request = CompactNowRequest {
        session_id: request.session_id,
        projected_tokens: 0,
        last_user_message_id: String::new(),
        model,
        budget_id: None,
    };
    compact_now::sync(cx, &request).await
}

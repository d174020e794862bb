//! `context-compaction::on_agent_event`: compacts in the background after a turn that filled the window (contract 10 §6.3).

use std::time::Duration;

use serde_json::Value;
use tracing::Instrument;

use super::compact::{self, Job};
use super::lease::{self, Lease};
use super::{resolve, session};
use crate::bus::{self, Cx, Function};
use crate::error::{Error, Result};
use crate::model::api::compaction::{CompactModel, CompactResult};
use crate::model::event::CompactionMode;
use crate::model::frame::StreamFrame;
use crate::model::{SessionId, tokens};

/// Every window takes so many tokens: nothing has to be looked up.
const ALWAYS_FITS: u64 = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct OnAgentEvent;

impl Function for OnAgentEvent {
    const ID: &'static str = "context-compaction::on_agent_event";
    const DESCRIPTION: &'static str = "Internal: subscribes to agent::turn_end; triggers async compaction on TurnEnd when running tokens exceed usable(model).";
    type State = ();
    type Request = Value;
    type Response = ();

    fn decode(payload: Value) -> Result<Value> {
        // Never rejects: what the guard refuses is as good as nothing.
        Ok(bus::decode(payload, &[], false).unwrap_or_default())
    }

    async fn call(cx: &Cx<()>, frame: Value) -> Result<()> {
        let Some(turn) = Turn::read(&frame) else {
            return Ok(());
        };
        let session = turn.session.clone();
        let span = tracing::info_span!(
            "compaction.async",
            session_id = session.as_str(),
            tokens_before = tracing::field::Empty,
            used_prior_summary = tracing::field::Empty,
        );
        let arrived = cx.now_ms();
        if let Err(error) = turn.react(cx, arrived).instrument(span).await {
            tracing::warn!(session_id = %session, %error, "no background compaction");
        }
        Ok(())
    }
}

/// The end of a turn, as far as it matters here.
#[derive(Debug, PartialEq)]
struct Turn {
    session: SessionId,
    usage: Value,
    provider: Option<String>,
    model: Option<String>,
    /// When its message was begun, Unix milliseconds, if it says so.
    timestamp: Option<i64>,
}

impl Turn {
    /// Reads a frame of stream `agent::turn_end`, in either envelope.
    fn read(frame: &Value) -> Option<Self> {
        let text = |value: &Value, key: &str| {
            let text = value.get(key).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let frame = StreamFrame::read(frame)?;
        let event = frame.data?;
        if !matches!(text(event, "type")?.as_str(), "turn_end" | "TurnEnd") {
            return None;
        }
        let message = event.get("message")?;
        Some(Self {
            session: frame.group.into(),
            usage: message.get("usage").filter(|usage| usage.is_object())?.clone(),
            provider: text(message, "provider"),
            model: text(message, "model"),
            timestamp: message
                .get("timestamp")
                .and_then(Value::as_i64)
                .filter(|at| *at > 0),
        })
    }

    async fn react(self, cx: &Cx<()>, arrived: i64) -> Result<()> {
        let config = cx.config();
        let count = tokens::count(&self.usage);
        if !config.compaction.auto || count < ALWAYS_FITS {
            return Ok(());
        }
        let Some(model) = self.model(cx).await? else {
            return Ok(());
        };
        let reserved = config.compaction.reserved_tokens;
        if !tokens::is_overflow(&self.usage, model.limit, reserved) || self.fits(cx, &model, reserved).await {
            return Ok(());
        }
        let Some(lease) = Lease::acquire(cx.bus(), lease::COMPACTION, &self.session, Duration::ZERO).await
        else {
            return Ok(());
        };
        let outcome = self.compact(cx, &lease, &model, arrived).await;
        lease.release().await;
        match outcome? {
            CompactResult::Overflow { message, .. } => Err(Error::Unavailable(message)),
            CompactResult::Ok { .. } | CompactResult::Empty | CompactResult::Busy => Ok(()),
        }
    }

    /// The model of the turn; what the message does not say the session does.
    async fn model(&self, cx: &Cx<()>) -> Result<Option<CompactModel>> {
        let name = match (&self.provider, &self.model) {
            (Some(provider), Some(model)) => Some((provider.clone(), model.clone())),
            (provider, model) => {
                let last = resolve::answered(cx, &self.session).await?;
                last.map(|(last_provider, last_model)| {
                    (
                        provider.clone().unwrap_or(last_provider),
                        model.clone().unwrap_or(last_model),
                    )
                })
            }
        };
        let Some(name) = name else { return Ok(None) };
        let limit = resolve::limits(cx, &name).await;
        Ok(limit.map(|limit| CompactModel {
            provider_id: name.0,
            id: name.1,
            limit,
        }))
    }

    /// Whether it was the prompt that filled a small window, not the conversation.
    async fn fits(&self, cx: &Cx<()>, model: &CompactModel, reserved: u64) -> bool {
        let request = resolve::last_run(cx, &self.session).await.unwrap_or_default();
        let fixed = tokens::of_request(&request);
        let said = tokens::count(&self.usage).saturating_sub(fixed);
        said < tokens::room(model.limit, reserved, fixed)
    }

    async fn compact(
        &self,
        cx: &Cx<()>,
        lease: &Lease,
        model: &CompactModel,
        arrived: i64,
    ) -> Result<CompactResult> {
        // A count from before a compaction must not lead to the next one (field lesson K2).
        let newest = session::read(cx, &self.session, compact::MESSAGES_MS)
            .await?
            .compaction;
        let counted = self.timestamp.unwrap_or(arrived);
        if newest.is_some_and(|row| counted <= row.timestamp) {
            return Ok(CompactResult::Empty);
        }
        let job = Job {
            session: &self.session,
            model,
            mode: CompactionMode::Async,
            open_question: "",
            read_ms: compact::MESSAGES_MS,
            budget_id: None,
        };
        compact::run(cx, lease, job).await
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    #[test]
    fn c10_case_31_odd_frames_are_nothing() {
        let end = json!({ "type": "turn_end", "message": { "usage": {} } });
        for frame in [
            json!(null),
            json!(42),
            json!({}),
            json!({ "data": end }),
            json!({ "groupId": "", "data": end }),
            json!({ "groupId": "s", "data": { "type": "message_update", "message": { "usage": {} } } }),
            json!({ "groupId": "s", "data": { "type": "turn_end", "message": {} } }),
            json!({ "groupId": "s", "data": { "type": "turn_end", "message": { "usage": 5 } } }),
            json!({ "groupId": "s", "event": { "data": 5 }, "data": end }),
        ] {
            assert_eq!(Turn::read(&frame), None, "{frame}");
        }
    }

    #[test]
    fn both_envelopes_are_read() {
        let message = json!({ "usage": { "input": 7 }, "model": "m", "provider": "", "timestamp": 3 });
        let turn = Turn {
            session: "s".into(),
            usage: json!({ "input": 7 }),
            provider: None,
            model: Some("m".to_owned()),
            timestamp: Some(3),
        };
        for frame in [
            json!({ "groupId": "s", "group_id": "t", "event": { "type": "create", "data": { "type": "turn_end", "message": message } },
                "data": {} }),
            json!({ "group_id": "s", "data": { "type": "TurnEnd", "message": message } }),
        ] {
            assert_eq!(Turn::read(&frame).as_ref(), Some(&turn));
        }
    }
}

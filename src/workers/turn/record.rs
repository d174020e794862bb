//! What the turn machine keeps of a session's run (contract 02 §1).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::work::Work;
use crate::error::{Error, Result};
use crate::model::turn::BudgetWait;
use crate::model::{
    AwaitingCall, CallId, RawMessage, SessionId, TurnError, TurnState, TurnStateView, lenient,
};

/// State scope of the records, key = session id.
pub(super) const RECORDS: &str = "turn_state";
/// State scope of decisions, key = `<session>/<call>`, or the session for a wish to stop its run.
pub(super) const APPROVALS: &str = "approvals";

/// The durable state of a session's run. Members of other releases pass through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TurnRecord {
    pub(super) session_id: SessionId,
    pub(super) state: TurnState,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) turn_count: u64,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) max_turns: Option<serde_json::Number>,
    #[serde(default, deserialize_with = "lenient::optional")]
    pub(super) last_assistant: Option<RawMessage>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) function_results: Vec<RawMessage>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) turn_end_emitted: bool,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) assistant_body_streamed: Option<bool>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) work: Option<Work>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) awaiting_approval: Option<Vec<AwaitingCall>>,
    /// Catalog record of the model, resolved once per run.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) model_meta: Option<Map<String, Value>>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) error: Option<TurnError>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) started_at_ms: i64,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) updated_at_ms: i64,
    /// Part of entry ids and idempotency keys.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) run_id: Option<String>,
    /// Absent counts as true.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) agent_end_emitted: Option<bool>,
    /// Item id of that event, on an engine where its writing is not part of the commit.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) end_item: Option<String>,
    /// Unix milliseconds of the stop that was accepted; such a run ends, also when the process dies before it has.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) aborted_at_ms: Option<i64>,
    /// Set while the run rests until a budget lets it go on.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) budget_wait: Option<Box<BudgetWait>>,
    /// Who numbered this session's events last.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional"
    )]
    pub(super) emitter: Option<Emitter>,
    #[serde(flatten)]
    pub(super) extra: Map<String, Value>,
}

/// Numbering of a session's events: no item id repeats although an idle session forgets its counter (contract 01 §7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Emitter {
    /// Life of the process.
    pub(super) epoch: String,
    /// How often the session woke in it, from 0.
    pub(super) wake: u32,
}

impl Emitter {
    /// The next one in this life of the process, after all that are known.
    pub(super) fn after(epoch: &str, known: [&Option<Self>; 2]) -> Self {
        let ours = known.into_iter().flatten().filter(|last| last.epoch == epoch);
        Self {
            epoch: epoch.to_owned(),
            wake: ours.map(|last| last.wake + 1).max().unwrap_or_default(),
        }
    }
}

impl TurnRecord {
    /// A fresh record of a new run.
    pub(super) fn new(
        session_id: SessionId,
        max_turns: Option<serde_json::Number>,
        run_id: String,
        now: i64,
    ) -> Self {
        Self {
            session_id,
            state: TurnState::Provisioning,
            turn_count: 0,
            max_turns,
            last_assistant: None,
            function_results: Vec::new(),
            turn_end_emitted: false,
            assistant_body_streamed: None,
            work: None,
            awaiting_approval: None,
            model_meta: None,
            error: None,
            started_at_ms: now,
            updated_at_ms: now,
            run_id: Some(run_id),
            agent_end_emitted: None,
            aborted_at_ms: None,
            budget_wait: None,
            emitter: None,
            end_item: None,
            extra: Map::new(),
        }
    }

    /// Reads a stored row; one without a string `session_id` and a known `state` counts as absent.
    pub(super) fn read(stored: Option<Value>) -> Option<Self> {
        stored.and_then(|value| serde_json::from_value(value).ok())
    }

    /// The only form shown to others.
    pub(super) fn view(&self) -> TurnStateView {
        TurnStateView {
            session_id: self.session_id.clone(),
            state: self.state,
            turn_count: self.turn_count,
            max_turns: self.max_turns.clone(),
            awaiting_approval: self.awaiting_approval.clone(),
            error: self.error.clone(),
            budget_wait: self.budget_wait.clone(),
        }
    }

    /// Moves to a state.
    pub(super) fn go(&mut self, state: TurnState, now_ms: i64) {
        if self.state != state {
            self.updated_at_ms = now_ms;
            self.budget_wait = None;
        }
        self.state = state;
    }

    /// Deterministic entry id within this run: a step that is repeated writes the same entries.
    pub(super) fn entry_id(&self, suffix: &str) -> String {
        format!("{}-t{}-{suffix}", self.run(), self.turn_count)
    }

    /// Entry id of a call's result.
    pub(super) fn result_id(&self, call: &CallId) -> String {
        self.entry_id(&format!("fr-{call}"))
    }

    /// The run's id; records of other releases have none, their start tells them apart.
    pub(super) fn run(&self) -> String {
        self.run_id
            .clone()
            .unwrap_or_else(|| format!("run-{}", self.started_at_ms))
    }

    /// Key that makes a repeated dispatch of one call recognisable to its target.
    pub(super) fn idempotency_key(&self, call: &CallId) -> String {
        format!("{}/{call}", self.place())
    }

    /// The turn at hand, unlike any other one: session, run, number.
    pub(super) fn place(&self) -> String {
        format!("{}/{}/{}", self.session_id, self.run(), self.turn_count)
    }

    /// The assistant message whose calls are at work, with the work itself; what function steps rest on.
    ///
    /// # Errors
    /// A record that does not hold them cannot be continued.
    pub(super) fn batch(&mut self) -> Result<(&RawMessage, &mut Work, &mut Vec<AwaitingCall>)> {
        let broken = |what: &str| Error::invalid(format!("record of {} has no {what}", self.session_id));
        let assistant = self
            .last_assistant
            .as_ref()
            .filter(|message| message.role() == "assistant")
            .ok_or_else(|| broken("last_assistant"))?;
        let work = self
            .work
            .as_mut()
            .ok_or_else(|| Error::invalid("record has no work"))?;
        let awaiting = self
            .awaiting_approval
            .as_mut()
            .ok_or_else(|| Error::invalid("record has no awaiting_approval"))?;
        Ok((assistant, work, awaiting))
    }
}

/// A person's decision on one parked call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Decision {
    #[serde(rename = "decision")]
    pub(super) kind: DecisionKind,
    #[serde(default)]
    pub(super) reason: Option<String>,
    /// The call as the person saw it; clients that do not say have seen the parked one.
    #[serde(default)]
    pub(super) call_hash: Option<String>,
}

/// What a person decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DecisionKind {
    /// Run it.
    Allow,
    /// Do not run it.
    Deny,
    /// Do not run it; the user stopped.
    Aborted,
}

impl Decision {
    /// Reads a stored row; one that does not parse counts as absent.
    pub(super) fn read(stored: Option<Value>) -> Option<Self> {
        stored.and_then(|value| serde_json::from_value(value).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn a_row_without_id_or_known_state_counts_as_absent() {
        for row in [
            json!(null),
            json!("x"),
            json!({"state": "stopped"}),
            json!({"session_id": "s", "state": "odd"}),
        ] {
            assert_eq!(TurnRecord::read(Some(row)), None);
        }
    }

    #[test]
    fn wrong_members_fall_back_and_foreign_ones_pass_through() {
        let row = json!({
            "session_id": "s", "state": "stopped", "turn_count": "x", "function_results": 3, "later": {"a": 1}
        });
        let record = TurnRecord::read(Some(row)).unwrap();
        assert_eq!(
            (
                record.turn_count,
                record.function_results.len(),
                record.turn_end_emitted
            ),
            (0, 0, false)
        );
        assert_eq!(serde_json::to_value(&record).unwrap()["later"], json!({"a": 1}));
    }

    #[test]
    fn the_view_hides_work_and_messages() {
        let record = TurnRecord::new("s".into(), None, "r".into(), 7);
        assert_eq!(
            serde_json::to_value(record.view()).unwrap(),
            json!({"session_id": "s", "state": "provisioning", "turn_count": 0})
        );
    }

    #[test]
    fn decisions_are_read_strictly() {
        let read = |value| Decision::read(Some(value)).map(|decision| decision.kind);
        assert_eq!(read(json!({"decision": "allow"})), Some(DecisionKind::Allow));
        assert_eq!(read(json!({"decision": "maybe"})), None);
        assert_eq!(read(json!({"decision": "deny", "reason": 7})), None);
        assert_eq!(read(json!({"reason": "x"})), None);
    }
}

//! A parked call and the hash that ties decisions to it: what was shown is what runs (contract 03 weaknesses 1 and 2, field
//! lessons A1 and A2).

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use super::record::{Decision, DecisionKind};
use crate::model::{AwaitingCall, FunctionCall, FunctionResult};
use crate::rules::denial::{self, Refusal};

/// The entry of a call that must wait; `place` is `TurnRecord::place`.
pub(super) fn park(place: &str, call: &FunctionCall, reason: Option<String>) -> AwaitingCall {
    AwaitingCall {
        function_call_id: call.id.clone(),
        function_id: call.function_id.clone(),
        args: call.arguments.clone(),
        call_hash: Some(hash(place, call)),
        reason,
    }
}

/// A call that waits, as it would run.
pub(super) struct Parked {
    pub(super) call: FunctionCall,
    hash: String,
    /// What would run is not what was shown: somebody changed the record.
    pub(super) changed: bool,
}

impl Parked {
    pub(super) fn read(place: &str, entry: &AwaitingCall) -> Self {
        let call = FunctionCall {
            id: entry.function_call_id.clone(),
            function_id: entry.function_id.clone(),
            arguments: entry.args.clone(),
        };
        let hash = hash(place, &call);
        let changed = entry.call_hash.as_ref().is_some_and(|shown| *shown != hash);
        Self { call, hash, changed }
    }

    /// Whether a decision is for this call. One with another hash was made for something else.
    pub(super) fn is_meant_by(&self, decision: &Decision) -> bool {
        decision
            .call_hash
            .as_ref()
            .is_none_or(|meant| *meant == self.hash)
    }

    /// The result of a call that was refused by a person.
    pub(super) fn refused(&self, decision: &Decision) -> FunctionResult {
        let refusal = match decision.kind {
            DecisionKind::Allow | DecisionKind::Deny => Refusal::Denied,
            DecisionKind::Aborted => Refusal::Aborted,
        };
        denial::by_user(
            &self.call.function_id,
            &self.call.arguments,
            refusal,
            decision.reason.as_deref(),
        )
    }

    /// The result of a call that is not what people were asked about.
    pub(super) fn call_changed(&self) -> FunctionResult {
        FunctionResult::error_code(
            "call_changed",
            &self.call.function_id,
            "The call was changed after it was shown for approval. It was not run. Make the call again if it is still \
             needed.",
        )
    }
}

/// SHA-256 in hex of the place of the call, its target and its arguments; the order of members does not matter.
fn hash(place: &str, call: &FunctionCall) -> String {
    let text = json!([place, call.id, call.function_id, sorted(&call.arguments)]).to_string();
    digest(&SHA256, text.as_bytes())
        .as_ref()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a string does not fail.
            write!(hex, "{byte:02x}").ok();
            hex
        })
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut pairs: Vec<(&String, &Value)> = members.iter().collect();
            pairs.sort_unstable_by_key(|(name, _)| *name);
            let pairs = pairs
                .into_iter()
                .map(|(name, value)| (name.clone(), sorted(value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn call(id: &str, target: &str, arguments: Value) -> FunctionCall {
        FunctionCall {
            id: id.into(),
            function_id: target.into(),
            arguments,
        }
    }

    fn decision(call_hash: Option<String>) -> Decision {
        Decision {
            kind: DecisionKind::Allow,
            reason: None,
            call_hash,
        }
    }

    #[test]
    fn the_hash_is_of_place_call_target_and_arguments() {
        let arguments = json!({"path": "/srv", "deep": [{"b": 1, "a": null}]});
        let known = hash("s/r/1", &call("A", "shell::exec", arguments));
        assert_eq!(
            known,
            "56fca6661f47da22fb092dff9809c630da4c5edf12d2d8489f2be45cd51a5293"
        );
        let reordered = json!({"deep": [{"a": null, "b": 1}], "path": "/srv"});
        assert_eq!(known, hash("s/r/1", &call("A", "shell::exec", reordered.clone())));
        for other in [
            hash("s/r/2", &call("A", "shell::exec", reordered.clone())),
            hash("s/r2/1", &call("A", "shell::exec", reordered.clone())),
            hash("s/r/1", &call("B", "shell::exec", reordered.clone())),
            hash("s/r/1", &call("A", "shell::fs::ls", reordered)),
            hash(
                "s/r/1",
                &call(
                    "A",
                    "shell::exec",
                    json!({"path": "/srv", "deep": [{"b": 1.0, "a": null}]}),
                ),
            ),
            hash("s/r/1", &call("A", "shell::exec", json!({"path": "/srv"}))),
        ] {
            assert_ne!(other, known);
        }
    }

    #[test]
    fn a_decision_with_another_hash_is_for_another_call() {
        let entry = park("s/r/1", &call("A", "f", json!({})), None);
        let parked = Parked::read("s/r/1", &entry);
        assert!(!parked.changed);
        assert!(parked.is_meant_by(&decision(None)));
        assert!(parked.is_meant_by(&decision(entry.call_hash.clone())));
        assert!(!parked.is_meant_by(&decision(Some("x".into()))));
        // The same call of the next turn.
        assert!(
            !Parked::read("s/r/2", &park("s/r/2", &parked.call, None))
                .is_meant_by(&decision(entry.call_hash))
        );
    }

    #[test]
    fn a_changed_entry_is_noticed_and_one_of_another_release_has_no_hash() {
        let mut entry = park("s/r/1", &call("A", "f", json!({"n": 1})), None);
        entry.args = json!({"n": 2});
        assert!(Parked::read("s/r/1", &entry).changed);
        entry.call_hash = None;
        assert!(!Parked::read("s/r/1", &entry).changed);
    }
}

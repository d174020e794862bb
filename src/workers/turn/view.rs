//! When others hear of a run's record (contract 02 §1.1). Pure.

use crate::model::event::StateChange;
use crate::model::{AgentEvent, TurnStateView};

/// The change between what others saw last and what they are to see, if there is one.
pub(super) fn change(published: Option<&TurnStateView>, new: TurnStateView) -> Option<AgentEvent> {
    (published != Some(&new)).then(|| AgentEvent::TurnStateChanged {
        event_type: if published.is_none() {
            StateChange::Created
        } else {
            StateChange::Updated
        },
        new_value: new,
        old_value: published.cloned(),
    })
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::super::record::TurnRecord;
    use super::*;
    use crate::model::TurnState;

    #[test]
    fn c02_case_43_a_record_whose_time_alone_changed_is_no_news() {
        let mut record = TurnRecord::new("s".into(), None, "r".into(), 7);
        let seen = record.view();
        record.updated_at_ms = 8;
        record.turn_end_emitted = true;
        assert_eq!(change(Some(&seen), record.view()), None);

        let created = serde_json::to_value(change(None, record.view())).unwrap();
        assert_eq!(
            created,
            json!({ "type": "turn_state_changed", "event_type": "state:created",
                "new_value": { "session_id": "s", "state": "provisioning", "turn_count": 0 } })
        );
        record.go(TurnState::AssistantStreaming, 9);
        let updated = serde_json::to_value(change(Some(&seen), record.view())).unwrap();
        assert_eq!(
            (
                &updated["event_type"],
                &updated["old_value"]["state"],
                &updated["new_value"]["state"]
            ),
            (
                &json!("state:updated"),
                &json!("provisioning"),
                &json!("assistant_streaming")
            )
        );
    }
}

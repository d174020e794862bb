//! One answer out of many (contract 04 §5). Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How replies become one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeRule {
    /// The first reply with `block: true`, with `reason` (null if it gives none); `{block: false}` when nobody blocks.
    FirstBlockWins,
    /// The payload with `content`, `details` and `terminate` of the replies over it, in order.
    FieldMerge,
    /// The last reply that is an array, or the `messages` of one; the payload when there is none.
    PipelineLastWins,
}

impl MergeRule {
    const NAMES: [(&str, Self); 3] = [
        ("first_block_wins", Self::FirstBlockWins),
        ("field_merge", Self::FieldMerge),
        ("pipeline_last_wins", Self::PipelineLastWins),
    ];

    /// The rule of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, rule)| *rule)
    }

    /// Whether no later reply can change the answer.
    pub(super) fn is_settled_by(self, reply: &Value) -> bool {
        self == Self::FirstBlockWins && blocks(reply)
    }

    /// The answer; `replies` in the order of their arrival.
    pub(super) fn merge(self, payload: &Value, replies: &[Value]) -> Value {
        match self {
            Self::FirstBlockWins => first_block(replies),
            Self::FieldMerge => fields(payload, replies),
            Self::PipelineLastWins => last_list(replies).unwrap_or(payload).clone(),
        }
    }
}

/// Exactly `true`; what only looks like it does not block.
fn blocks(reply: &Value) -> bool {
    reply.get("block") == Some(&Value::Bool(true))
}

fn first_block(replies: &[Value]) -> Value {
    let Some(Value::Object(reply)) = replies.iter().find(|reply| blocks(reply)) else {
        return json!({ "block": false });
    };
    let mut verdict = reply.clone();
    verdict.entry("reason").or_insert(Value::Null);
    Value::Object(verdict)
}

fn fields(payload: &Value, replies: &[Value]) -> Value {
    let mut merged = payload.as_object().cloned().unwrap_or_default();
    for reply in replies.iter().filter_map(Value::as_object) {
        if let Some(content) = reply.get("content") {
            merged.insert("content".into(), content.clone());
        }
        if let Some(Value::Object(details)) = reply.get("details") {
            add_details(&mut merged, details);
        }
        if let Some(terminate @ Value::Bool(_)) = reply.get("terminate") {
            merged.insert("terminate".into(), terminate.clone());
        }
    }
    Value::Object(merged)
}

fn add_details(merged: &mut Map<String, Value>, details: &Map<String, Value>) {
    match merged.get_mut("details") {
        Some(Value::Object(known)) => known.extend(details.clone()),
        _ => {
            merged.insert("details".into(), Value::Object(details.clone()));
        }
    }
}

fn last_list(replies: &[Value]) -> Option<&Value> {
    replies.iter().rev().find_map(|reply| match reply {
        Value::Array(_) => Some(reply),
        reply => reply.get("messages").filter(|messages| messages.is_array()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use MergeRule::{FieldMerge, FirstBlockWins, PipelineLastWins};

    #[test]
    fn rules_are_named_as_on_the_wire() {
        for (name, rule) in MergeRule::NAMES {
            assert_eq!(MergeRule::named(name), Some(rule));
            assert_eq!(serde_json::to_value(rule).unwrap(), json!(name));
        }
        assert_eq!(MergeRule::named("First_block_wins"), None);
    }

    #[test]
    fn c04_case_25_a_blocker_is_copied_whole() {
        let reply = json!({"block": true, "reason": "no", "denial": {"status": "denied"}, "status": 3});
        assert_eq!(
            FirstBlockWins.merge(&json!({}), std::slice::from_ref(&reply)),
            reply
        );
        assert_eq!(
            FirstBlockWins.merge(&json!({}), &[json!({"block": true})]),
            json!({"block": true, "reason": null})
        );
    }

    #[test]
    fn c04_case_30_the_first_blocker_wins() {
        let replies = [
            json!({}),
            json!({"block": false}),
            json!({"block": true, "reason": "first"}),
            json!({"block": true, "reason": "second"}),
        ];
        assert_eq!(
            FirstBlockWins.merge(&json!({}), &replies),
            json!({"block": true, "reason": "first"})
        );
        for odd in [
            json!({"block": "true"}),
            json!({"block": 1}),
            json!([true]),
            json!("block"),
            json!({"body": {"block": true}}),
        ] {
            assert!(!FirstBlockWins.is_settled_by(&odd), "{odd}");
            assert_eq!(
                FirstBlockWins.merge(&json!({"block": true}), &[odd]),
                json!({"block": false})
            );
        }
        assert!(!FieldMerge.is_settled_by(&replies[2]) && !PipelineLastWins.is_settled_by(&replies[2]));
    }

    #[test]
    fn c04_case_31_fields_are_merged_one_level_deep() {
        let payload = json!({"content": ["a"], "details": {"a": 1, "b": 2}, "terminate": false});
        let reply = json!({"content": ["z"], "details": {"b": 99, "c": 3}, "terminate": true, "other": 1});
        assert_eq!(
            FieldMerge.merge(&payload, &[reply]),
            json!({"content": ["z"], "details": {"a": 1, "b": 99, "c": 3}, "terminate": true})
        );
        let odd = [
            json!({"details": ["x"], "terminate": "yes", "content": null}),
            json!("x"),
        ];
        assert_eq!(
            FieldMerge.merge(&payload, &odd),
            json!({"content": null, "details": {"a": 1, "b": 2}, "terminate": false})
        );
        let replies = [json!({"details": {"a": 1}}), json!({"details": {"b": {"c": 2}}})];
        for payload in [json!({}), json!(7), json!(["a"]), json!({"details": "text"})] {
            assert_eq!(
                FieldMerge.merge(&payload, &replies),
                json!({"details": {"a": 1, "b": {"c": 2}}})
            );
        }
    }

    #[test]
    fn c04_case_32_the_last_list_wins() {
        let payload = json!({"messages": [0]});
        for (replies, expected) in [
            (
                vec![json!({"messages": [1]}), json!({"ignored": true}), json!([2])],
                json!([2]),
            ),
            (vec![json!([2]), json!({"messages": [1]})], json!([1])),
            (vec![json!({"messages": "text"}), json!(3)], payload.clone()),
            (vec![json!({"ignored": true})], payload.clone()),
            (vec![], payload.clone()),
        ] {
            assert_eq!(PipelineLastWins.merge(&payload, &replies), expected);
        }
    }

    fn reply() -> impl Strategy<Value = Value> {
        let block = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            Just(json!("true"))
        ];
        let member = prop_oneof![
            any::<i8>().prop_map(|n| json!({ "content": n })),
            any::<i8>().prop_map(|n| json!({ "messages": [n] })),
            any::<i8>().prop_map(|n| json!({ "details": { "a": n } })),
            any::<i8>().prop_map(|n| json!([n])),
        ];
        (block, member).prop_map(|(block, mut reply)| {
            if let Value::Object(members) = &mut reply
                && !block.is_null()
            {
                members.insert("block".into(), block);
            }
            reply
        })
    }

    proptest! {
        /// What ends a collection early ends it with the same answer.
        #[test]
        fn nothing_after_the_settling_reply_counts(replies in prop::collection::vec(reply(), 0..8)) {
            for rule in [FirstBlockWins, FieldMerge, PipelineLastWins] {
                if let Some(at) = replies.iter().position(|reply| rule.is_settled_by(reply)) {
                    prop_assert_eq!(rule.merge(&json!({}), &replies[..=at]), rule.merge(&json!({}), &replies));
                }
            }
        }

        /// Merging in two steps is merging in one.
        #[test]
        fn fields_can_be_merged_in_steps(replies in prop::collection::vec(reply(), 0..8), at in 0_usize..8) {
            let (first, second) = replies.split_at(at.min(replies.len()));
            let halfway = FieldMerge.merge(&json!({"details": {"z": 1}}), first);
            prop_assert_eq!(
                FieldMerge.merge(&halfway, second),
                FieldMerge.merge(&json!({"details": {"z": 1}}), &replies)
            );
        }
    }
}

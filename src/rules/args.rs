//! What rules see of a call's payload (contract 02 §8.1, 03 §3.2).

use serde_json::{Map, Value};

/// The arguments of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleArgs {
    /// The members of the payload; one that is no object stands under `arguments`.
    pub members: Map<String, Value>,
    /// The payload is no object, or not known yet: its target may find in it, by position, what no member shows.
    pub is_opaque: bool,
}

/// The same, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    pub(super) members: &'a Map<String, Value>,
    pub(super) is_opaque: bool,
}

impl RuleArgs {
    /// What rules see of a payload.
    pub fn of(payload: &Value) -> Self {
        match payload {
            Value::Object(members) => Self {
                members: members.clone(),
                is_opaque: false,
            },
            other => Self {
                members: Map::from_iter([("arguments".to_owned(), other.clone())]),
                // Null holds nothing that could be read.
                is_opaque: !other.is_null(),
            },
        }
    }

    /// A payload that only the moment of the call shows.
    pub fn unknown() -> Self {
        Self {
            members: Map::new(),
            is_opaque: true,
        }
    }
}

impl<'a> From<&'a RuleArgs> for Args<'a> {
    fn from(args: &'a RuleArgs) -> Self {
        Self {
            members: &args.members,
            is_opaque: args.is_opaque,
        }
    }
}

impl<'a> From<&'a Map<String, Value>> for Args<'a> {
    fn from(members: &'a Map<String, Value>) -> Self {
        Self {
            members,
            is_opaque: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn payloads_that_are_no_objects_are_wrapped() {
        for (payload, members, is_opaque) in [
            (json!({"a": 1}), json!({"a": 1}), false),
            (json!([1]), json!({"arguments": [1]}), true),
            (json!("x"), json!({"arguments": "x"}), true),
            (json!(null), json!({"arguments": null}), false),
        ] {
            let args = RuleArgs::of(&payload);
            assert_eq!(
                (Value::Object(args.members), args.is_opaque),
                (members, is_opaque)
            );
        }
    }
}

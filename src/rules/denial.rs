//! Results that take the place of an answer when a call is not allowed (contract 03 §6, 02 §6.3).

use serde_json::{Map, Value, json};

use super::consult::HUMAN_ONLY_RULE;
use super::redact::redact;
use crate::model::api::approval::Constraint;
use crate::model::{ContentBlock, FunctionResult};

/// A person's refusal of a parked call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `deny`.
    Denied,
    /// `aborted`.
    Aborted,
}

/// A rule denies the call.
pub fn by_permissions(
    function_id: &str,
    args: &Value,
    rule_id: &str,
    constraint: Option<&Constraint>,
) -> FunctionResult {
    let reason = match constraint {
        None => format!(
            "`{function_id}` is blocked by policy (rule `{rule_id}`); use another function or ask the user."
        ),
        Some(Constraint {
            field,
            operator,
            value,
        }) => format!(
            "`{function_id}` is denied by rule `{rule_id}` because argument `{field}` {operator} {value}; use other arguments or another function."
        ),
    };
    let mut details = envelope("permissions", function_id);
    details.insert("rule_id".into(), rule_id.into());
    details.insert("rule_action".into(), "deny".into());
    if let Some(Constraint {
        field,
        operator,
        value,
    }) = constraint
    {
        details.insert(
            "matched_constraint".into(),
            json!({ "field": field, "operator": operator, "value": value }),
        );
    }
    details.insert("args_excerpt".into(), redact(args));
    details.insert("reason".into(), reason.as_str().into());
    result(reason, details)
}

/// The call is for people only, or on the floor.
pub fn human_only(function_id: &str, args: &Value) -> FunctionResult {
    by_permissions(function_id, args, HUMAN_ONLY_RULE, None)
}

/// A person refused the call. An empty reason counts as none.
pub fn by_user(function_id: &str, args: &Value, refusal: Refusal, reason: Option<&str>) -> FunctionResult {
    let (decision, lead, default) = match refusal {
        Refusal::Denied => ("deny", "Permission denied by user", "denied"),
        Refusal::Aborted => ("aborted", "Function call aborted", "session_aborted"),
    };
    let reason = reason.filter(|reason| !reason.is_empty()).unwrap_or(default);
    let mut details = envelope("user", function_id);
    details.insert("approval_denied".into(), true.into());
    details.insert("decision".into(), decision.into());
    details.insert("reason".into(), reason.into());
    details.insert("args_excerpt".into(), redact(args));
    result(format!("{lead}: {reason}"), details)
}

/// The rules could not be asked, so the call is refused.
pub fn gate_unavailable(function_id: &str, cause: &str) -> FunctionResult {
    let reason = format!("policy unreachable: {cause}");
    let mut details = envelope("gate_unavailable", function_id);
    details.insert("reason".into(), reason.as_str().into());
    result(reason, details)
}

fn envelope(denied_by: &str, function_id: &str) -> Map<String, Value> {
    Map::from_iter([
        ("schema_version".to_owned(), 1.into()),
        ("status".to_owned(), "denied".into()),
        ("denied_by".to_owned(), denied_by.into()),
        ("function_id".to_owned(), function_id.into()),
    ])
}

fn result(text: String, details: Map<String, Value>) -> FunctionResult {
    FunctionResult {
        content: vec![ContentBlock::text(text)],
        details: Value::Object(details),
        terminate: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn text(result: &FunctionResult) -> String {
        result.content.iter().filter_map(ContentBlock::as_text).collect()
    }

    #[test]
    fn c03_case_40_the_excerpt_hides_secrets() {
        let args = json!({"authorization": "Bearer x", "nested": {"api_key": "k", "keep": "ok"}, "blob": "x".repeat(500)});
        let constraint = Constraint {
            field: "blob".into(),
            operator: "equals".into(),
            value: json!({"a": "\"q"}),
        };
        let denied = by_permissions("shell::exec", &args, "no-exec", Some(&constraint));
        let reason = "`shell::exec` is denied by rule `no-exec` because argument `blob` equals {\"a\":\"\\\"q\"}; use other arguments or another function.";
        let expected = json!({
            "schema_version": 1, "status": "denied", "denied_by": "permissions", "function_id": "shell::exec",
            "rule_id": "no-exec", "rule_action": "deny",
            "matched_constraint": {"field": "blob", "operator": "equals", "value": {"a": "\"q"}},
            "args_excerpt": {"authorization": "<redacted>", "nested": {"api_key": "<redacted>", "keep": "ok"},
                "blob": format!("{}…", "x".repeat(256))},
            "reason": reason,
        });
        assert_eq!(denied.details.to_string(), expected.to_string());
        assert_eq!(text(&denied), reason);
        assert!(denied.is_error() && !denied.terminate);
    }

    #[test]
    fn a_rule_without_constraint_blocks_by_policy() {
        let denied = human_only("approval::set_mode", &json!({"mode": "full"}));
        let reason = "`approval::set_mode` is blocked by policy (rule `human_only_function`); use another function or ask the user.";
        let expected = json!({
            "schema_version": 1, "status": "denied", "denied_by": "permissions", "function_id": "approval::set_mode",
            "rule_id": "human_only_function", "rule_action": "deny", "args_excerpt": {"mode": "full"}, "reason": reason,
        });
        assert_eq!(denied.details.to_string(), expected.to_string());
    }

    #[test]
    fn a_person_refuses_in_their_own_words() {
        for (refusal, given, decision, reason, shown) in [
            (
                Refusal::Denied,
                Some("not now"),
                "deny",
                "not now",
                "Permission denied by user: not now",
            ),
            (
                Refusal::Denied,
                None,
                "deny",
                "denied",
                "Permission denied by user: denied",
            ),
            (
                Refusal::Aborted,
                Some("stop"),
                "aborted",
                "stop",
                "Function call aborted: stop",
            ),
            (
                Refusal::Aborted,
                None,
                "aborted",
                "session_aborted",
                "Function call aborted: session_aborted",
            ),
        ] {
            let denied = by_user("f", &json!({"token": 1}), refusal, given);
            let expected = json!({
                "schema_version": 1, "status": "denied", "denied_by": "user", "function_id": "f", "approval_denied": true,
                "decision": decision, "reason": reason, "args_excerpt": {"token": "<redacted>"},
            });
            assert_eq!(denied.details.to_string(), expected.to_string());
            assert_eq!(text(&denied), shown);
            assert!(denied.is_error());
        }
    }

    #[test]
    fn an_unreachable_gate_refuses() {
        let denied = gate_unavailable("f", "timed out");
        let expected = json!({
            "schema_version": 1, "status": "denied", "denied_by": "gate_unavailable", "function_id": "f",
            "reason": "policy unreachable: timed out",
        });
        assert_eq!(denied.details.to_string(), expected.to_string());
        assert!(denied.is_error());
    }
}

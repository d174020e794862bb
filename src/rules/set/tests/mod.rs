//! What the rules of a file say, and which files are refused (contract 03 §3.2, acceptance cases 24 to 32).

mod decide;
mod random;
mod read;
mod shipped;

use super::*;
use serde_json::{Value, json};

pub(super) fn rules(text: &str) -> RuleSet {
    RuleSet::parse(text).unwrap()
}

pub(super) fn check(rules: &RuleSet, function_id: &str, args: Value) -> Value {
    let Value::Object(args) = args else {
        panic!("arguments are an object")
    };
    serde_json::to_value(rules.check(function_id, &args)).unwrap()
}

pub(super) fn decision(rules: &RuleSet, function_id: &str, args: Value) -> String {
    check(rules, function_id, args)["decision"]
        .as_str()
        .unwrap()
        .to_owned()
}

pub(super) fn allow(rule_id: &str) -> Value {
    json!({"decision": "allow", "rule_id": rule_id})
}

pub(super) fn deny(rule_id: &str) -> Value {
    json!({"decision": "deny", "rule_id": rule_id, "rule_action": "deny"})
}

pub(super) fn ask() -> Value {
    json!({"decision": "needs_approval"})
}

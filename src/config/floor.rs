//! Default of `permissions.deny_floor` (contract 03 §4 item 6).

use serde_json::{Value, json};

/// Functions no agent may call, whatever the arguments.
const ALWAYS: &[&str] = &[
    "approval::*",
    "run::start",
    "run::abort",
    "harness::trigger",
    "configuration::get",
    "configuration::set",
    "configuration::register",
    "harness::provider::resolve",
    "harness::provider::register",
    "models::register",
    "session-tree::delete",
    "budget::alert_set",
    "budget::delete",
    "budget::enforce",
    "budget::exempt",
    "budget::pause",
    "budget::reset",
    "budget::update",
];

/// Functions no agent may call on a scope of ours.
const ON_OUR_SCOPES: &[&str] = &["state::set", "state::update", "state::delete"];

/// Scopes whose rows decide what agents may do or spend, what a model costs among them, and which process serves them.
const OUR_SCOPES: &str =
    "^(approvals|approval_settings|turn_state|turn_lease|run_request|budgets|harness_owner|models)$";

/// Functions that would show people what never happened, such as a call to approve, on a stream of ours.
const ON_OUR_STREAMS: &[&str] = &["stream::set", "stream::update", "stream::delete", "stream::send"];

/// Streams that browsers believe.
const OUR_STREAMS: &str = "^agent::";

/// The rules as entries of a rule file, without `action`.
pub(super) fn default_floor() -> Vec<Value> {
    let always = ALWAYS.iter().map(|id| json!(id));
    let scoped = ON_OUR_SCOPES
        .iter()
        .map(|id| json!({"function": id, "args": {"scope": {"matches": OUR_SCOPES}}}));
    let streamed = ON_OUR_STREAMS
        .iter()
        .map(|id| json!({"function": id, "args": {"stream_name": {"matches": OUR_STREAMS}}}));
    always.chain(scoped).chain(streamed).collect()
}

//! May this call run? The one door for every call of an agent (contract 02 §8.2, 03 §4).

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::batch;
use super::prompt::AGENT_TRIGGER;
use super::record::APPROVALS;
use super::session::Session;
use crate::bus::Write;
use crate::error::Result;
use crate::model::api::Contract;
use crate::model::api::approval::{CheckPermissions, GetSettings, Mode, Settings, SettingsRequest, Verdict};
use crate::model::{CallId, FunctionCall, FunctionResult};
use crate::rules::{Floor, consult, denial};

const POLICY_MS: u64 = 5_000;
const SETTINGS_MS: u64 = 5_000;

/// The gate's answer.
pub(super) enum Gate {
    /// Run it.
    Allow,
    /// It gets this result instead.
    Deny(FunctionResult),
    /// A person must decide.
    Pending,
}

/// Consults, in order: human-only list, the session's settings, the rules, the floor. A wrapped call is asked about at every
/// level, so that no wrapper hides its target: one denial denies it, one question asks a person. The settings are read for
/// the first call of a batch that needs them.
pub(super) async fn consult(session: &Session, call: &FunctionCall, snapshot: &OnceCell<Settings>) -> Gate {
    let levels = levels(call);
    if let Some(level) = levels
        .iter()
        .find(|level| consult::human_only(&level.function_id))
    {
        return Gate::Deny(denial::human_only(&level.function_id, &level.arguments));
    }
    let floor = match floor(session) {
        Ok(floor) => floor,
        Err(cause) => return Gate::Deny(denial::gate_unavailable(&call.function_id, &cause)),
    };
    let settings = snapshot.get_or_init(|| settings(session)).await;
    let mut gate = Gate::Allow;
    for level in &levels {
        match consult_level(session, level, settings, &floor).await {
            Gate::Allow => {}
            Gate::Pending => gate = Gate::Pending,
            denied @ Gate::Deny(_) => return denied,
        }
    }
    gate
}

async fn consult_level(session: &Session, call: &FunctionCall, settings: &Settings, floor: &Floor) -> Gate {
    let id = call.function_id.as_str();
    let args = consult::rule_args(&call.arguments);
    if consult::settings_verdict(settings, id, &args, floor).is_some() {
        return Gate::Allow;
    }
    let on_floor = floor.holds(id, &args);
    let verdict = match check(session, id, Value::Object(args)).await {
        Ok(verdict) => verdict,
        Err(error) => return Gate::Deny(denial::gate_unavailable(id, &error.to_string())),
    };
    match consult::under_floor(verdict, on_floor) {
        Verdict::Allow { .. } => Gate::Allow,
        Verdict::NeedsApproval { .. } => Gate::Pending,
        Verdict::Deny {
            rule_id,
            matched_constraint,
            ..
        } => Gate::Deny(denial::by_permissions(
            id,
            &call.arguments,
            &rule_id,
            matched_constraint.as_ref(),
        )),
    }
}

/// The call, and as long as it is an `agent_trigger` the call inside it, read as the outermost one was.
fn levels(call: &FunctionCall) -> Vec<FunctionCall> {
    let mut levels = vec![call.clone()];
    while let Some(inner) = levels.last().and_then(unwrapped) {
        levels.push(inner);
    }
    levels
}

fn unwrapped(call: &FunctionCall) -> Option<FunctionCall> {
    if call.function_id != *AGENT_TRIGGER {
        return None;
    }
    let (target, arguments) = batch::inner_call(call.arguments.clone());
    (!target.is_empty()).then(|| FunctionCall {
        id: call.id.clone(),
        function_id: target.into(),
        arguments,
    })
}

/// Whether the session's settings release a parked call by now.
pub(super) fn released(settings: &Settings, call: &FunctionCall, floor: &Floor) -> bool {
    levels(call).iter().all(|level| {
        let args = consult::rule_args(&level.arguments);
        consult::settings_verdict(settings, &level.function_id, &args, floor).is_some()
    })
}

/// One snapshot of the session's settings. When they cannot be read the session counts as manual.
pub(super) async fn settings(session: &Session) -> Settings {
    let request = SettingsRequest {
        session_id: session.id.clone(),
    };
    session.call::<GetSettings>(request, SETTINGS_MS).await.unwrap_or_else(|error| {
        tracing::warn!(session_id = %session.id, %error, "approval settings not read, the session counts as manual");
        Settings { mode: Mode::Manual, ..Settings::default() }
    })
}

/// The calls no agent may make, as configured now.
pub(super) fn floor(session: &Session) -> std::result::Result<Arc<Floor>, String> {
    session
        .cx
        .state()
        .floor(&session.cx.config().permissions.deny_floor)
}

async fn check(session: &Session, id: &str, args: Value) -> Result<Verdict> {
    let request = json!({ "function_id": id, "args": args });
    let reply = session.invoke(CheckPermissions::ID, request, POLICY_MS).await?;
    Ok(consult::read_verdict(&reply))
}

/// Forgets a decision that was made for an earlier call of the same id, so that it cannot approve this one.
pub(super) async fn forget_stale_decision(session: &Session, call: &FunctionCall) -> Result<()> {
    let key = session.approval_key(&call.id);
    if session.cx.scope(APPROVALS).get(&key).await?.is_some() {
        session.cx.scope(APPROVALS).delete(&key).await?;
    }
    Ok(())
}

/// The write that removes a decision once it is used.
pub(super) fn used_decision(session: &Session, call: &CallId) -> Write {
    Write::StateDelete {
        scope: APPROVALS.into(),
        key: session.approval_key(call),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn call(function_id: &str, arguments: Value) -> FunctionCall {
        FunctionCall {
            id: "c".into(),
            function_id: function_id.into(),
            arguments,
        }
    }

    #[test]
    fn p1_every_level_of_a_wrapped_call_is_looked_at() {
        let state = json!({"scope": "budgets"});
        let inner = json!({"function": "state::set", "payload": state});
        let middle = json!({"function": "agent_trigger", "payload": inner.to_string()});
        let outer = call("agent_trigger", middle.clone());
        assert_eq!(
            levels(&outer),
            [
                outer.clone(),
                call("agent_trigger", inner),
                call("state::set", state)
            ]
        );
        // A text that stands for the object is read as the outermost level reads it.
        assert_eq!(
            levels(&call("agent_trigger", Value::String(middle.to_string()))).len(),
            3
        );
        for (alone, levels_of) in [
            (call("f", json!({"function": "g"})), 1),
            (call("agent_trigger", json!({"function": ""})), 1),
            (call("agent_trigger", json!(["g"])), 1),
            (call("agent_trigger", json!({"function": "g"})), 2),
        ] {
            assert_eq!(levels(&alone).len(), levels_of, "{alone:?}");
        }
    }
}

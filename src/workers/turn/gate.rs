//! May this call run? The one door for every call of an agent (contract 02 §8.2, 03 §4).

use std::sync::Arc;

use serde_json::{Value, json};

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

/// Consults, in order: human-only list, the session's settings, the rules, the floor.
pub(super) async fn consult(session: &Session, call: &FunctionCall) -> Gate {
    let id = call.function_id.as_str();
    if consult::human_only(id) {
        return Gate::Deny(denial::human_only(id, &call.arguments));
    }
    let args = consult::rule_args(&call.arguments);
    let floor = match floor(session) {
        Ok(floor) => floor,
        Err(cause) => return Gate::Deny(denial::gate_unavailable(id, &cause)),
    };
    let settings = settings(session).await;
    if consult::settings_verdict(&settings, id, &args, &floor).is_some() {
        return Gate::Allow;
    }
    let on_floor = floor.holds(id, &args);
    let verdict = match check(session, id, Value::Object(args)).await {
        Ok(verdict) => verdict,
        Err(error) => return Gate::Deny(denial::gate_unavailable(id, &error.to_string())),
    };
    match verdict {
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
        Verdict::Allow { .. } | Verdict::NeedsApproval if on_floor => {
            Gate::Deny(denial::human_only(id, &call.arguments))
        }
        Verdict::Allow { .. } => Gate::Allow,
        Verdict::NeedsApproval => Gate::Pending,
    }
}

/// Whether the session's settings release a parked call by now.
pub(super) fn released(settings: &Settings, call: &FunctionCall, floor: &Floor) -> bool {
    let args = consult::rule_args(&call.arguments);
    consult::settings_verdict(settings, &call.function_id, &args, floor).is_some()
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

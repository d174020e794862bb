//! May this call run? The one door for every call of an agent (contract 02 §8.2, 03 §4).

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::record::APPROVALS;
use super::session::Session;
use crate::bus::{Write, to_json};
use crate::error::Result;
use crate::model::api::Contract;
use crate::model::api::approval::{
    CheckPermissions, CheckRequest, GetSettings, Mode, Settings, SettingsRequest, Verdict,
};
use crate::model::{CallId, FunctionCall, FunctionResult};
use crate::rules::{self, Floor, Level, RuleArgs, consult, denial};

const POLICY_MS: u64 = 5_000;
const SETTINGS_MS: u64 = 5_000;

/// The gate's answer.
pub(super) enum Gate {
    /// Run it.
    Allow,
    /// It gets this result instead.
    Deny(FunctionResult),
    /// A person must decide, for this reason where there is one.
    Pending(Option<String>),
}

/// Consults, in order: what is closed to agents, the session's settings, the rules, the floor. A call inside a call is asked
/// about too, so that nothing that calls others hides its target: one denial denies it, one question asks a person. The
/// settings are read for the first call of a batch that needs them.
pub(super) async fn consult(session: &Session, call: &FunctionCall, snapshot: &OnceCell<Settings>) -> Gate {
    let levels = rules::levels(&call.function_id, &call.arguments);
    if let Some(level) = consult::closed(&levels) {
        return Gate::Deny(refused(level));
    }
    let floor = match floor(session) {
        Ok(floor) => floor,
        Err(cause) => return Gate::Deny(denial::gate_unavailable(&call.function_id, &cause)),
    };
    let settings = snapshot.get_or_init(|| settings(session)).await;
    let mut gate = Gate::Allow;
    for level in &levels {
        match (consult_level(session, level, settings, &floor).await, &gate) {
            (Gate::Allow, _) | (Gate::Pending(_), Gate::Pending(Some(_))) => {}
            (pending @ Gate::Pending(_), _) => gate = pending,
            (denied @ Gate::Deny(_), _) => return denied,
        }
    }
    gate
}

async fn consult_level(session: &Session, level: &Level, settings: &Settings, floor: &Floor) -> Gate {
    let id = &*level.function_id;
    let args = level.args();
    if consult::settings_verdict(settings, id, &args, floor).is_some() {
        return Gate::Allow;
    }
    let on_floor = floor.holds(id, &args);
    let verdict = match check(session, id, args).await {
        Ok(verdict) => verdict,
        Err(error) => return Gate::Deny(denial::gate_unavailable(id, &error.to_string())),
    };
    match consult::under_floor(verdict, on_floor) {
        Verdict::Allow { .. } => Gate::Allow,
        Verdict::NeedsApproval { reason } => Gate::Pending(reason),
        Verdict::Deny {
            rule_id,
            matched_constraint,
            ..
        } => Gate::Deny(denial::by_permissions(
            id,
            &shown(level),
            &rule_id,
            matched_constraint.as_ref(),
        )),
    }
}

/// The payload of a level as a denial shows it.
fn shown(level: &Level) -> Value {
    level.payload.clone().unwrap_or_else(|| json!({}))
}

fn refused(level: &Level) -> FunctionResult {
    denial::human_only(&level.function_id, &shown(level))
}

/// The result of a call that no click lets through, whatever the person saw.
pub(super) fn forbidden(call: &FunctionCall, floor: &Floor) -> Option<FunctionResult> {
    let levels = rules::levels(&call.function_id, &call.arguments);
    consult::forbidden(&levels, floor).map(refused)
}

/// Whether the session's settings release a parked call by now.
pub(super) fn released(settings: &Settings, call: &FunctionCall, floor: &Floor) -> bool {
    let levels = rules::levels(&call.function_id, &call.arguments);
    let is_allowed = |level: &Level| {
        consult::settings_verdict(settings, &level.function_id, &level.args(), floor).is_some()
    };
    consult::forbidden(&levels, floor).is_none() && levels.iter().all(is_allowed)
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

async fn check(session: &Session, id: &str, args: RuleArgs) -> Result<Verdict> {
    let request = CheckRequest {
        function_id: id.into(),
        args: args.members,
        opaque: args.is_opaque,
    };
    let request = to_json(&request)?;
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

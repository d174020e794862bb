//! What the engine has of us, and what it has for us: asked once per connection, and again while something is wanting.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iii_sdk::IIIClient;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::greet::count_of;
use super::{Core, call, register};
use crate::bus::{CallContext, Invocation, Link};
use crate::error::{Error, Result};

/// Most time for one question.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long our own functions may take to show up after they were sent.
const CONFIRM_WITHIN: Duration = Duration::from_secs(3);

/// Pauses between looks while functions are on their way, and at first while something is wanting.
const SHORT_PAUSE: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Parts that an engine may lack, each with a function it has when the part is there.
const PARTS: [(&str, &str); 4] = [
    ("state", "state::set"),
    ("stream", "stream::set"),
    ("configuration", "configuration::register"),
    ("queue", "engine::queue::enqueue"),
];

/// The part that is a trigger type.
const CRON: &str = "cron";

/// Without it there are no turns.
const VITAL: &str = "state";

/// What was found.
#[derive(Default)]
pub(super) struct Findings {
    now: Mutex<Found>,
    /// The engine has listed functions of ours. What a guarded one does not show is not lost.
    shows_ours: AtomicBool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    /// Ids of ours that the engine does not have from us.
    refused: Vec<String>,
    /// Those of them that it has from nobody.
    absent: Vec<String>,
    /// Bindings of ours that it does not have.
    unbound: Vec<String>,
    /// Parts that it lacks.
    missing: Vec<&'static str>,
    /// Another worker has our name.
    is_crowded: bool,
}

impl Findings {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Why the engine is not fully usable now.
    pub(super) fn problem(&self) -> Option<String> {
        let (url, worker_name) = (self.options.shown_url(), &self.options.worker_name);
        if self.link.now() == Link::Down {
            let why = self.link.failure();
            return Some(if self.link.is_stand_by() {
                format!("standby at {url}: {why}")
            } else {
                format!("no connection to {url}: {why}")
            });
        }
        let found = self.findings.lock();
        let problems = [
            (!found.refused.is_empty()).then(|| format!("not registered: {}", found.refused.join(", "))),
            (!found.unbound.is_empty()).then(|| format!("not bound: {}", found.unbound.join(", "))),
            found
                .missing
                .contains(&VITAL)
                .then(|| format!("the engine has no {VITAL} worker")),
            found
                .is_crowded
                .then(|| format!("another worker named `{worker_name}` is connected")),
        ];
        let problems: Vec<String> = problems.into_iter().flatten().collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    /// Parts that the engine lacks.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        self.findings.lock().missing.clone()
    }
}

/// Asks until the engine has our functions, or for long enough; what it does not have then is a finding.
///
/// # Errors
/// It did not answer.
pub(super) async fn take_stock(core: &Arc<Core>) -> Result<()> {
    let until = Instant::now() + CONFIRM_WITHIN;
    loop {
        let found = look(core, ANSWER_WITHIN).await?;
        if found.refused.is_empty() || Instant::now() >= until {
            conclude(core, found);
            return Ok(());
        }
        sleep(SHORT_PAUSE).await;
    }
}

/// Looks at each heartbeat, and more often at first while something is wanting, since it may only be late. What the engine
/// has lost is registered again. Resolves when a question was left unanswered although the connection is there.
pub(super) async fn watch(core: &Arc<Core>, client: &IIIClient) {
    let heartbeat = core.options.heartbeat;
    let mut pause = FIRST_PAUSE;
    loop {
        let is_well = *core.findings.lock() == Found::default();
        if is_well {
            pause = heartbeat;
        }
        sleep(pause.min(heartbeat)).await;
        pause = if is_well { FIRST_PAUSE } else { pause * 2 };
        match look(core, heartbeat).await {
            Ok(found) => {
                restore(core, client, &found);
                conclude(core, found);
            }
            Err(Error::Timeout { .. }) => return,
            // The connection is lost: others see to that.
            Err(_) => {}
        }
    }
}

/// Registers again what was ours and is nobody's now. Another process of our name may have registered it meanwhile, such as
/// one that was asleep and did not know yet that it serves no more; the engine forgot it when that one left.
fn restore(core: &Arc<Core>, client: &IIIClient, found: &Found) {
    let Ok(bus) = core.bus() else { return };
    let lost: Vec<&str> = found.absent.iter().map(String::as_str).collect();
    if lost.is_empty() {
        return;
    }
    tracing::warn!(
        functions = lost.join(", "),
        "the engine has lost functions; registered again"
    );
    for function in bus.functions() {
        if lost.contains(&function.id().as_str()) {
            core.registrations.forget(function.id());
            register::function(core, client, &function);
        }
    }
}

/// Something that any engine answers at once.
pub(super) async fn ping(core: &Arc<Core>, limit: Duration) -> Result<Value> {
    let nothing = json!({ "search": "-" });
    ask(core, "engine::workers::list", nothing, limit).await
}

fn conclude(core: &Core, found: Found) {
    let mut known = core.findings.lock();
    if found.missing != known.missing {
        if found.missing.is_empty() {
            tracing::info!("the engine has all parts now");
        } else {
            let missing = found.missing.join(", ");
            tracing::warn!(missing, "the engine lacks parts; what needs them does not work");
        }
    }
    if found.refused != known.refused && !found.refused.is_empty() {
        let functions = found.refused.join(", ");
        tracing::error!(
            functions,
            "the engine has these functions from somebody else, or not at all"
        );
    }
    if found.unbound != known.unbound && !found.unbound.is_empty() {
        tracing::error!(
            triggers = found.unbound.join(", "),
            "the engine refused these bindings"
        );
    }
    *known = found;
}

async fn look(core: &Arc<Core>, limit: Duration) -> Result<Found> {
    let all = || json!({ "include_internal": true });
    let registrations = &core.registrations;
    let asked_for = (registrations.functions(), registrations.triggers());
    let (functions, types, bindings, workers) = tokio::join!(
        rows::<FunctionRow>(core, "engine::functions::list", "functions", all(), limit),
        rows::<TypeRow>(core, "engine::triggers::list", "triggers", all(), limit),
        rows::<BindingRow>(
            core,
            "engine::registered-triggers::list",
            "registered_triggers",
            all(),
            limit
        ),
        ask(core, "engine::workers::list", json!({}), limit),
    );
    let (functions, types, bindings) = (functions?, types?, bindings?);
    let workers = known(workers)?;
    let name = &core.options.worker_name;
    let mut found = Found {
        is_crowded: count_of(workers.as_ref(), name) > 1,
        ..Found::default()
    };
    if let Some(functions) = functions {
        let ids: BTreeSet<&str> = functions.iter().map(|row| row.function_id.as_str()).collect();
        let lacks = |(_, id): &&(&str, &str)| !ids.contains(id);
        found
            .missing
            .extend(PARTS.iter().filter(lacks).map(|(part, _)| part));
        let is_ours = |row: &&FunctionRow| row.worker_name.as_ref().is_none_or(|worker| worker == name);
        let ours: BTreeSet<&str> = functions
            .iter()
            .filter(is_ours)
            .map(|row| row.function_id.as_str())
            .collect();
        let wanted = registrations.functions();
        found.refused = wanted
            .into_iter()
            .filter(|id| asked_for.0.contains(id) && !ours.contains(id.as_str()))
            .map(|id| id.to_string())
            .collect();
        let shows_ours = &core.findings.shows_ours;
        shows_ours.fetch_or(!ours.is_empty(), Ordering::Relaxed);
        let is_absent = |id: &&String| shows_ours.load(Ordering::Relaxed) && !ids.contains(id.as_str());
        found.absent = found.refused.iter().filter(is_absent).cloned().collect();
    }
    if let (Some(types), Some(bindings)) = (types, bindings) {
        let types: BTreeSet<&str> = types.iter().map(|row| row.id.as_str()).collect();
        if !types.contains(CRON) {
            found.missing.push(CRON);
        }
        let bound: BTreeSet<(&str, &str)> = bindings
            .iter()
            .map(|row| (row.trigger_type.as_str(), row.function_id.as_str()))
            .collect();
        // One of a type that is not there waits in the engine and is listed nowhere.
        let is_bound =
            |kind: &str, function: &str| !types.contains(kind) || bound.contains(&(kind, function));
        let wanted = registrations.triggers();
        found.unbound = wanted
            .into_iter()
            .filter(|pair| asked_for.1.contains(pair) && !is_bound(&pair.0, &pair.1))
            .map(|(kind, function)| format!("{kind} for {function}"))
            .collect();
    }
    Ok(found)
}

#[derive(Deserialize)]
struct FunctionRow {
    function_id: String,
    worker_name: Option<String>,
}

#[derive(Deserialize)]
struct TypeRow {
    id: String,
}

#[derive(Deserialize)]
struct BindingRow {
    trigger_type: String,
    function_id: String,
}

/// The rows of a listing; `None` when the engine does not give them to us.
async fn rows<T: DeserializeOwned>(
    core: &Arc<Core>,
    id: &str,
    member: &str,
    payload: Value,
    limit: Duration,
) -> Result<Option<Vec<T>>> {
    let Some(mut answer) = known(ask(core, id, payload, limit).await)? else {
        return Ok(None);
    };
    let rows = answer.get_mut(member).map(Value::take).unwrap_or_default();
    let rows: Vec<Value> = serde_json::from_value(rows).unwrap_or_default();
    // What a newer engine lists in another shape is not ours.
    Ok(Some(
        rows.into_iter()
            .filter_map(|row| serde_json::from_value(row).ok())
            .collect(),
    ))
}

/// A refusal is an answer too: an old engine has no such listing, a guarded one keeps it to itself.
fn known(outcome: Result<Value>) -> Result<Option<Value>> {
    match outcome {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Coded { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn ask(core: &Arc<Core>, id: &str, payload: Value, limit: Duration) -> Result<Value> {
    let invocation = Invocation {
        function_id: id.into(),
        payload,
        context: CallContext::default(),
    };
    call::send(core, invocation, None, limit).await
}

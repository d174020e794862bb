//! `budget::update`: other terms for a budget (contract 07 §3.4).
//!
//! Another ceiling keeps what is spent, and fires the alerts that are reached by it. Another period archives what is spent
//! and begins at 0 (field lesson B12).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::get::Found;
use super::lanes::change;
use super::periods::Period;
use super::rows::{Chain, Needs};
use super::{Budgets, request, wake};
use crate::bus::{Cx, Function};
use crate::error::{Error, Result};
use crate::model::text::clip;
use crate::model::{Usd, lenient};

/// See the module.
#[derive(Debug)]
pub(super) struct Update;

/// What it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// The budget.
    budget_id: String,
    /// Any of `name`, `ceiling_usd`, `period`, `enforced`, `paused`; an empty `name` takes the name away. Other members are
    /// ignored.
    #[serde(default)]
    #[schemars(with = "Map<String, Value>")]
    patch: Value,
    /// Whose it is from now on: `workspace_id`, `agent_id`; null takes one away.
    #[serde(default, deserialize_with = "lenient::optional")]
    assign: Option<Map<String, Value>>,
}

/// The checked changes; none leaves a member as it is.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    name: Option<Text>,
    ceiling_usd: Option<Usd>,
    period: Option<Period>,
    enforced: Option<bool>,
    paused: Option<bool>,
    workspace_id: Option<Text>,
    agent_id: Option<Text>,
}

/// Another text, or none from now on.
#[derive(Debug, PartialEq)]
struct Text(Option<String>);

impl Function for Update {
    const ID: &'static str = "budget::update";
    const DESCRIPTION: &'static str = "Update a whitelisted set of budget fields.";
    const REQUIRED: &'static [&'static str] = request::BUDGET_ID;
    type State = Budgets;
    type Request = Request;
    type Response = Found;

    async fn call(cx: &Cx<Budgets>, request: Request) -> Result<Found> {
        let Value::Object(patch) = request.patch else {
            return Err(Error::invalid("patch must be an object"));
        };
        let assign = request.assign.unwrap_or_default();
        let found = change(cx, &request.budget_id, Needs::Budgets, move |chain| {
            // What is refused writes nothing, not even that a period is over.
            chain.level(0)?;
            Changes::of(&patch, &assign)?.apply(chain)
        })
        .await?;
        wake::changed(cx);
        Ok(found)
    }
}

impl Changes {
    fn of(patch: &Map<String, Value>, assign: &Map<String, Value>) -> Result<Self> {
        let name = match patch.get("name").and_then(Value::as_str) {
            None => None,
            Some(name) => Some(Text(request::optional("name", Some(name.to_owned()))?)),
        };
        Ok(Self {
            name,
            ceiling_usd: patch.get("ceiling_usd").map(ceiling).transpose()?,
            period: patch.get("period").map(period).transpose()?,
            enforced: patch
                .get("enforced")
                .map(|value| request::flag("enforced", value))
                .transpose()?,
            paused: patch
                .get("paused")
                .map(|value| request::flag("paused", value))
                .transpose()?,
            workspace_id: owner(assign, "workspace_id")?,
            agent_id: owner(assign, "agent_id")?,
        })
    }

    fn apply(self, chain: &mut Chain<'_>) -> Result<Found> {
        let at = chain.at;
        let budget = chain.own()?;
        if let Some(period) = self.period.filter(|period| *period != budget.period) {
            budget.count_by(period, at)?;
        }
        if let Some(ceiling) = self.ceiling_usd {
            budget.ceiling_usd = ceiling;
            budget.fire(at);
        }
        let Self {
            name,
            enforced,
            paused,
            workspace_id,
            agent_id,
            ..
        } = self;
        put(&mut budget.name, name.map(|Text(name)| name));
        put(&mut budget.enforced, enforced);
        put(&mut budget.paused, paused);
        put(&mut budget.workspace_id, workspace_id.map(|Text(id)| id));
        put(&mut budget.agent_id, agent_id.map(|Text(id)| id));
        budget.updated_at = at.now_ms;
        let budget = budget.clone().shown();
        Ok(Found { budget })
    }
}

fn put<T>(member: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *member = value;
    }
}

fn ceiling(value: &Value) -> Result<Usd> {
    value
        .as_f64()
        .and_then(Usd::from_dollars)
        .filter(|ceiling| *ceiling > Usd::ZERO)
        .ok_or_else(|| Error::invalid("ceiling_usd must be a positive finite number"))
}

fn period(value: &Value) -> Result<Period> {
    let name = value
        .as_str()
        .ok_or_else(|| Error::invalid("period must be a string"))?;
    Period::named(name).ok_or_else(|| Error::invalid(format!("invalid period: {}", clip(name, 64))))
}

fn owner(assign: &Map<String, Value>, member: &str) -> Result<Option<Text>> {
    match assign.get(member) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(Text(None))),
        Some(Value::String(id)) => request::optional(member, Some(id.clone())).map(|id| Some(Text(id))),
        Some(_) => Err(Error::invalid(format!("{member} must be a string or null"))),
    }
}

//! `budget::list`: all budgets, or those of a workspace (contract 07 §3.3).

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::index::readable;
use super::ledger::Moment;
use super::stored::Budget;
use super::{Budgets, index};
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::lenient;

/// See the module.
#[derive(Debug)]
pub(super) struct List;

/// What it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// Only budgets of this workspace; empty means all.
    #[serde(default, deserialize_with = "lenient::optional")]
    workspace_id: Option<String>,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// Newest first.
    budgets: Vec<Budget>,
}

impl Function for List {
    const ID: &'static str = "budget::list";
    const DESCRIPTION: &'static str = "List budgets, newest first.";
    type State = Budgets;
    type Request = Request;
    type Response = Response;

    async fn call(cx: &Cx<Budgets>, request: Request) -> Result<Response> {
        let wanted = request.workspace_id.filter(|workspace| !workspace.is_empty());
        let mut budgets = index::budgets(cx).await?;
        if wanted.is_some() {
            budgets.retain(|budget| budget.workspace_id == wanted);
        }
        let uuid = || cx.uuid();
        let at = Moment {
            now_ms: cx.now_ms(),
            uuid: &uuid,
        };
        budgets.sort_by(|a, b| (Reverse(a.created_at), &a.id).cmp(&(Reverse(b.created_at), &b.id)));
        // Shown as they are now; who changes one stores that.
        let now = |mut budget: Budget| readable(budget.roll(at).map(|()| Some(budget.shown())));
        let budgets = budgets.into_iter().filter_map(now).collect();
        Ok(Response { budgets })
    }
}

//! A change of one budget by hand.

use super::lanes::change;
use super::ledger::Moment;
use super::rows::Needs;
use super::stored::Budget;
use super::{Budgets, wake};
use crate::bus::Cx;
use crate::error::Result;

/// Changes a budget, brought to the present; `change_it` refuses before it changes anything.
pub(super) async fn edit<T: Send + 'static>(
    cx: &Cx<Budgets>,
    budget_id: &str,
    change_it: impl FnOnce(&mut Budget, Moment<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    change(cx, budget_id, Needs::Budgets, move |chain| {
        let at = chain.at;
        let budget = chain.own()?;
        let answer = change_it(budget, at)?;
        budget.updated_at = at.now_ms;
        Ok(answer)
    })
    .await
}

/// The same for what a resting run may have waited for.
pub(super) async fn terms<T: Send + 'static>(
    cx: &Cx<Budgets>,
    budget_id: &str,
    change_it: impl FnOnce(&mut Budget, Moment<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let answer = edit(cx, budget_id, change_it).await?;
    wake::changed(cx);
    Ok(answer)
}

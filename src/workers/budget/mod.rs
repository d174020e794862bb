//! Worker `llm-budget`: caps on spend in US dollars (contract 07).
//!
//! ```text
//!  functions ─► lanes (one writer per tree) ─► tree, ledger, periods (pure) ─► store (one commit) ─► index, callbacks
//! ```
//!
//! A budget may have one above it, which then pays for the same spend: workspace, agent, session. All of a tree is checked,
//! set aside and charged in one commit.
//!
//! Invariants: amounts are whole micro-dollars; for a budget whose cap holds, spent and set aside never pass the ceiling by
//! checks alone, in any order of callers and after a kill at any moment; a spend is in `spent_usd` or in a log, never in
//! neither; a failed read is an error, never a budget without spend. Deliberately not here: prices, and who asks when.

mod alert_set;
mod callbacks;
mod check;
mod create;
mod delete;
mod edit;
mod enforce;
mod exempt;
mod forecast;
mod get;
mod index;
mod lanes;
mod ledger;
mod list;
mod pause;
mod periods;
mod projection;
mod record;
mod record_ids;
mod request;
mod reset;
mod rows;
mod store;
mod stored;
mod tree;
mod update;
mod usage;
mod wake;

use std::sync::Arc;

use crate::bus::{Worker, WorkerDef};
use crate::model::api::budget::SCOPE;

/// Memory of the worker; the rows are in state.
#[derive(Debug, Default)]
pub struct Budgets {
    lanes: lanes::Lanes,
    roots: store::Roots,
    moved: store::Moved,
    index: index::Index,
    under_way: callbacks::UnderWay,
}

/// The worker's registration table.
pub fn worker() -> WorkerDef {
    Worker::new(
        "llm-budget",
        "Caps what workspaces, agents and sessions spend on models.",
        Budgets::default(),
    )
    .function::<alert_set::AlertSet>()
    .function::<check::Check>()
    .function::<create::Create>()
    .function::<delete::Delete>()
    .function::<enforce::Enforce>()
    .function::<exempt::Exempt>()
    .function::<forecast::Forecast>()
    .function::<get::Get>()
    .function::<list::List>()
    .function::<pause::Pause>()
    .function::<record::Record>()
    .function::<reset::Reset>()
    .function::<update::Update>()
    .function::<usage::Usage>()
    .prepare(|cx| async move {
        let state = Arc::clone(cx.state());
        cx.bus().tap_state(
            SCOPE,
            Arc::new(move |scope, _| {
                if scope == SCOPE {
                    state.index.invalidate();
                }
            }),
        );
        Ok(())
    })
    .background(callbacks::deliver_owed)
    .reconnected(callbacks::deliver_owed)
    .build()
}

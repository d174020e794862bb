//! One writer per tree of budgets, and one commit for all that wait for it.
//!
//! ```text
//!  change ─► lane of the tree ─► [everything that waits] ─► load rows ─► apply in order ─► one commit ─► answer each
//! ```
//!
//! While a commit is under way new changes wait in the lane; the next round takes all of them. So a budget that many write
//! to needs as few commits as it can, on any engine, and each of them decides on what the one before it left. A lane lives as
//! long as it has work. Nothing is remembered between rounds: what others write to the rows is seen.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::ledger::Moment;
use super::rows::{Chain, Needs};
use super::{Budgets, request, store};
use crate::bus::{CallContext, Cx};
use crate::error::{Error, Result};

/// Told what became of the commit.
type Finish = Box<dyn FnOnce(Result<()>) + Send>;

/// A change: applied to loaded rows, and told later whether they were stored.
type Edit = Box<dyn FnOnce(Result<Chain<'_>>) -> Finish + Send>;

/// A change that waits.
struct Job {
    budget_id: String,
    needs: Needs,
    edit: Edit,
}

/// Changes that wait, by the id of the budget that is above all others of the tree.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashMap<String, Vec<Job>>>);

/// Takes a lane away when its driver ends, also by a panic; whoever waits in it then is told.
struct Driver<'a> {
    lanes: &'a Lanes,
    root: String,
    has_lane: AtomicBool,
}

/// Changes a budget and those above it; the answer comes when the change is stored.
///
/// `edit` refuses before it changes anything.
pub(super) async fn change<T: Send + 'static>(
    cx: &Cx<Budgets>,
    budget_id: &str,
    needs: Needs,
    edit: impl FnOnce(&mut Chain<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    request::id("budget_id", budget_id)?;
    let (answer, outcome) = oneshot::channel();
    let edit: Edit = Box::new(move |chain: Result<Chain<'_>>| {
        let result = chain.and_then(|mut chain| edit(&mut chain));
        Box::new(move |stored: Result<()>| {
            let result = result.and_then(|value| stored.map(|()| value));
            // Who asked may have gone.
            answer.send(result).ok();
        })
    });
    let job = Job {
        budget_id: budget_id.to_owned(),
        needs,
        edit,
    };
    let root = store::root_of(cx, budget_id).await?;
    enter(cx, root, job);
    outcome.await.unwrap_or(Err(Error::Stopped))
}

/// Puts a change into a lane; a lane that was empty gets a driver.
fn enter(cx: &Cx<Budgets>, root: String, job: Job) {
    let mut lanes = cx.state().lanes.map();
    if let Some(waiting) = lanes.get_mut(&root) {
        waiting.push(job);
        return;
    }
    lanes.insert(root.clone(), vec![job]);
    drop(lanes);
    let cx = cx.with_context(CallContext::default());
    let bus = cx.bus().clone();
    bus.spawn(async move { drive(&cx, root).await });
}

async fn drive(cx: &Cx<Budgets>, root: String) {
    let driver = Driver {
        lanes: &cx.state().lanes,
        root,
        has_lane: AtomicBool::new(true),
    };
    while let Some(jobs) = driver.next() {
        work(cx, &driver.root, jobs).await;
    }
}

/// One round.
async fn work(cx: &Cx<Budgets>, root: &str, jobs: Vec<Job>) {
    let wanted = jobs
        .iter()
        .map(|job| (job.budget_id.clone(), job.needs))
        .collect();
    let mut rows = match store::load(cx, wanted).await {
        Ok(rows) => rows,
        // A row that cannot be read is the trouble of those who need it.
        Err(_) if jobs.len() > 1 => {
            for job in jobs {
                Box::pin(work(cx, root, vec![job])).await;
            }
            return;
        }
        Err(error) => {
            for job in jobs {
                (job.edit)(Err(error.clone()))(Ok(()));
            }
            return;
        }
    };
    let uuid = || cx.uuid();
    let at = Moment {
        now_ms: cx.now_ms(),
        uuid: &uuid,
    };
    let mut finishes = Vec::with_capacity(jobs.len());
    let mut elsewhere = Vec::new();
    for job in jobs {
        match rows.chain_ids(&job.budget_id) {
            // Somebody changed the tree since this change found its lane.
            Ok(ids) if ids.last().is_some_and(|last| last != root) => elsewhere.push((ids, job)),
            Ok(_) | Err(_) => {
                let chain = Chain::of(&mut rows, &job.budget_id, at);
                finishes.push((job.edit)(chain));
            }
        }
    }
    let stored = store::save(cx, rows).await;
    for finish in finishes {
        finish(stored.clone());
    }
    // Not before the commit: the other lane would read rows that this round is about to write.
    for (ids, job) in elsewhere {
        let root = ids.last().cloned().unwrap_or_default();
        cx.state().roots.learn(&ids);
        enter(cx, root, job);
    }
}

impl Lanes {
    fn map(&self) -> MutexGuard<'_, HashMap<String, Vec<Job>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver<'_> {
    /// All that waits; an empty lane is taken away.
    fn next(&self) -> Option<Vec<Job>> {
        let mut lanes = self.lanes.map();
        let jobs = std::mem::take(lanes.get_mut(&self.root)?);
        if jobs.is_empty() {
            lanes.remove(&self.root);
            // The next one of this name has another driver.
            self.has_lane.store(false, Ordering::Relaxed);
            return None;
        }
        Some(jobs)
    }
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        if self.has_lane.load(Ordering::Relaxed) {
            let left = self.lanes.map().remove(&self.root);
            // Their answers are dropped outside the lock.
            drop(left);
        }
    }
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes").field("open", &self.map().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn waits(lanes: &Lanes) {
        let job = Job {
            budget_id: "b".to_owned(),
            needs: Needs::Budgets,
            edit: Box::new(|_| Box::new(|_| ())),
        };
        lanes.map().entry("b".to_owned()).or_default().push(job);
    }

    fn driver(lanes: &Lanes) -> Driver<'_> {
        Driver {
            lanes,
            root: "b".to_owned(),
            has_lane: AtomicBool::new(true),
        }
    }

    /// Contract 07 weakness 11: nothing is left of a lane without work.
    #[test]
    fn a_lane_lives_as_long_as_it_has_work() {
        let lanes = Lanes::default();
        waits(&lanes);
        let first = driver(&lanes);
        let next = || first.next().map(|jobs| jobs.len());
        assert_eq!(next(), Some(1));
        waits(&lanes);
        waits(&lanes);
        assert_eq!((next(), next()), (Some(2), None));
        assert_eq!(lanes.map().len(), 0);
        // The next lane of this name is not the first driver's to take away.
        waits(&lanes);
        drop(first);
        assert_eq!(lanes.map().len(), 1);
    }

    #[test]
    fn a_driver_that_panics_takes_its_lane_with_it() {
        let lanes = Lanes::default();
        waits(&lanes);
        let driver = driver(&lanes);
        assert!(driver.next().is_some());
        waits(&lanes);
        drop(driver);
        assert_eq!(lanes.map().len(), 0);
    }
}

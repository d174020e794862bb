//! The crash matrix: one run, stopped at every point where it touches the world.
//!
//! Every durable write, every read of the store, every call outside (before and after) and every event is a point. The run
//! is played once per point and fault: the program dies there (all its tasks are cut), or its store refuses once, or from
//! there on until it is healed. Whatever happens no message is lost, no call runs twice, the session ends, with one
//! `agent_end` as the last event, and a strict model server takes what follows.

pub(crate) mod line;
mod names;
mod story;
mod table;
mod verdict;
pub(crate) mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use harness::config::{Env, ProcessEnv};
use tokio::sync::Semaphore;

use line::{Fault, Kind, Line, Point};
use story::Client;

use crate::docs::{assert_file, root};

/// Long enough to tell what is about it.
pub(super) const SESSION: &str = "matrix-session";
/// Runs played side by side.
const SIDE_BY_SIDE: usize = 4;

/// What can happen at a point.
fn faults(point: &Point) -> [Option<Fault>; 5] {
    let name = || point.name.clone();
    let writes = point.kind == Kind::Write;
    let stores = point.kind != Kind::Moment;
    [
        (point.kind != Kind::Read).then(|| Fault::DieBefore(name())),
        writes.then(|| Fault::DieAfter(name())),
        stores.then(|| Fault::FailOnce(name())),
        stores.then(|| Fault::FailLong(name())),
        stores.then(|| Fault::FailOn(name())),
    ]
}

/// Plays the run with one fault; answers the points it passed and what became of it.
fn play(line: Line, fault: Option<Fault>) -> (Vec<Point>, String) {
    let world = story::world(line);
    let mut client = Client::default();
    let survived = world.live(async |t| {
        world.line.arm(fault.clone());
        let ended = client.play(t, &world.line).await;
        let points = world.line.points();
        if !ended {
            return None;
        }
        if world.line.is_shared() {
            // A few reads are a matter of time there, and so is when the store is back.
            world.line.arm(None);
            if world.line.is_dead() {
                // It died of what comes after the end, such as giving the session back.
                return None;
            }
            world.line.heal();
        } else {
            assert_eq!(world.line.was_hit(), fault.is_some(), "the point was not reached");
        }
        Some((points, verdict::verdict(t, &world, client.pushed).await))
    });
    survived.unwrap_or_else(|| {
        let outcome = world.live(async |t| {
            client.remember(t).await;
            assert!(client.play(t, &world.line).await);
            verdict::verdict(t, &world, client.pushed).await
        });
        (Vec::new(), outcome)
    })
}

/// Plays on a thread of its own, with the runtime of the model.
async fn outcome(
    line: fn() -> Line,
    fault: Option<Fault>,
    turns: Arc<Semaphore>,
) -> Result<(Vec<Point>, String), String> {
    let _turn = turns.acquire().await.unwrap();
    let what = format!("{fault:?}");
    let playing = tokio::task::spawn_blocking(move || {
        catch_unwind(AssertUnwindSafe(|| play(line(), fault))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default()
        })
    });
    playing.await.unwrap().map_err(|why| format!("{what}: {why}"))
}

/// Plays the run at every point with every fault: the cells of each point.
async fn play_all(line: fn() -> Line) -> Vec<(Point, Vec<Option<String>>)> {
    let turns = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let (points, unhurt) = outcome(line, None, Arc::clone(&turns)).await.unwrap();
    assert_eq!(unhurt, "as if nothing had happened");
    let rows = points.into_iter().map(|point| {
        let cells = faults(&point).map(|fault| {
            let turns = Arc::clone(&turns);
            async move {
                match fault {
                    Some(fault) => outcome(line, Some(fault), turns)
                        .await
                        .map(|(_, outcome)| Some(outcome)),
                    None => Ok(None),
                }
            }
        });
        async move { (point, futures::future::join_all(cells).await) }
    });
    let rows = futures::future::join_all(rows).await;
    let failures: Vec<&String> = rows
        .iter()
        .flat_map(|(_, cells)| cells.iter().filter_map(|cell| cell.as_ref().err()))
        .collect();
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        table::lines(&failures)
    );
    rows.into_iter()
        .map(|(point, cells)| (point, cells.into_iter().map(Result::unwrap).collect()))
        .collect()
}

/// An engine that others write to as well has no transactions: each write is a point of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_at_any_point_of_a_shared_engine() {
    assert!(play_all(Line::shared).await.len() > 50);
}

/// Nothing is lost at any point. The outcomes are written down; `UPDATE_FILES=1` writes them anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_at_any_point() {
    let rows = play_all(Line::default).await;
    // Which of two calls at once is ahead differs from run to run, and with it the text of a few cells. What must hold in
    // each was asserted above, so the table is written on request and only its words are compared.
    let table = table::render(&rows);
    if ProcessEnv.var("UPDATE_FILES").is_some() {
        return assert_file("docs/crash-matrix.md", &table);
    }
    let kept = std::fs::read_to_string(root().join("docs/crash-matrix.md")).unwrap();
    assert_eq!(words(&kept), words(&table));
}

/// The text before the rows.
fn words(table: &str) -> &str {
    table.split_once("|---|").unwrap().0
}

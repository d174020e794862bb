//! Each run has its end before the next one begins (contract 02 §3, §7.3).

use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, lines, run, said, user};
use crate::support::spy::Spy;
use crate::support::stub::says;
use crate::support::{TestOptions, three_ways};

three_ways! {
    a_run_that_is_replaced_has_its_end_first,
    an_end_that_was_not_announced_comes_before_the_next_run,
    a_parked_run_is_never_replaced,
}

const HALF_AN_HOUR_MS: i64 = 30 * 60 * 1000;

/// A record that nobody has touched for a while.
async fn untouched(rig: &Rig, state: &str, for_ms: i64) -> Value {
    let updated_at_ms = rig.t.bus().now_ms() - for_ms;
    let append = json!({ "session_id": "s1", "message": user("old"), "entry_id": "old" });
    rig.t.ok("session-tree::append", append).await;
    let record = json!({ "session_id": "s1", "state": state, "turn_count": 1, "run_id": "r",
        "updated_at_ms": updated_at_ms });
    rig.t.set_state("turn_state", "s1", record.clone()).await;
    record
}

fn busy() -> Value {
    json!({ "session_id": "s1", "started": false, "reason": "session_busy" })
}

async fn a_run_that_is_replaced_has_its_end_first() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    untouched(&rig, "assistant_streaming", HALF_AN_HOUR_MS - 60_000).await;
    assert_eq!(rig.start("s1").await, busy());
    untouched(&rig, "assistant_streaming", HALF_AN_HOUR_MS + 60_000).await;
    assert_eq!(rig.start("s1").await["started"], true);
    let seen = lines(&rig.t.ended("s1", 2).await);
    assert_eq!(
        seen[..4],
        [
            "updated failed",
            "complete error",
            "agent_end",
            "updated provisioning"
        ]
    );
    assert_eq!(seen.iter().filter(|line| *line == "agent_end").count(), 2);
    assert_eq!(
        rig.transcript("s1").await.iter().map(said).collect::<Vec<_>>(),
        [
            "user old",
            "assistant from assistant_streaming: the run was abandoned",
            "user hi",
            "assistant ok"
        ]
    );
    rig.t.stop().await;
}

async fn an_end_that_was_not_announced_comes_before_the_next_run() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let record = json!({ "session_id": "s1", "state": "stopped", "turn_count": 1, "run_id": "r",
        "agent_end_emitted": false });
    rig.t.set_state("turn_state", "s1", record).await;
    assert_eq!(rig.start("s1").await["started"], true);
    let seen = lines(&rig.t.ended("s1", 2).await);
    assert_eq!(seen[..2], ["agent_end", "updated provisioning"]);
    assert_eq!(seen.iter().filter(|line| *line == "agent_end").count(), 2);
    rig.t.stop().await;
}

async fn a_parked_run_is_never_replaced() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let record = untouched(&rig, "function_awaiting_approval", 2 * HALF_AN_HOUR_MS).await;
    assert_eq!(rig.start("s1").await, busy());
    assert_eq!(rig.record("s1").await, record);
    rig.t.stop().await;
}

/// A long call keeps the record old while another process is at work on it.
#[tokio::test]
async fn a_run_whose_lease_is_alive_is_not_replaced() {
    let options = TestOptions {
        wrap: Spy::sharing().wrap(),
        ..TestOptions::default()
    };
    let rig = Rig::new(options, |_, _| says(&["ok"])).await;
    let lease = json!({ "nonce": "theirs", "ts": rig.t.bus().now_ms() + 3_600_000 });
    rig.t.set_state("turn_lease", "s1", lease).await;
    let record = untouched(&rig, "assistant_streaming", 2 * HALF_AN_HOUR_MS).await;
    assert_eq!(rig.start("s1").await, busy());
    assert_eq!(rig.record("s1").await, record);
    assert_eq!(rig.t.events("s1").await, Vec::<Value>::new());
    rig.t.stop().await;
}

/// Its first step would wait for the next start of the program.
#[tokio::test]
async fn no_run_is_accepted_while_the_program_stops() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    rig.t.bus().shutdown_token().cancel();
    let refused = rig.t.call("run::start", run("s1")).await;
    let why = "the program is stopping; start the run again once it is back";
    assert_eq!(refused, Err(Error::coded("invocation_failed", why)));
    assert_eq!(rig.record("s1").await, Value::Null);
    assert_eq!(rig.transcript("s1").await, Vec::<Value>::new());
    rig.t.stop().await;
}

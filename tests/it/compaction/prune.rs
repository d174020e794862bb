//! `prune_tool_outputs` through the bus.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{PRUNE, Rig, a, r, u};
use crate::support::stub::says;
use crate::support::{TestOptions, three_ways};

three_ways! {
    c10_case_27_old_outputs_are_dropped,
    c10_case_30_another_pruning_is_busy,
}

fn turns(count: usize, length: usize) -> Vec<Value> {
    (0..count).flat_map(|_| [u(1), a(1), r(length)]).collect()
}

fn result(tokens: u64, parts: u64, scanned: u64) -> Value {
    json!({ "pruned_tokens": tokens, "pruned_parts": parts, "scanned_parts": scanned })
}

async fn prune(rig: &Rig) -> Value {
    rig.ok(PRUNE, json!({ "session_id": "s" })).await
}

async fn c10_case_27_old_outputs_are_dropped() {
    let rig = Rig::start().await;
    let ids = rig.fill(turns(5, 200_000)).await;
    let before = rig.rows().await;
    assert_eq!(prune(&rig).await, result(150_000, 3, 3));
    let rows = rig.rows().await;
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row["entry_id"], ids[at]);
        if [2, 5, 8].contains(&at) {
            let message = &row["message"];
            assert_eq!(
                message["content"],
                json!([{ "type": "text", "text": "[output pruned]" }])
            );
            assert!(message["details"]["compacted_at"].is_i64());
            assert_eq!(
                (&message["function_call_id"], &message["is_error"]),
                (&json!("fc"), &json!(false))
            );
        } else {
            assert_eq!(row, &before[at]);
        }
    }
    // What was pruned is not looked at again (weakness 15).
    assert_eq!(prune(&rig).await, result(0, 0, 0));
    assert_eq!(rig.rows().await, rows);
    rig.stop().await;
}

#[tokio::test]
async fn c10_case_28_29_small_gains_and_protected_functions_are_left() {
    let mut options = TestOptions::default();
    options.config.compaction.prune_protected_tools = vec!["shell::fs::cat".to_owned()];
    for (options, count, expected) in [
        (TestOptions::default(), 5, result(0, 0, 3)),
        (TestOptions::default(), 6, result(30_000, 2, 4)),
        (options, 6, result(0, 0, 0)),
    ] {
        let rig = Rig::with(options, |_, _| says(&["SUM"])).await;
        rig.fill(turns(count, 60_000)).await;
        assert_eq!(prune(&rig).await, expected);
        let pruned = rig
            .rows()
            .await
            .iter()
            .filter(|row| row.to_string().contains("[output pruned]"))
            .count();
        assert_eq!(json!(pruned), expected["pruned_parts"]);
        rig.stop().await;
    }
}

async fn c10_case_30_another_pruning_is_busy() {
    let rig = Rig::start().await;
    rig.fill(turns(5, 200_000)).await;
    let foreign = json!({ "nonce": "x", "ts": rig.bus().now_ms() });
    rig.set_state("prune_lease", "s", foreign.clone()).await;
    let mut busy = result(0, 0, 0);
    busy["busy"] = json!(true);
    assert_eq!(prune(&rig).await, busy);
    assert_eq!(rig.state("prune_lease", "s").await, foreign);
    // A compaction prunes all the same.
    assert_eq!(rig.compact().await["status"], "ok");
    assert!(rig.rows().await[2].to_string().contains("[output pruned]"));
    rig.stop().await;
}

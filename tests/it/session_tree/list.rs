//! The list of sessions.

use std::collections::HashMap;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{entry, ids, list};
use crate::session_rig::{Rig, T0, a, r, u};
use crate::support::three_ways;

three_ways! {
    c06_case_25_list_pages,
    c06_case_25_newest_first_within_one_millisecond,
    c06_case_25_equal_times_never_overlap_pages,
    c06_case_26_append_brings_a_session_to_the_front,
    c06_case_27_a_result_has_no_summary,
    a_cold_list_counts_only_the_sessions_of_its_page_that_do_not_say,
    a_session_whose_entries_cannot_be_read_is_listed,
}

async fn c06_case_25_list_pages() {
    let rig = Rig::start().await;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(rig.session().await);
        rig.clock.advance(10);
    }
    let newest_first: Vec<&str> = sessions.iter().rev().map(String::as_str).collect();
    let oldest_first: Vec<&str> = sessions.iter().map(String::as_str).collect();
    let cases = [
        (json!({}), &newest_first[..]),
        (json!({"limit": 5}), &newest_first[..5]),
        (json!({"limit": 5, "offset": 10}), &newest_first[10..]),
        (json!({"offset": 12}), &[]),
        (json!({"limit": 0}), &[]),
        (json!({"limit": -1}), &[]),
        (json!({"limit": 2.9, "offset": 1.9}), &newest_first[1..3]),
        (json!({"offset": -4, "limit": 1}), &newest_first[..1]),
        (json!({"limit": "3"}), &newest_first[..]),
        (json!({"order": "asc"}), &oldest_first[..]),
        (json!({"order": "asc", "limit": 1}), &oldest_first[..1]),
        (json!({"order": "x"}), &newest_first[..]),
        (json!({"order": 7}), &newest_first[..]),
        (json!("x"), &newest_first[..]),
        (Value::Null, &newest_first[..]),
    ];
    for (request, expected) in cases {
        let reply = list(&rig, request.clone()).await;
        assert_eq!(ids(&reply), expected, "{request}");
        assert_eq!(reply["total"], json!(12));
    }
}

async fn c06_case_25_newest_first_within_one_millisecond() {
    let rig = Rig::start().await;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(rig.session().await);
    }
    sessions.reverse();
    assert_eq!(ids(&list(&rig, json!({})).await), sessions);
}

async fn c06_case_25_equal_times_never_overlap_pages() {
    let rig = Rig::start().await;
    for n in 0..7 {
        let id = format!("s{n}");
        let row = json!({"session_id": id, "created_at": 5, "updated_at": 5, "branch_count": 1});
        let request = json!({"scope": "session_tree_meta", "key": id, "value": row});
        rig.call("state::set", request).await.unwrap();
    }
    let mut seen = Vec::new();
    for offset in 0..7 {
        let page = list(&rig, json!({"limit": 1, "offset": offset})).await;
        seen.extend(ids(&page).into_iter().map(str::to_owned));
    }
    assert_eq!(seen, ["s6", "s5", "s4", "s3", "s2", "s1", "s0"]);
}

async fn c06_case_26_append_brings_a_session_to_the_front() {
    let rig = Rig::start().await;
    let oldest = rig.session().await;
    rig.append(&oldest, u("before"), None).await;
    rig.session().await;
    let text = "ü".repeat(200);
    rig.append(&oldest, a(&text), None).await;
    for rig in [rig.clone(), rig.reborn().await] {
        rig.clear();
        let reply = list(&rig, json!({"limit": 1})).await;
        let row = &reply["sessions"][0];
        assert_eq!(row["session_id"], json!(oldest));
        assert_eq!(row["entry_count"], json!(2));
        assert_eq!(row["last_message_summary"], json!("ü".repeat(80)));
        assert_eq!(rig.counts(), HashMap::from([("state::list".to_owned(), 1)]));
    }
}

async fn c06_case_27_a_result_has_no_summary() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.append(&session, u("words"), None).await;
    rig.append(&session, r("result"), None).await;
    for rig in [rig.clone(), rig.reborn().await] {
        let reply = list(&rig, json!({})).await;
        assert_eq!(
            reply["sessions"],
            json!([{"session_id": session, "created_at": T0, "updated_at": T0 + 2, "entry_count": 2}])
        );
    }
}

async fn a_cold_list_counts_only_the_sessions_of_its_page_that_do_not_say() {
    let rig = Rig::start().await;
    for n in 0..3 {
        let id = format!("told{n}");
        rig.append(&id, u("x"), None).await;
        rig.clock.advance(10);
    }
    for n in 0..3 {
        let id = format!("hand{n}");
        let row = json!({"session_id": id, "created_at": n, "updated_at": n});
        let request = json!({"scope": "session_tree_meta", "key": id, "value": row});
        rig.call("state::set", request).await.unwrap();
        rig.write_row(&id, entry("e", None, 1)).await;
    }
    let cold = rig.reborn().await;
    let reply = list(&cold, json!({"limit": 4})).await;
    assert_eq!(ids(&reply), ["told2", "told1", "told0", "hand2"]);
    for row in reply["sessions"].as_array().unwrap() {
        assert_eq!(row["entry_count"], json!(1));
    }
    assert_eq!(reply["sessions"][3]["last_message_summary"], json!("e"));
    assert_eq!(cold.counts(), HashMap::from([("state::list".to_owned(), 2)]));
}

async fn a_session_whose_entries_cannot_be_read_is_listed() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.write_row(&session, entry("a", None, 1)).await;
    rig.fail(Some(&format!("session_tree:{session}")));
    let row = json!({"session_id": session, "created_at": T0, "updated_at": T0, "entry_count": 0});
    assert_eq!(
        list(&rig, json!({})).await,
        json!({"sessions": [row], "total": 1})
    );
}

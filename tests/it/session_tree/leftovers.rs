//! What the whole program keeps of a session, and that it goes with it.

use harness::config::StoreBackend;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::spy::Spy;
use crate::support::stub::{Out, calls, says};
use crate::support::{TestOptions, three_ways};
use crate::turn::Rig;

three_ways! {
    nothing_of_a_deleted_session_is_left,
}

/// A session with everything that one can have.
const GONE: &str = "session-to-go";

/// One of which nothing may change.
const STAYS: &str = "session-to-go-on";

async fn rig(options: TestOptions) -> Rig {
    let options = TestOptions {
        rules: Some("rules: [free]"),
        ..options
    };
    Rig::new(options, answer).await
}

/// A call that somebody has to allow, then an end; a summary when one is wanted.
fn answer(_: usize, request: &Value) -> Vec<Out> {
    let messages = request["messages"].as_array().unwrap();
    if request["system_prompt"]
        .as_str()
        .is_some_and(|text| text.contains("anchored summary"))
    {
        return says(&["SUM"]);
    }
    match messages.last().unwrap()["role"].as_str() {
        Some("function_result") => says(&["done"]),
        _ => calls(&[("c", "asked", json!({}))]),
    }
}

impl Rig {
    /// Fills a session: a run with a call that was allowed twice, settings, inboxes, a compaction.
    async fn fill(&self, session: &str) {
        self.start(session).await;
        self.t.reaches(session, "function_awaiting_approval").await;
        self.decide(session, "c", "allow", None).await;
        self.t.reaches(session, "stopped").await;
        let mode = json!({ "session_id": session, "mode": "full" });
        self.t.ok("approval::set_mode", mode).await;
        self.push(session).await;
        let model = json!({ "id": "m", "providerID": "stub", "limit": { "context": 100_000 } });
        let compact = json!({ "session_id": session, "model": model });
        let reply = self.t.ok("context-compaction::compact_session", compact).await;
        assert_eq!(reply["status"], "ok", "{reply}");
    }

    async fn push(&self, session: &str) {
        for name in ["steering", "followup", "notes", "more"] {
            let push = json!({ "session_id": session, "name": name, "item": { "for": session } });
            assert_eq!(self.t.ok("session-inbox::push", push).await["length"], 1);
        }
    }

    /// The rows of a session, but for its decided calls. The epochs of a lease that is given back are no part of it.
    async fn kept(&self, session: &str) -> Vec<(String, Value)> {
        let own = [
            "approval_settings",
            "approvals",
            "compaction_lease",
            "inbox_names",
            "last_compaction_at",
            "prune_lease",
            "run_request",
            "session_tree_meta",
            "turn_lease",
            "turn_state",
        ];
        let own = own.map(|scope| (scope.to_owned(), session.to_owned()));
        let names = ["steering", "followup", "notes", "more"];
        let inboxes = names.map(|name| ("inbox".to_owned(), format!("{session}/{name}")));
        let mut kept = Vec::new();
        for (scope, key) in own.into_iter().chain(inboxes) {
            let row = self.t.state(&scope, &key).await;
            let is_held = row["nonce"].is_string();
            if !row.is_null() && (is_held || !scope.ends_with("_lease")) {
                kept.push((format!("{scope}/{key}"), row));
            }
        }
        let entries = json!({ "scope": format!("session_tree:{session}") });
        let entries = self.t.ok("state::list", entries).await;
        let entries = entries.as_array().unwrap().iter();
        kept.extend(entries.map(|row| ("entry".to_owned(), row.clone())));
        kept
    }
}

fn delete(session: &str) -> Value {
    json!({ "session_id": session })
}

async fn nothing_of_a_deleted_session_is_left() {
    let rig = rig(TestOptions::default()).await;
    rig.t.record("asked", json!({ "ok": true }));
    for session in [GONE, STAYS] {
        rig.fill(session).await;
    }
    let before = rig.kept(STAYS).await;
    let scopes: Vec<&str> = before
        .iter()
        .map(|(place, _)| place.split('/').next().unwrap())
        .collect();
    assert_eq!(
        scopes[..9],
        [
            "approval_settings",
            "inbox_names",
            "last_compaction_at",
            "run_request",
            "session_tree_meta",
            "turn_state",
            "inbox",
            "inbox",
            "inbox"
        ]
    );
    let reply = rig.t.ok("session-tree::delete", delete(GONE)).await;
    assert_eq!(reply["deleted"], true);
    assert_eq!(rig.kept(GONE).await, Vec::new());
    assert_eq!(rig.kept(STAYS).await, before);

    // A session of that name begins anew.
    let settings = json!({ "session_id": GONE });
    let settings = rig.t.ok("approval::get_settings", settings).await;
    assert_eq!(settings["mode"], "manual", "{settings}");
    assert_eq!(rig.t.ok("turn::get_state", delete(GONE)).await, Value::Null);
    rig.push(GONE).await;
    rig.t.stop().await;
}

/// Whatever the first attempt did not do, the second one does.
#[tokio::test]
async fn a_delete_that_was_cut_short_is_finished_by_the_next_one() {
    for spy in [Spy::default(), Spy::sharing()] {
        let options = TestOptions {
            wrap: spy.wrap(),
            ..TestOptions::default()
        };
        let rig = rig(options).await;
        rig.t.record("asked", json!({ "ok": true }));
        let mut cuts = 0;
        loop {
            let session = format!("{GONE}-{cuts}");
            rig.fill(&session).await;
            let mut left = cuts;
            // From that operation on the store is away.
            spy.fail_when(move |_| {
                let fails = left == 0;
                left -= usize::from(!fails);
                fails
            });
            let outcome = rig.t.call("session-tree::delete", delete(&session)).await;
            spy.heal();
            let whole = outcome.is_ok();
            rig.t.ok("session-tree::delete", delete(&session)).await;
            assert_eq!(rig.kept(&session).await, Vec::new(), "after {cuts}");
            if whole {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 2, "{cuts}");
        rig.t.stop().await;
    }
}

#[tokio::test]
async fn what_is_kept_in_memory_goes_too() {
    let mut options = TestOptions::default();
    options.config.session.store_backend = StoreBackend::Memory;
    let rig = rig(options).await;
    // The first id is a part of the second one.
    let (gone, stays) = ("a", "a/b");
    for session in [gone, stays] {
        rig.push(session).await;
    }
    rig.t.ok("session-tree::delete", delete(gone)).await;
    let peek = |session: &str, name: &str| json!({ "session_id": session, "name": name });
    for name in ["steering", "notes"] {
        let reply = rig.t.ok("session-inbox::peek", peek(gone, name)).await;
        assert_eq!(reply, json!({ "items": [] }));
        let reply = rig.t.ok("session-inbox::peek", peek(stays, name)).await;
        assert_eq!(reply, json!({ "items": [{ "for": stays }] }));
    }
    rig.t.stop().await;
}

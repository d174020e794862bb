//! What only a clock brings about: graces, limits, and looks that nobody asked for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::calls::details;
use super::{Rig, of_type, run};
use crate::support::TestOptions;
use crate::support::outsider::Writer;
use crate::support::spy::Spy;
use crate::support::stub::{Door, Out, calls_then_ends, message, says};
use crate::support::timed::{leap, settle};

/// A provider that says half of something; what it does with its channel then is up to the test.
async fn halfway<R>(rig: &Rig, then: impl Fn(Writer) -> R + Send + Sync + 'static)
where
    R: Future<Output = ()> + Send + 'static,
{
    let writers = rig.t.writers();
    let then = Arc::new(then);
    rig.t.serve("provider::half::stream", move |request| {
        let (writers, then) = (writers.clone(), Arc::clone(&then));
        async move {
            let writer = writers.open(&request["writer_ref"]).await?;
            let partial = message(json!([{ "type": "text", "text": "half" }]), "end");
            let event = json!({ "type": "text_delta", "delta": "half", "partial": partial });
            writer.send(event.to_string()).await?;
            then(writer).await;
            Ok(json!({ "ok": true }))
        }
    });
    let mut request = run("s1");
    request["provider"] = json!("half");
    rig.t.ok("run::start", request).await;
}

/// How the turn of [`halfway`] ended: text, stop reason and why.
async fn end(rig: &Rig) -> [Value; 3] {
    let events = rig.t.ended("s1", 1).await;
    let message = &of_type(&events, "message_complete")[0]["message"];
    [
        message["content"][0]["text"].clone(),
        message["stop_reason"].clone(),
        message["error_message"].clone(),
    ]
}

#[tokio::test]
async fn c02_weakness_8_a_provider_that_returns_and_leaves_its_channel_open_ends_the_turn() {
    let rig = Rig::allowing(|_, _| Vec::new()).await;
    let open: Arc<Mutex<Vec<Writer>>> = Arc::default();
    let kept = Arc::clone(&open);
    halfway(&rig, move |writer| {
        kept.lock().unwrap().push(writer);
        std::future::ready(())
    })
    .await;
    rig.t
        .eventually(async || (open.lock().unwrap().len() == 1).then_some(()))
        .await;
    settle().await;
    leap(Duration::from_secs(6)).await;
    let expected = ["half", "error", "provider channel closed without final"];
    assert_eq!(end(&rig).await, expected.map(Value::from));
    rig.t.stop().await;
}

#[tokio::test]
async fn a_stop_is_seen_while_a_provider_has_closed_its_channel_and_not_returned() {
    let rig = Rig::allowing(|_, _| Vec::new()).await;
    let (closed, door) = (Door::closed(), Door::closed());
    let (says_so, held) = (closed.clone(), door.clone());
    halfway(&rig, move |writer| {
        let (says_so, held) = (says_so.clone(), held.clone());
        async move {
            writer.close().await;
            says_so.open();
            held.pass().await;
        }
    })
    .await;
    closed.pass().await;
    settle().await;
    rig.t.ok("run::abort", json!({ "session_id": "s1" })).await;
    let expected = ["half", "aborted", "aborted"];
    assert_eq!(end(&rig).await, expected.map(Value::from));
    door.open();
    rig.t.stop().await;
}

#[tokio::test]
async fn c02_case_22_a_policy_that_takes_too_long_denies() {
    let options = TestOptions {
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    let rig = Rig::new(options, calls_then_ends(vec![("A", "f", json!({}))])).await;
    let target = rig.t.record("f", json!({}));
    rig.t.bus().unregister("policy::check_permissions");
    let (asked, door) = (Door::closed(), Door::closed());
    let (says_so, held) = (asked.clone(), door.clone());
    rig.t.serve("policy::check_permissions", move |_| {
        let (says_so, held) = (says_so.clone(), held.clone());
        async move {
            says_so.open();
            held.pass().await;
            Ok(json!({ "decision": "allow" }))
        }
    });
    rig.start("s1").await;
    asked.pass().await;
    leap(Duration::from_secs(6)).await;
    let events = rig.t.ended("s1", 1).await;
    let denied = details(&events, "A");
    assert_eq!(
        (&denied["denied_by"], &denied["reason"]),
        (
            &json!("gate_unavailable"),
            &json!("policy unreachable: policy::check_permissions timed out after 5000 ms")
        )
    );
    assert_eq!(target.count(), 0);
    door.open();
    rig.t.stop().await;
}

/// The event of the row may be lost: it is sent once, to whoever is there.
#[tokio::test]
async fn a_wish_to_stop_that_no_event_tells_of_is_found() {
    let door = Door::closed();
    let held = door.clone();
    let options = TestOptions {
        wrap: Spy::sharing().wrap(),
        ..TestOptions::default()
    };
    let rig = Rig::new(options, move |number, _| match number {
        0 => vec![Out::Wait(held.clone())],
        _ => says(&["ok"]),
    })
    .await;
    rig.start("s1").await;
    rig.stub.asked(&rig.t, 1).await;
    rig.t.bus().unregister("turn::on_approval");
    let run = rig.record("s1").await["run_id"].clone();
    let wish = json!({ "decision": "aborted", "reason": null, "run_id": run });
    rig.t.set_state("approvals", "s1", wish).await;
    leap(Duration::from_secs(11)).await;
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(
        of_type(&events, "message_complete")[0]["message"]["stop_reason"],
        "aborted"
    );
    door.open();
    rig.t.stop().await;
}

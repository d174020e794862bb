//! A store in which every write takes another time: what belongs together keeps its order (field lesson D10).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use harness::bus::{CallFuture, Invocation, Transport, Write, commit_apart};
use pretty_assertions::assert_eq;
use serde_json::json;
use tokio::time::sleep;

use super::{Rig, of_type, said, user};
use crate::support::TestOptions;
use crate::support::pass_on::pass_on_to;
use crate::support::stub::calls_then_ends;

/// Most time for one write.
const LONGEST_MS: u64 = 12;

struct Slow {
    inner: Arc<dyn Transport>,
    /// Of the times that writes take.
    seed: Arc<AtomicU64>,
    /// Others write too: nothing is committed at once.
    shares: bool,
}

/// Another pause each time.
fn pause(seed: &AtomicU64) -> Duration {
    // A step of a linear congruential generator; its upper bits are the better ones.
    let step = |x: u64| {
        Some(
            x.wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407),
        )
    };
    let before = seed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step);
    Duration::from_millis((before.unwrap() >> 40) % LONGEST_MS)
}

fn is_write(id: &str) -> bool {
    matches!(
        id,
        "state::set" | "state::update" | "state::delete" | "stream::set"
    )
}

impl Transport for Slow {
    pass_on_to!(inner);

    fn call(&self, invocation: Invocation) -> CallFuture {
        if !is_write(&invocation.function_id) {
            return self.inner.call(invocation);
        }
        let (inner, pause) = (Arc::clone(&self.inner), pause(&self.seed));
        async move {
            sleep(pause).await;
            inner.call(invocation).await
        }
        .boxed()
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        let (inner, seed) = (Arc::clone(&self.inner), Arc::clone(&self.seed));
        if !self.shares {
            return async move {
                sleep(pause(&seed)).await;
                inner.commit(writes).await
            }
            .boxed();
        }
        let slowly = move |invocation: Invocation| {
            let (inner, pause) = (Arc::clone(&inner), pause(&seed));
            async move {
                sleep(pause).await;
                inner.call(invocation).await
            }
            .boxed()
        };
        commit_apart(slowly, writes)
    }

    fn is_exclusive(&self) -> bool {
        !self.shares && self.inner.is_exclusive()
    }
}

#[tokio::test]
async fn d10_results_follow_their_calls_however_slow_each_write_is() {
    for seed in 0..12 {
        in_order(seed, seed % 2 == 0).await;
    }
}

async fn in_order(seed: u64, shares: bool) {
    let wrap = move |inner| -> Arc<dyn Transport> {
        let seed = Arc::new(AtomicU64::new(seed));
        Arc::new(Slow { inner, seed, shares })
    };
    let options = TestOptions {
        wrap: Box::new(wrap),
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    let calls = ["A", "B", "C"].map(|id| (id, "f", json!({}))).to_vec();
    let rig = Rig::new(options, calls_then_ends(calls)).await;
    rig.t.record("f", json!({}));
    rig.start("s1").await;
    let push = json!({ "name": "steering", "session_id": "s1", "item": user("by the way") });
    rig.t.ok("session-inbox::push", push).await;
    rig.t.ended("s1", 1).await;
    let transcript: Vec<String> = rig.transcript("s1").await.iter().map(said).collect();
    let place = |what: &str| transcript.iter().position(|line| line == what);
    let results = ["A {}", "B {}", "C {}"].map(place);
    let first = results[0].unwrap_or_else(|| panic!("seed {seed}: {transcript:?}"));
    assert_eq!(
        results,
        [Some(first), Some(first + 1), Some(first + 2)],
        "seed {seed}: {transcript:?}"
    );
    assert!(first >= 2, "seed {seed}: {transcript:?}");
    let steered = transcript
        .iter()
        .filter(|line| *line == "user by the way")
        .count();
    assert_eq!(steered, 1, "seed {seed}: {transcript:?}");
    let events = rig.t.events("s1").await;
    assert_eq!(of_type(&events, "agent_end").len(), 1, "seed {seed}");
    assert_eq!(events.last().unwrap()["type"], "agent_end", "seed {seed}");
    rig.t.stop().await;
}

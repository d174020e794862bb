//! The lease over an engine that others write to as well.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use futures::future::{BoxFuture, join_all, ready};
use pretty_assertions::assert_eq;

use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep};

use super::*;
use crate::bus::embedded::ops::{Op, apply};
use crate::bus::lease::TTL;
use crate::bus::{CallFuture, EngineInfo, Invocation, Ports, Transport, TriggerSpec};
use crate::clock::ManualClock;
use crate::config::{Config, MapEnv};
use crate::error::Error;
use crate::ids::CountedIds;
use crate::telemetry::Metrics;

const NOW_MS: i64 = 1_780_000_000_000;

/// State of an engine, and under which id it is ours.
#[derive(Clone)]
struct Slow {
    rows: Arc<Mutex<HashMap<String, Value>>>,
    updates_fail: Arc<AtomicBool>,
    owner: watch::Sender<Option<Arc<str>>>,
}

impl Slow {
    fn row(&self, key: &str) -> Value {
        self.rows.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    fn put(&self, key: &str, value: Value) {
        self.rows.lock().unwrap().insert(key.to_owned(), value);
    }
}

impl Transport for Slow {
    fn start(&self, _: Bus) -> CallFuture<()> {
        ready(Ok(())).boxed()
    }

    fn call(&self, invocation: Invocation) -> CallFuture {
        let (slow, request) = (self.clone(), invocation.payload);
        async move {
            assert_eq!(request["scope"], "turn_lease");
            let key = request["key"].as_str().unwrap().to_owned();
            match invocation.function_id.as_str() {
                "state::get" => Ok(slow.row(&key)),
                "state::update" if slow.updates_fail.load(Ordering::SeqCst) => {
                    Err(Error::Unavailable("away".into()))
                }
                "state::update" => {
                    let ops: Vec<Op> = serde_json::from_value(request["ops"].clone()).unwrap();
                    let mut rows = slow.rows.lock().unwrap();
                    let old = rows.get(&key).cloned();
                    let new = apply(old.clone(), &ops).value;
                    rows.insert(key, new.clone());
                    Ok(json!({ "old_value": old, "new_value": new }))
                }
                other => Err(Error::FunctionNotFound(other.to_owned())),
            }
        }
        .boxed()
    }

    fn enqueue(&self, _: &str, invocation: Invocation) -> CallFuture {
        ready(Err(Error::FunctionNotFound(invocation.function_id.to_string()))).boxed()
    }

    fn bind(&self, _: TriggerSpec) -> CallFuture<()> {
        ready(Ok(())).boxed()
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        panic!("{writes:?}")
    }

    fn ownership(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.owner.subscribe()
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            mode: "connect",
            place: "nowhere".into(),
            problem: None,
        }
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}

struct Rig {
    slow: Slow,
    clock: Arc<ManualClock>,
    ids: Arc<CountedIds>,
    epochs: Epochs,
    session: SessionId,
}

impl Rig {
    fn new() -> Self {
        Self {
            slow: Slow {
                rows: Arc::default(),
                updates_fail: Arc::default(),
                owner: watch::Sender::new(None),
            },
            clock: Arc::new(ManualClock::at(NOW_MS)),
            ids: Arc::default(),
            epochs: Epochs::default(),
            session: "s1".into(),
        }
    }

    /// One more process on the engine.
    fn process(&self) -> Bus {
        let ports = Ports {
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            env: Arc::new(MapEnv::default()),
            config: Arc::new(ArcSwap::from_pointee(Config::default())),
            metrics: Metrics::new(),
        };
        Bus::new(ports, Arc::new(self.slow.clone()))
    }

    /// In a process of its own.
    async fn acquire(&self) -> Result<Option<Lease>> {
        Lease::acquire(&self.process(), &self.epochs, &self.session).await
    }

    /// As a process sees it that does not hold it.
    async fn is_held(&self) -> bool {
        Lease::is_held(&self.process(), &self.session).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn c01_case_25_a_lease_is_held_until_it_is_given_back() {
    let rig = Rig::new();
    let lease = rig.acquire().await.unwrap().unwrap();
    assert!(rig.is_held().await);
    assert!(rig.acquire().await.unwrap().is_none());
    lease.release(&rig.process(), &rig.epochs).await.unwrap();
    assert!(!rig.is_held().await);
    assert_eq!(rig.epochs.next(&rig.session), 2);
    let lease = rig.acquire().await.unwrap().unwrap();
    assert_eq!(lease.fence().unwrap().epoch(), 2);
}

#[tokio::test(start_paused = true)]
async fn c01_case_25_rows_of_others_count_for_their_time() {
    let rig = Rig::new();
    let foreign = |age_ms: i64| json!({ "nonce": "theirs", "ts": NOW_MS - age_ms });
    rig.slow.put("s1", foreign(29_999));
    assert!(rig.is_held().await);
    assert!(rig.acquire().await.unwrap().is_none());
    assert!(rig.is_held().await, "an attempt changes nothing");
    rig.slow.put("s1", foreign(30_000));
    assert!(!rig.is_held().await);
    assert!(rig.acquire().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn c01_case_26_an_outage_is_no_win() {
    let rig = Rig::new();
    rig.slow.updates_fail.store(true, Ordering::SeqCst);
    for outcome in join_all((0..4).map(|_| rig.acquire())).await {
        assert!(!matches!(outcome, Ok(Some(_))), "{outcome:?}");
    }
    assert_eq!(rig.slow.row("s1"), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_held_lease_is_renewed_until_it_is_dropped() {
    let rig = Rig::new();
    let lease = rig.acquire().await.unwrap().unwrap();
    rig.clock.advance(25_000);
    sleep(TTL / 2).await;
    assert_eq!(rig.slow.row("s1")["1"]["renewed"], NOW_MS + 25_000);
    drop(lease);
    rig.clock.advance(25_000);
    sleep(TTL).await;
    assert_eq!(rig.slow.row("s1")["1"]["renewed"], NOW_MS + 25_000);
    rig.clock.advance(5_000);
    assert!(!rig.is_held().await);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_renewed_is_lost_before_others_may_take_it() {
    let rig = Rig::new();
    let lease = rig.acquire().await.unwrap().unwrap();
    let fence = lease.fence().unwrap().clone();
    rig.slow.updates_fail.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(24)).await;
    assert!(!fence.is_lost());
    let guarded = fence.guard(sleep(Duration::from_hours(1)));
    let began = Instant::now();
    assert_eq!(guarded.await, None);
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_own_the_engine_any_more_has_lost_its_sessions() {
    let rig = Rig::new();
    rig.slow.owner.send_replace(Some("harness/us".into()));
    let lease = rig.acquire().await.unwrap().unwrap();
    let fence = lease.fence().unwrap().clone();
    assert!(rig.is_held().await);
    // Programs of other names do not order who has what here.
    rig.slow.owner.send_replace(Some("other/them".into()));
    assert!(rig.is_held().await);
    // The next owner need not wait for it.
    rig.slow.owner.send_replace(Some("harness/them".into()));
    assert!(!rig.is_held().await);
    assert_eq!(fence.guard(sleep(TTL / 10)).await, None);
    assert_eq!(rig.acquire().await.unwrap().unwrap().fence().unwrap().epoch(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_process_could_not_give_back_does_not_bind_itself() {
    let rig = Rig::new();
    let (bus, session) = (rig.process(), &rig.session);
    drop(Lease::acquire(&bus, &rig.epochs, session).await.unwrap().unwrap());
    assert!(rig.is_held().await);
    assert!(!Lease::is_held(&bus, session).await.unwrap());
    let lease = Lease::acquire(&bus, &rig.epochs, session).await.unwrap().unwrap();
    assert_eq!(lease.fence().unwrap().epoch(), 2);
}

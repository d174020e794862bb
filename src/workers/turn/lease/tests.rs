//! The lease over an engine that others write to as well.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all, ready};
use pretty_assertions::assert_eq;

use super::*;
use crate::bus::{CallFuture, EngineInfo, Invocation, Ports, Transport, TriggerSpec};
use crate::clock::ManualClock;
use crate::config::{Config, MapEnv};
use crate::error::Error;
use crate::ids::CountedIds;
use crate::telemetry::Metrics;

const NOW_MS: i64 = 1_780_000_000_000;
const LATENCY: Duration = Duration::from_millis(10);

/// State of an engine: a write takes a while, and is atomic when it happens.
#[derive(Clone, Default)]
struct Slow {
    rows: Arc<Mutex<HashMap<String, Value>>>,
    updates_fail: Arc<AtomicBool>,
}

impl Slow {
    fn row(&self, key: &str) -> Value {
        self.rows.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    fn put(&self, key: &str, value: Value) -> Value {
        let old = self.rows.lock().unwrap().insert(key.to_owned(), value);
        old.unwrap_or_default()
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
                    tokio::time::sleep(LATENCY).await;
                    assert_eq!(
                        (&request["ops"][0]["type"], &request["ops"][0]["path"]),
                        (&json!("set"), &json!(""))
                    );
                    let old = slow.put(&key, request["ops"][0]["value"].clone());
                    Ok(json!({ "old_value": old, "new_value": slow.row(&key) }))
                }
                "state::set" => {
                    tokio::time::sleep(LATENCY).await;
                    Ok(json!({ "old_value": slow.put(&key, request["value"].clone()) }))
                }
                "state::delete" => Ok(slow.rows.lock().unwrap().remove(&key).unwrap_or_default()),
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
        for write in writes {
            let Write::StateSet { scope, key, value } = write else {
                panic!("{write:?}")
            };
            assert_eq!(scope, "turn_lease");
            self.put(&key, value.as_ref().clone());
        }
        ready(Ok(())).boxed()
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
    session: SessionId,
}

impl Rig {
    fn new() -> Self {
        Self {
            slow: Slow::default(),
            clock: Arc::new(ManualClock::at(NOW_MS)),
            ids: Arc::default(),
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
        Lease::acquire(&self.process(), &self.session).await
    }

    /// As a process sees it that does not hold it.
    async fn is_held(&self) -> bool {
        Lease::is_held(&self.process(), &self.session).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn c01_case_24_of_several_at_once_exactly_one_wins() {
    for rivals in [2, 8] {
        let rig = Rig::new();
        let outcomes = join_all((0..rivals).map(|_| rig.acquire())).await;
        let won: Vec<Lease> = outcomes.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(won.len(), 1, "of {rivals}");
        assert!(rig.is_held().await);
        if rivals == 2 {
            // The loser put the winner's row back.
            assert_eq!(rig.slow.row("s1")["nonce"], won[0].nonce.as_str());
        }
        assert!(rig.acquire().await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn c01_case_25_old_leases_are_stolen_and_only_ones_own_is_released() {
    let rig = Rig::new();
    let foreign = |age_ms: i64| json!({ "nonce": "theirs", "ts": NOW_MS - age_ms });
    rig.slow.put("s1", foreign(29_999));
    assert!(rig.acquire().await.unwrap().is_none());
    assert_eq!(rig.slow.row("s1"), foreign(29_999));

    rig.slow.put("s1", foreign(30_000));
    assert!(!rig.is_held().await);
    let lease = rig.acquire().await.unwrap().unwrap();
    assert_eq!(rig.slow.row("s1"), json!({ "nonce": lease.nonce, "ts": NOW_MS }));

    rig.slow.put("s1", foreign(0));
    lease.release(&rig.process()).await.unwrap();
    assert_eq!(rig.slow.row("s1"), foreign(0));

    rig.slow.put("s1", Value::Null);
    let lease = rig.acquire().await.unwrap().unwrap();
    lease.release(&rig.process()).await.unwrap();
    assert!(!rig.is_held().await);
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
    tokio::time::sleep(RENEW_EVERY + LATENCY).await;
    assert_eq!(
        rig.slow.row("s1"),
        json!({ "nonce": lease.nonce, "ts": NOW_MS + 25_000 })
    );
    rig.clock.advance(25_000);
    assert!(rig.is_held().await);
    drop(lease);
    tokio::time::sleep(RENEW_EVERY * 3).await;
    assert_eq!(rig.slow.row("s1")["ts"], NOW_MS + 25_000);
    rig.clock.advance(5_000);
    assert!(!rig.is_held().await);
}

#[tokio::test(start_paused = true)]
async fn what_a_process_could_not_give_back_does_not_bind_itself() {
    let rig = Rig::new();
    let (bus, session) = (rig.process(), &rig.session);
    drop(Lease::acquire(&bus, session).await.unwrap().unwrap());
    assert!(rig.is_held().await);
    assert!(!Lease::is_held(&bus, session).await.unwrap());
    let lease = Lease::acquire(&bus, session).await.unwrap().unwrap();
    assert_eq!(rig.slow.row("s1")["nonce"], lease.nonce.as_str());
}

//! Rivals for one lease under every kind of delay, against the one thing that must hold: no two of them count at a time.

use std::collections::{HashMap, VecDeque};

use futures::FutureExt;
use futures::future::join_all;
use pretty_assertions::assert_eq;
use serde_json::json;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

use super::*;
use crate::bus::claim::tests::update;

const TTL_MS: i64 = 30_000;

/// A generator of the test's own, so that a seed says everything.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Mostly short, seldom very long.
    fn delay(&mut self) -> Duration {
        let bound = [20, 20, 20, 2_000, 12_000, 90_000][usize::try_from(self.below(6)).unwrap()];
        Duration::from_millis(self.below(bound))
    }
}

/// An engine that performs what was sent at some time, whatever became of the sender, and answers at some later one.
#[derive(Clone)]
struct Slow(Arc<Shared>);

/// When it arrives, what it does, how long the answer takes, and who waits for it.
type Sent = (Instant, Value, Duration, oneshot::Sender<(Duration, Value)>);

struct Shared {
    began: Instant,
    dice: Mutex<Dice>,
    row: Mutex<Option<Value>>,
    sent: Mutex<VecDeque<Sent>>,
    news: Notify,
    /// Who counts now.
    counting: Mutex<HashMap<u64, Lease>>,
    takes: AtomicU64,
}

impl Slow {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Shared {
            began: Instant::now(),
            dice: Mutex::new(Dice(seed)),
            row: Mutex::default(),
            sent: Mutex::default(),
            news: Notify::new(),
            counting: Mutex::default(),
            takes: AtomicU64::new(0),
        }))
    }

    fn roll<T>(&self, roll: impl FnOnce(&mut Dice) -> T) -> T {
        roll(&mut self.0.dice.lock().unwrap())
    }

    fn update(&self, ops: Value) -> CallFuture {
        let (there, back) = self.roll(|dice| (dice.delay(), dice.delay()));
        let (answer, answered) = oneshot::channel();
        let due = Instant::now() + there;
        self.0.sent.lock().unwrap().push_back((due, ops, back, answer));
        self.0.news.notify_one();
        async move {
            let (back, reply) = answered.await.map_err(|_| Error::Disconnected)?;
            sleep(back).await;
            Ok(reply)
        }
        .boxed()
    }

    async fn run(&self) {
        loop {
            let due = self.0.sent.lock().unwrap().iter().map(|(due, ..)| *due).min();
            let Some(due) = due else {
                self.0.news.notified().await;
                continue;
            };
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.0.news.notified() => continue,
            }
            let arrived = {
                let mut sent = self.0.sent.lock().unwrap();
                let place = sent.iter().position(|(at, ..)| *at == due).unwrap();
                sent.remove(place).unwrap()
            };
            let (_, ops, back, answer) = arrived;
            let reply = update(&mut self.0.row.lock().unwrap(), ops);
            answer.send((back, reply)).ok();
        }
    }

    /// Something that must only be done by who has the lease.
    fn effect(&self, rival: u64, lease: &Lease, seed: u64) {
        let mut counting = self.0.counting.lock().unwrap();
        counting.insert(rival, lease.clone());
        let others: Vec<u64> = counting
            .iter()
            .filter(|(other, lease)| **other != rival && !lease.is_lost())
            .map(|(other, _)| *other)
            .collect();
        assert_eq!(others, Vec::<u64>::new(), "beside {rival}, seed {seed}");
    }
}

/// Virtual time, read off a clock that goes wrong by a constant.
struct Skewed(Instant, i64);

impl Clock for Skewed {
    fn now_ms(&self) -> i64 {
        1_780_000_000_000 + self.1 + i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

async fn rival(slow: Slow, me: u64, seed: u64) {
    let skew = i64::try_from(slow.roll(|dice| dice.below(4_000))).unwrap() - 2_000;
    let clock = Arc::new(Skewed(slow.0.began, skew));
    let (engine, judge) = (slow.clone(), Arc::clone(&clock));
    let row = Row {
        update: Arc::new(move |ops| engine.update(ops)),
        is_alive: Arc::new(move |holder: &Holder| holder.is_alive(judge.now_ms(), TTL_MS)),
        clock,
        ttl: TTL,
    };
    let mut next = 1;
    for attempt in 0..12 {
        sleep(slow.roll(Dice::delay)).await;
        let claimant = Claimant {
            nonce: format!("{me}.{attempt}"),
            by: None,
        };
        let first = slow.roll(|dice| [1, next, dice.below(6) + 1][usize::try_from(dice.below(3)).unwrap()]);
        let Ok(Ok(lease)) = Lease::take(row.clone(), claimant, first).await else {
            continue;
        };
        slow.0.takes.fetch_add(1, Ordering::Relaxed);
        next = lease.epoch() + 1;
        work(&slow, me, &lease, seed).await;
    }
}

/// Works under the lease until it is lost, given back, or the process dies with it.
async fn work(slow: &Slow, me: u64, lease: &Lease, seed: u64) {
    let mut keeping = Box::pin(lease.keep());
    for _ in 0..slow.roll(|dice| dice.below(12)) {
        if lease.is_lost() {
            return;
        }
        slow.effect(me, lease, seed);
        let pause = slow.roll(Dice::delay);
        if slow.roll(|dice| dice.below(8)) == 0 {
            // The whole process is held up: nothing is renewed, no timer fires.
            sleep(pause).await;
        } else if tokio::time::timeout(pause, &mut keeping).await.is_ok() {
            return;
        }
    }
    drop(keeping);
    // One in three dies without a word; what it had sent arrives all the same.
    if slow.roll(|dice| dice.below(3)) > 0 {
        slow.0.counting.lock().unwrap().remove(&me);
        lease.release().await.ok();
    }
    lease.give_up();
}

async fn rivals(count: u64, seed: u64) -> u64 {
    let slow = Slow::new(seed);
    let all = join_all((0..count).map(|me| rival(slow.clone(), me, seed)));
    tokio::select! {
        _ = all => {}
        () = slow.run() => {}
    }
    slow.0.takes.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn no_two_rivals_count_at_a_time() {
    let mut takes = 0;
    for seed in 0..60 {
        for count in [2, 3, 5, 9] {
            takes += rivals(count, seed).await;
        }
    }
    assert!(takes > 1_000, "only {takes} leases were taken");
}

#[tokio::test(start_paused = true)]
async fn c01_case_24_of_several_at_once_exactly_one_wins() {
    for count in [2, 8] {
        let slow = Slow::new(count);
        let (engine, clock) = (slow.clone(), Arc::new(Skewed(slow.0.began, 0)));
        let judge = Arc::clone(&clock);
        let row = Row {
            update: Arc::new(move |ops| {
                let reply = update(&mut engine.0.row.lock().unwrap(), ops);
                async move {
                    sleep(Duration::from_millis(10)).await;
                    Ok(reply)
                }
                .boxed()
            }),
            is_alive: Arc::new(move |holder: &Holder| holder.is_alive(judge.now_ms(), TTL_MS)),
            clock,
            ttl: TTL,
        };
        let claims = (0..count).map(|me| {
            let claimant = Claimant {
                nonce: format!("{me}"),
                by: None,
            };
            Lease::take(row.clone(), claimant, 1)
        });
        let won = join_all(claims)
            .await
            .into_iter()
            .filter_map(|taken| taken.unwrap().ok());
        assert_eq!(won.count(), 1, "of {count}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_engine_forgot_is_taken_anew() {
    let slow = Slow::new(0);
    let losses = Arc::new(AtomicI64::new(0));
    let (engine, lost) = (slow.clone(), Arc::clone(&losses));
    let row = Row {
        update: Arc::new(move |ops| {
            let mut row = engine.0.row.lock().unwrap();
            if lost.fetch_add(1, Ordering::Relaxed) == 1 {
                *row = None;
            }
            futures::future::ready(Ok(update(&mut row, ops))).boxed()
        }),
        is_alive: Arc::new(|_| true),
        clock: Arc::new(Skewed(slow.0.began, 0)),
        ttl: TTL,
    };
    let claimant = Claimant {
        nonce: "a".into(),
        by: None,
    };
    let lease = Lease::take(row, claimant, 7).await.unwrap().unwrap();
    assert_eq!(lease.epoch(), 7);
    let kept = tokio::time::timeout(TTL * 10, lease.keep()).await;
    assert!(kept.is_err(), "{kept:?}");
    assert_eq!((lease.is_lost(), lease.epoch()), (false, 1));
    assert_eq!(
        slow.0.row.lock().unwrap().as_ref().unwrap()["1"]["claims"],
        json!([{ "nonce": "a", "ts": 1_780_000_010_000_i64 }])
    );
}

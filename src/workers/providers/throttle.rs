//! How many requests a provider gets at a time and per minute, when the operator limits them: first come, first served.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::ProviderLimits;

const MINUTE: Duration = Duration::from_mins(1);

/// The requests of one provider.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Held by the one who is next. Those behind it wait here, in the order in which they came.
    door: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// A request is over.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    running: u64,
    /// When the requests of the last minute began; empty while no limit is set.
    begun: VecDeque<Instant>,
}

/// A request under way; its place is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Throttle);

impl Throttle {
    /// Waits for a place. `limits` are looked at again whenever something changes, so a new setting counts for those who wait.
    pub(super) async fn enter(&self, limits: impl Fn() -> ProviderLimits) -> Place<'_> {
        let _next = self.door.lock().await;
        loop {
            let limits = limits();
            let Err(wait) = self.try_enter(&limits, Instant::now()) else {
                return Place(self);
            };
            match wait {
                Some(until) => tokio::time::sleep_until(until).await,
                None => self.freed.notified().await,
            }
        }
    }

    /// Takes a place, or says until when there is certainly none; without a time, until a request is over.
    fn try_enter(&self, limits: &ProviderLimits, now: Instant) -> Result<(), Option<Instant>> {
        let mut state = self.state();
        if limits.max_concurrent.is_some_and(|most| state.running >= most) {
            return Err(None);
        }
        match limits.requests_per_minute {
            None => state.begun.clear(),
            Some(most) => {
                while state
                    .begun
                    .front()
                    .is_some_and(|at| now.duration_since(*at) >= MINUTE)
                {
                    state.begun.pop_front();
                }
                let surplus = (state.begun.len() as u64 + 1).saturating_sub(most);
                let oldest = usize::try_from(surplus).ok().and_then(|n| n.checked_sub(1));
                if let Some(at) = oldest.and_then(|n| state.begun.get(n)) {
                    return Err(Some(*at + MINUTE));
                }
                state.begun.push_back(now);
            }
        }
        state.running += 1;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running = state.running.saturating_sub(1);
        drop(state);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::FutureExt;
    use futures::future::join_all;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    fn limits(max_concurrent: Option<u64>, requests_per_minute: Option<u64>) -> ProviderLimits {
        ProviderLimits {
            max_concurrent,
            requests_per_minute,
        }
    }

    #[tokio::test]
    async fn without_limits_nobody_waits() {
        let throttle = Throttle::default();
        let places = join_all((0..1_000).map(|_| throttle.enter(|| limits(None, None)))).await;
        assert_eq!(throttle.state().running, 1_000);
        drop(places);
        assert_eq!(throttle.state().running, 0);
        assert_eq!(throttle.state().begun.len(), 0);
    }

    #[tokio::test]
    async fn places_are_given_in_the_order_of_coming() {
        let throttle = Throttle::default();
        let order = Mutex::new(Vec::new());
        let most = AtomicU64::new(0);
        let turns = (0..20).map(|n| {
            let (throttle, order, most) = (&throttle, &order, &most);
            async move {
                let _place = throttle.enter(|| limits(Some(2), None)).await;
                order.lock().unwrap().push(n);
                most.fetch_max(throttle.state().running, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        join_all(turns).await;
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        assert_eq!(most.into_inner(), 2);
    }

    #[tokio::test]
    async fn who_comes_late_passes_nobody() {
        let throttle = Throttle::default();
        let one = || limits(Some(1), None);
        let first = throttle.enter(one).await;
        let waiting = throttle.enter(one);
        futures::pin_mut!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        // There is a place, and it is not for those who come now.
        let late = throttle.enter(one);
        futures::pin_mut!(late);
        assert!(late.as_mut().now_or_never().is_none());
        let place = waiting.now_or_never().expect("its turn");
        assert!(late.as_mut().now_or_never().is_none());
        drop(place);
        assert!(late.now_or_never().is_some());
    }

    #[tokio::test]
    async fn one_who_gives_up_keeps_nobody_waiting() {
        let throttle = Throttle::default();
        let one = || limits(Some(1), None);
        let first = throttle.enter(one).await;
        {
            let waiting = throttle.enter(one);
            let behind = throttle.enter(one);
            futures::pin_mut!(behind);
            assert!(waiting.now_or_never().is_none());
            assert!(behind.as_mut().now_or_never().is_none());
            drop(first);
            assert!(behind.now_or_never().is_some());
        }
        assert_eq!(throttle.state().running, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_minute_slides() {
        let throttle = Throttle::default();
        let began = Instant::now();
        let two = || limits(None, Some(2));
        let mut seconds = Vec::new();
        for pause in [0, 10, 0, 0, 0] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            drop(throttle.enter(two).await);
            seconds.push(began.elapsed().as_secs());
        }
        assert_eq!(seconds, [0, 10, 60, 70, 120]);
        // Fewer are allowed now: the last two still count.
        drop(throttle.enter(|| limits(None, Some(1))).await);
        assert_eq!(began.elapsed().as_secs(), 180);
        // A limit that is gone holds nobody up.
        assert!(throttle.enter(|| limits(None, None)).now_or_never().is_some());
    }

    /// A request: when it comes after the one before it, how long it waits at most, and how long it takes; seconds.
    type Request = (u64, u64, u64);

    /// Plays requests; answers which of them began and when, in the order of beginning.
    async fn play(requests: Vec<Request>, at_a_time: u64, per_minute: Option<u64>) -> Vec<(usize, Instant)> {
        let throttle = Throttle::default();
        let begun = Mutex::new(Vec::new());
        let mut comes = 0;
        let all = requests
            .into_iter()
            .enumerate()
            .map(|(n, (gap, patience, takes))| {
                comes += gap;
                let (throttle, begun, came) = (&throttle, &begun, Duration::from_secs(comes));
                async move {
                    tokio::time::sleep(came).await;
                    let place = throttle.enter(|| limits(Some(at_a_time), per_minute));
                    // Not at the same moment as anything else.
                    let patience = Duration::from_millis(patience * 1_000 + 500);
                    if let Ok(_place) = tokio::time::timeout(patience, place).await {
                        begun.lock().unwrap().push((n, Instant::now()));
                        assert!(throttle.state().running <= at_a_time);
                        tokio::time::sleep(Duration::from_secs(takes)).await;
                    }
                }
            });
        join_all(all).await;
        assert_eq!(throttle.state().running, 0);
        begun.into_inner().unwrap()
    }

    proptest! {
        /// Whoever waits long enough gets a place, in the order of coming, whatever the others do.
        #[test]
        fn nobody_passes_anybody_and_nobody_starves(
            requests in prop::collection::vec((1_u64..20, prop_oneof![0_u64..90, Just(100_000)], 0_u64..60), 1..40),
            at_a_time in 1_u64..4, per_minute in prop::option::of(1_u64..6),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let patient: Vec<usize> =
                (0..requests.len()).filter(|n| requests[*n].1 == 100_000).collect();
            let begun = runtime.block_on(play(requests, at_a_time, per_minute));
            let order: Vec<usize> = begun.iter().map(|(n, _)| *n).collect();
            prop_assert!(order.is_sorted(), "{order:?}");
            prop_assert!(patient.iter().all(|n| order.contains(n)), "{patient:?} {order:?}");
            if let Some(most) = per_minute {
                for pair in begun.windows(usize::try_from(most).unwrap() + 1) {
                    let (first, last) = (pair[0].1, pair[pair.len() - 1].1);
                    prop_assert!(last.duration_since(first) >= MINUTE);
                }
            }
        }
    }
}

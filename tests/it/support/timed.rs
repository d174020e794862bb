//! An engine whose clock follows tokio time, so that a test can move both at once.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use harness::bus::embedded::EmbeddedOptions;
use harness::clock::Clock;
use harness::config::MapEnv;
use tokio::time::Instant;

use super::engine::{Engine, NOW_MS};

/// Starts at [`NOW_MS`] and goes with tokio time.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now_ms(&self) -> i64 {
        NOW_MS + i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

/// An engine with a clock over tokio time and an environment of its own.
pub(crate) async fn timed_engine(options: EmbeddedOptions, env: MapEnv) -> Engine {
    Engine::with(options, Arc::new(TokioClock(Instant::now())), env).await
}

/// While this lives, tokio time stands still: no timer fires, whoever waits for one waits for ever.
pub(crate) struct Frozen(#[expect(dead_code, reason = "dropping it lets the time go")] mpsc::Sender<()>);

impl Frozen {
    pub(crate) fn start() -> Self {
        let (sender, receiver) = mpsc::channel();
        tokio::time::pause();
        // Paused time leaps forward when all tasks sleep, but not while a blocking task runs. A test that hangs ends by
        // its own deadlines once this gives up.
        tokio::task::spawn_blocking(move || receiver.recv_timeout(Duration::from_mins(1)));
        Self(sender)
    }
}

/// Lets this much time pass at once, for every timer there is.
pub(crate) async fn leap(time: Duration) {
    let frozen = Frozen::start();
    tokio::time::advance(time).await;
    drop(frozen);
    tokio::time::resume();
}

/// Lets everything that can go on without a timer do so.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

//! Bounded repetition with growing pauses (contract 02 §2.1).

use std::time::Duration;

use super::Turns;
use crate::bus::Cx;
use crate::error::{Error, Result};

/// Bounded repetition of something that fails for a passing reason (contract 02 §2.1).
pub(super) struct Backoff {
    cx: Cx<Turns>,
    left: u32,
    pause: Duration,
}

const MAX_PAUSE: Duration = Duration::from_secs(30);

impl Backoff {
    pub(super) fn of(cx: &Cx<Turns>) -> Self {
        let turn = &cx.config().turn;
        Self {
            cx: cx.clone(),
            left: turn.step_retries,
            pause: Duration::from_millis(turn.step_backoff_ms),
        }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The cause itself, when no attempt is left or the process is stopping.
    pub(super) async fn wait(&mut self, cause: Error) -> Result<()> {
        if self.left == 0 {
            return Err(cause);
        }
        tracing::warn!(%cause, pause = ?self.pause, "repeating after a passing failure");
        self.left -= 1;
        let sleep = tokio::time::sleep(self.pause);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        match self.cx.shutdown_token().run_until_cancelled(sleep).await {
            Some(()) => Ok(()),
            None => Err(cause),
        }
    }
}

//! How long a collection lasts (contract 04 §5): until enough is in, or it has been quiet, or the time is up.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::collector::{Collector, Exit, Progress};
use crate::config::HookFanout;
use crate::error::{Error, Result};

/// Longest collection.
const LONGEST: Duration = Duration::from_mins(10);

/// When a collection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// In any case, after this time.
    pub(super) timeout: Duration,
    /// Once so many replies are in.
    pub(super) expected: Option<usize>,
    /// So long after the last reply.
    pub(super) quiescence: Option<Duration>,
}

impl Limits {
    /// What the request asks for, within what there is; times in milliseconds.
    pub(super) fn of(
        timeout_ms: Option<f64>,
        expected_replies: Option<f64>,
        quiescence_ms: Option<f64>,
        config: &HookFanout,
    ) -> Self {
        let or = |wanted: Option<f64>, default| {
            wanted.map_or_else(|| Duration::from_millis(default), milliseconds)
        };
        let quiescence = or(quiescence_ms, config.quiescence_ms);
        Self {
            timeout: or(timeout_ms, config.default_timeout_ms)
                .max(Duration::from_millis(config.min_timeout_ms))
                .min(LONGEST),
            expected: expected_replies.map(whole),
            quiescence: Some(quiescence).filter(|quiet| !quiet.is_zero()),
        }
    }

    /// Whether it is over, or when to look again.
    fn judge(&self, so_far: Progress, deadline: Instant, now: Instant) -> Result<Exit, Instant> {
        if let Some(exit) = so_far.exit {
            return Ok(exit);
        }
        if now >= deadline {
            return Ok(if so_far.count == 0 {
                Exit::DeadlineNoReplies
            } else {
                Exit::Deadline
            });
        }
        let quiet = self.quiescence.and_then(|quiet| so_far.last?.checked_add(quiet));
        match quiet {
            Some(quiet) if now >= quiet => Ok(Exit::Quiescence),
            Some(quiet) => Err(quiet.min(deadline)),
            None => Err(deadline),
        }
    }
}

/// Waits for the end of a collection.
///
/// # Errors
/// Code `replies_too_large`: a reply came that cannot be kept.
pub(super) async fn gather(collector: &Collector, limits: &Limits, deadline: Instant) -> Result<Exit> {
    loop {
        let so_far = collector.progress();
        if let Some(why) = so_far.refused {
            return Err(Error::coded("replies_too_large", why));
        }
        match limits.judge(so_far, deadline, Instant::now()) {
            Ok(exit) => return Ok(exit),
            Err(later) => tokio::select! {
                () = collector.changed() => {}
                () = sleep_until(later) => {}
            },
        }
    }
}

/// A time that somebody sent, at most the longest; a negative one counts as zero.
fn milliseconds(ms: f64) -> Duration {
    let longest = LONGEST.as_secs_f64();
    let seconds = (ms / 1_000.0).min(longest);
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number that does not fit becomes the nearest one that does"
)]
fn whole(number: f64) -> usize {
    number.ceil() as usize
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::collector::Reply;
    use super::super::merge::MergeRule;
    use super::*;
    use crate::config::Config;
    use crate::model::frame::Happened;

    const MS: Duration = Duration::from_millis(1);

    fn limits(timeout: Option<f64>, expected: Option<f64>, quiet: Option<f64>) -> Limits {
        Limits::of(timeout, expected, quiet, &Config::default().hook_fanout)
    }

    #[test]
    fn c04_case_27_times_are_kept_within_bounds() {
        for (timeout, expected) in [
            (None, 10_000),
            (Some(1.0), 50),
            (Some(-1e300), 50),
            (Some(f64::NAN), 600_000),
            (Some(f64::INFINITY), 600_000),
            (Some(1e300), 600_000),
            (Some(600_001.0), 600_000),
            (Some(1_234.0), 1_234),
        ] {
            assert_eq!(limits(timeout, None, None).timeout, expected * MS, "{timeout:?}");
        }
        for (quiet, expected) in [
            (None, Some(200 * MS)),
            (Some(0.0), None),
            (Some(-5.0), None),
            (Some(10.0), Some(10 * MS)),
            (Some(1e300), Some(LONGEST)),
        ] {
            assert_eq!(limits(None, None, quiet).quiescence, expected, "{quiet:?}");
        }
        for (number, expected) in [
            (None, None),
            (Some(2.0), Some(2)),
            (Some(1.5), Some(2)),
            (Some(-3.0), Some(0)),
            (Some(1e300), Some(usize::MAX)),
        ] {
            assert_eq!(limits(None, number, None).expected, expected, "{number:?}");
        }
    }

    proptest! {
        #[test]
        fn any_number_is_a_limit(timeout in any::<f64>(), expected in any::<f64>(), quiet in any::<f64>()) {
            let limits = limits(Some(timeout), Some(expected), Some(quiet));
            prop_assert!((50 * MS..=LONGEST).contains(&limits.timeout));
            prop_assert!(limits.quiescence.is_none_or(|quiet| quiet <= LONGEST));
        }
    }

    /// Replies at these times, in milliseconds from the start; answers the exit and when it came.
    async fn play(rule: MergeRule, limits: Limits, replies: &[(u32, serde_json::Value)]) -> (Exit, u128) {
        let collector = Collector::new(rule, limits.expected);
        let begun = Instant::now();
        let speaking = async {
            for (at, body) in replies {
                sleep_until(begun + *at * MS).await;
                let reply = Reply {
                    item: None,
                    happened: Happened::Created,
                    body: body.clone(),
                };
                collector.take(reply, Instant::now());
            }
            std::future::pending::<()>().await;
        };
        let exit = tokio::select! {
            exit = gather(&collector, &limits, begun + limits.timeout) => exit.unwrap(),
            () = speaking => unreachable!(),
        };
        (exit, begun.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn each_way_to_end() {
        let says = |times: &[u32]| -> Vec<(u32, serde_json::Value)> {
            times.iter().map(|at| (*at, json!({"n": at}))).collect()
        };
        let rule = MergeRule::FirstBlockWins;
        let cases = [
            // Nobody answers: the quiet does not count before the first reply.
            (
                limits(Some(1_000.0), None, Some(10.0)),
                says(&[]),
                Exit::DeadlineNoReplies,
                1_000,
            ),
            (
                limits(Some(1_000.0), None, Some(0.0)),
                says(&[10, 20]),
                Exit::Deadline,
                1_000,
            ),
            (
                limits(Some(1_000.0), None, Some(100.0)),
                says(&[500, 590, 680, 900]),
                Exit::Quiescence,
                780,
            ),
            (
                limits(Some(1_000.0), None, Some(100.0)),
                says(&[950]),
                Exit::Deadline,
                1_000,
            ),
            (
                limits(Some(1_000.0), Some(2.0), Some(9_000.0)),
                says(&[10, 20, 30]),
                Exit::ExpectedReplies,
                20,
            ),
            (
                limits(Some(1_000.0), Some(0.0), None),
                says(&[10]),
                Exit::ExpectedReplies,
                10,
            ),
            (
                limits(Some(1_000.0), Some(3.0), None),
                says(&[10, 20]),
                Exit::Quiescence,
                220,
            ),
        ];
        for (limits, replies, exit, after) in cases {
            assert_eq!(play(rule, limits, &replies).await, (exit, after));
        }
        let block = [
            (10, json!({"block": false})),
            (20, json!({"block": true})),
            (25, json!({})),
        ];
        let long = limits(None, None, None);
        assert_eq!(play(rule, long, &block).await, (Exit::Settled, 20));
        assert_eq!(
            play(MergeRule::FieldMerge, long, &block).await,
            (Exit::Quiescence, 225)
        );
    }
}

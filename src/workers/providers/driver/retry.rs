//! Whether and when there is another attempt.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::workers::providers::failure::{Failure, Retry};

/// First pause before another attempt; doubles, with as much again at random.
const BACKOFF: Duration = Duration::from_millis(500);
/// Longest wait that a server may ask for; a longer one fails the turn now.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(20);
/// No attempt begins later than this after the first: all must fit into the reader's patience (contract 02 §5.4).
const LAST_ATTEMPT: Duration = Duration::from_mins(2);

/// The pauses of a turn. Its id is the seed of the jitter: without one every process would have the same.
pub(super) fn pauses(retries: u32, id: &str) -> impl Iterator<Item = Duration> + Send + use<> {
    let seed = id
        .bytes()
        .fold(0_u64, |seed, byte| seed.wrapping_mul(31) ^ u64::from(byte));
    ExponentialBuilder::new()
        .with_min_delay(BACKOFF)
        .with_max_times(usize::try_from(retries).unwrap_or(usize::MAX))
        .with_jitter()
        .with_jitter_seed(seed)
        .build()
}

/// How long to wait before the next attempt; an error when there is none, with what to tell about it.
pub(super) fn pause_before_next(
    failure: &Failure,
    pause: Option<Duration>,
    elapsed: Duration,
) -> Result<Duration, String> {
    let (Retry::After(at_least), Some(pause)) = (failure.retry, pause) else {
        return Err(String::new());
    };
    if at_least > MAX_RETRY_AFTER {
        return Err(format!(" (the server asks to wait {} s)", at_least.as_secs()));
    }
    let pause = pause.max(at_least);
    if elapsed + pause > LAST_ATTEMPT {
        return Err(String::new());
    }
    Ok(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn w4_the_next_attempt_waits_as_asked_within_bounds() {
        let after = |seconds| Failure {
            retry: Retry::After(Duration::from_secs(seconds)),
            ..Failure::transient("busy")
        };
        let second = Duration::from_secs;
        let own = Some(Duration::from_millis(700));
        let refused = |note: &str| Err(note.to_owned());
        let cases = [
            (Failure::transient("never"), own, second(0), refused("")),
            (after(0), None, second(0), refused("")),
            (after(0), own, second(0), Ok(Duration::from_millis(700))),
            (after(5), own, second(0), Ok(second(5))),
            (after(20), own, second(0), Ok(second(20))),
            (
                after(21),
                own,
                second(0),
                refused(" (the server asks to wait 21 s)"),
            ),
            (after(20), own, second(100), Ok(second(20))),
            (after(20), own, second(101), refused("")),
            (after(0), own, second(120), refused("")),
        ];
        for (failure, pause, elapsed, expected) in cases {
            assert_eq!(
                pause_before_next(&failure, pause, elapsed),
                expected,
                "{failure:?} {elapsed:?}"
            );
        }
    }
}

//! What people, agents and fate can do to two sessions, and random histories of it.

/// A decision on a waiting call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
    Aborted,
}

/// One thing that happens. Messages have a number; the calls that the model makes of them are named after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Start {
        session: usize,
        text: String,
    },
    Push {
        session: usize,
        inbox: &'static str,
        text: String,
    },
    /// Also for calls of another session, calls that do not wait yet and calls that are over; also twice.
    Decide {
        session: usize,
        call: String,
        verdict: Verdict,
        twice: bool,
    },
    /// The call's function may run without asking, from now on.
    Always {
        session: usize,
    },
    Mode {
        session: usize,
        mode: &'static str,
    },
    Abort {
        session: usize,
    },
    /// Each step and the wake of a decision are delivered once more.
    Wake {
        session: usize,
    },
    /// The process dies now.
    Crash,
    /// It dies at so many passages of its line to the world from now.
    CrashIn {
        passages: usize,
    },
    /// Milliseconds go by.
    Rest {
        ms: u64,
    },
}

/// `splitmix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// The history of a seed.
pub(super) fn history(seed: u64) -> Vec<Op> {
    let mut random = Random(seed);
    let mut calls = Vec::new();
    let length = 5 + random.below(10);
    (0..length)
        .map(|place| {
            let kind = if place == 0 { 0 } else { random.below(22) };
            op(kind, place, &mut random, &mut calls)
        })
        .collect()
}

fn op(kind: usize, place: usize, random: &mut Random, calls: &mut Vec<String>) -> Op {
    // Most of it happens to one session, so that it happens to the same one.
    let session = random.of(&[0, 0, 0, 1]);
    match kind {
        0..=2 => Op::Start {
            session,
            text: message(place, random, calls),
        },
        3..=6 => Op::Push {
            session,
            inbox: random.of(&["steering", "followup"]),
            text: message(place, random, calls),
        },
        7..=11 if !calls.is_empty() => Op::Decide {
            session,
            call: calls[random.below(calls.len())].clone(),
            verdict: random.of(&[Verdict::Allow, Verdict::Allow, Verdict::Deny, Verdict::Aborted]),
            twice: random.below(4) == 0,
        },
        12 => Op::Always { session },
        13 => Op::Mode {
            session,
            mode: random.of(&["manual", "auto", "full"]),
        },
        14 => Op::Abort { session },
        15 | 16 => Op::Wake { session },
        17 => Op::Crash,
        18 => Op::CrashIn {
            passages: random.below(40),
        },
        _ => Op::Rest {
            ms: random.next() % 12,
        },
    }
}

/// A message and the calls that the model is to make of it.
fn message(place: usize, random: &mut Random, calls: &mut Vec<String>) -> String {
    let made: Vec<String> = (0..random.below(4))
        .map(|index| format!("{}{place}-{index}", random.of(&['A', 'C'])))
        .collect();
    calls.extend(made.iter().filter(|call| call.starts_with('C')).cloned());
    format!("m{place} {}", made.join(" ")).trim_end().to_owned()
}

use std::collections::{BTreeMap, BTreeSet};

use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;

fn fifo(concurrency: usize) -> Policy {
    Policy {
        discipline: Discipline::Fifo,
        concurrency,
        backoff_ms: 100,
        ..Policy::default()
    }
}

fn job(seq: Seq, group: &str) -> Job {
    Job {
        seq,
        target: "t::f".into(),
        group: Some(group.into()),
        attempts: 0,
        not_before: 0,
    }
}

fn leased(schedule: &mut Schedule, now: i64) -> Vec<Seq> {
    std::iter::from_fn(|| schedule.lease(now, |_| true).map(|job| job.seq)).collect()
}

#[test]
fn c00_case_28_groups_run_in_parallel_and_in_order() {
    let mut schedule = Schedule::new(fifo(10));
    for (seq, group) in [(1, "A"), (2, "A"), (3, "B"), (4, "B")] {
        schedule.push(job(seq, group));
    }
    assert_eq!(leased(&mut schedule, 0), [1, 3]);
    schedule.remove(3);
    assert_eq!(leased(&mut schedule, 0), [4]);
    schedule.remove(1);
    assert_eq!(leased(&mut schedule, 0), [2]);
    schedule.remove(2);
    schedule.remove(4);
    assert_eq!(schedule.depth(), 0);
    assert!(schedule.groups.is_empty());
}

#[test]
fn c00_case_29_a_failed_job_blocks_its_group_only() {
    let mut schedule = Schedule::new(fifo(10));
    for (seq, group) in [(1, "A"), (2, "A"), (3, "B")] {
        schedule.push(job(seq, group));
    }
    assert_eq!(leased(&mut schedule, 0), [1, 3]);
    assert_eq!(
        schedule.judge(1),
        Some(Verdict::Retry {
            attempts: 1,
            pause_ms: 100
        })
    );
    schedule.retry(1, 1, 100);
    assert_eq!(leased(&mut schedule, 99), [] as [Seq; 0]);
    assert_eq!(schedule.next_wake(), Some(100));
    assert_eq!(leased(&mut schedule, 100), [1]);
    assert_eq!(
        schedule.judge(1),
        Some(Verdict::Retry {
            attempts: 2,
            pause_ms: 200
        })
    );
    schedule.retry(1, 2, 300);
    assert_eq!(leased(&mut schedule, 300), [1]);
    assert_eq!(schedule.judge(1), Some(Verdict::Dead { attempts: 3 }));
    schedule.remove(1);
    assert_eq!(leased(&mut schedule, 300), [2]);
}

#[test]
fn a_missing_target_spends_no_attempt_and_is_looked_for_ever_more_rarely() {
    let mut schedule = Schedule::new(fifo(10));
    schedule.push(job(1, "A"));
    schedule.push(job(2, "A"));
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(schedule.lease(now, |_| false), None);
        let wake = schedule.next_wake().unwrap();
        pauses.push(wake - now);
        now = wake;
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    schedule.targets_changed();
    assert_eq!(schedule.lease(now, |_| true), Some(job(1, "A")));
    assert_eq!(schedule.lease(now, |_| true), None);
    schedule.park(1, now);
    assert_eq!(schedule.lease(now, |_| false), None);
    assert_eq!(schedule.lease(now + 100, |_| true), Some(job(1, "A")));
}

#[test]
fn a_full_queue_has_nothing_to_wake_for() {
    let mut schedule = Schedule::new(fifo(1));
    schedule.push(Job {
        not_before: 50,
        ..job(1, "A")
    });
    schedule.push(job(2, "B"));
    assert_eq!(leased(&mut schedule, 0), [2]);
    assert_eq!(leased(&mut schedule, 60), [] as [Seq; 0]);
    assert_eq!(schedule.next_wake(), None);
    schedule.remove(2);
    assert_eq!(leased(&mut schedule, 60), [1]);
}

#[test]
fn a_changed_discipline_keeps_every_job() {
    let mut schedule = Schedule::new(Policy {
        concurrency: 2,
        ..Policy::default()
    });
    for seq in 1..=4 {
        schedule.push(job(seq, "A"));
    }
    assert_eq!(leased(&mut schedule, 0), [1, 2]);
    schedule.set_policy(fifo(5));
    assert_eq!(leased(&mut schedule, 0), [] as [Seq; 0]);
    schedule.remove(1);
    assert_eq!(leased(&mut schedule, 0), [] as [Seq; 0]);
    schedule.remove(2);
    assert_eq!(leased(&mut schedule, 0), [3]);
    schedule.set_policy(Policy::default());
    assert_eq!(leased(&mut schedule, 0), [4]);
}

/// One event of the world around the schedule. Indices are taken modulo what there is.
#[derive(Debug, Clone)]
enum Event {
    Push { group: u8, target: u8 },
    Lease,
    Succeed(usize),
    Fail(usize),
    Park(usize),
    Pass(i64),
    Toggle(u8),
    Announce,
    Redeclare { fifo: bool, concurrency: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..3_u8, 0..2_u8).prop_map(|(group, target)| Event::Push { group, target }),
        6 => Just(Event::Lease),
        3 => any::<usize>().prop_map(Event::Succeed),
        3 => any::<usize>().prop_map(Event::Fail),
        1 => any::<usize>().prop_map(Event::Park),
        2 => (1..400_i64).prop_map(Event::Pass),
        1 => (0..2_u8).prop_map(Event::Toggle),
        1 => Just(Event::Announce),
        1 => (any::<bool>(), 1..4_usize).prop_map(|(fifo, concurrency)| Event::Redeclare { fifo, concurrency }),
    ]
}

/// The same world in its simplest form.
struct Model {
    schedule: Schedule,
    now: i64,
    next: Seq,
    present: [bool; 2],
    unfinished: BTreeMap<Seq, Known>,
    running: BTreeSet<Seq>,
    done: BTreeSet<Seq>,
    dead: BTreeSet<Seq>,
}

struct Known {
    group: String,
    target: usize,
    attempts: u32,
    not_before: i64,
}

impl Model {
    fn new(policy: Policy) -> Self {
        Self {
            schedule: Schedule::new(policy),
            now: 1,
            next: 1,
            present: [true, true],
            unfinished: BTreeMap::new(),
            running: BTreeSet::new(),
            done: BTreeSet::new(),
            dead: BTreeSet::new(),
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Push { group, target } => self.push(*group, *target),
            Event::Lease => {
                self.lease();
            }
            Event::Succeed(index) => {
                if let Some(seq) = self.nth_running(*index) {
                    self.finish(seq, true);
                }
            }
            Event::Fail(index) => {
                if let Some(seq) = self.nth_running(*index) {
                    self.fail(seq);
                }
            }
            Event::Park(index) => {
                if let Some(seq) = self.nth_running(*index) {
                    self.running.remove(&seq);
                    self.schedule.park(seq, self.now);
                }
            }
            Event::Pass(ms) => self.now += ms,
            Event::Toggle(target) => {
                self.present[usize::from(*target)] = !self.present[usize::from(*target)];
            }
            Event::Announce => self.schedule.targets_changed(),
            Event::Redeclare {
                fifo: is_fifo,
                concurrency,
            } => {
                let discipline = if *is_fifo {
                    Discipline::Fifo
                } else {
                    Discipline::Standard
                };
                self.schedule.set_policy(Policy {
                    discipline,
                    ..fifo(*concurrency)
                });
            }
        }
        assert_eq!(self.schedule.depth(), self.unfinished.len());
    }

    fn push(&mut self, group: u8, target: u8) {
        let (seq, group) = (self.next, format!("g{group}"));
        self.next += 1;
        self.schedule.push(Job {
            target: format!("t{target}").into(),
            ..job(seq, &group)
        });
        let known = Known {
            group,
            target: usize::from(target),
            attempts: 0,
            not_before: 0,
        };
        self.unfinished.insert(seq, known);
    }

    fn lease(&mut self) -> bool {
        let present = self.present;
        let available = |target: &str| if target == "t0" { present[0] } else { present[1] };
        let before = self.running.len();
        let Some(job) = self.schedule.lease(self.now, available) else {
            return false;
        };
        let known = &self.unfinished[&job.seq];
        assert!(
            before < self.schedule.policy().concurrency,
            "the concurrency is kept"
        );
        assert!(!self.running.contains(&job.seq), "no job runs twice at once");
        assert!(self.present[known.target], "no job runs without its target");
        assert!(known.not_before <= self.now, "no retry runs early");
        assert_eq!(job.attempts, known.attempts);
        assert!(
            known.attempts < self.schedule.policy().max_attempts,
            "attempts are bounded"
        );
        if self.schedule.policy().discipline == Discipline::Fifo {
            let oldest = self
                .unfinished
                .iter()
                .find(|(_, other)| other.group == known.group);
            let neighbours = self
                .running
                .iter()
                .filter(|seq| self.unfinished[*seq].group == known.group);
            assert_eq!(oldest.map(|(seq, _)| *seq), Some(job.seq), "fifo inside a group");
            assert_eq!(neighbours.count(), 0, "one job per group");
        }
        self.running.insert(job.seq);
        true
    }

    fn fail(&mut self, seq: Seq) {
        match self.schedule.judge(seq).unwrap() {
            Verdict::Dead { attempts } => {
                assert_eq!(attempts, self.schedule.policy().max_attempts);
                self.finish(seq, false);
            }
            Verdict::Retry { attempts, pause_ms } => {
                let not_before = self.now + i64::try_from(pause_ms).unwrap();
                self.running.remove(&seq);
                self.schedule.retry(seq, attempts, not_before);
                let known = self.unfinished.get_mut(&seq).unwrap();
                known.attempts = attempts;
                known.not_before = not_before;
            }
        }
    }

    fn finish(&mut self, seq: Seq, well: bool) {
        self.running.remove(&seq);
        self.unfinished.remove(&seq);
        self.schedule.remove(seq);
        assert!(if well {
            self.done.insert(seq)
        } else {
            self.dead.insert(seq)
        });
    }

    fn nth_running(&self, index: usize) -> Option<Seq> {
        let count = self.running.len();
        (count > 0).then(|| *self.running.iter().nth(index % count).unwrap())
    }

    /// Everything is there and succeeds from now on; only the schedule's own wake times move the clock.
    fn drain(&mut self) {
        self.present = [true, true];
        while !self.unfinished.is_empty() {
            while self.lease() {}
            if let Some(seq) = self.nth_running(0) {
                self.finish(seq, true);
            } else {
                let wake = self
                    .schedule
                    .next_wake()
                    .expect("a job that waits has something to wait for");
                assert!(wake > self.now, "no busy loop");
                self.now = wake;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_job_is_lost_none_runs_twice_order_and_attempts_hold(
        is_fifo in any::<bool>(),
        concurrency in 1..4_usize,
        events in prop::collection::vec(event(), 0..120),
    ) {
        let discipline = if is_fifo { Discipline::Fifo } else { Discipline::Standard };
        let mut model = Model::new(Policy { discipline, ..fifo(concurrency) });
        for event in &events {
            model.apply(event);
        }
        model.drain();
        let finished: BTreeSet<Seq> = model.done.union(&model.dead).copied().collect();
        prop_assert_eq!(finished, (1..model.next).collect::<BTreeSet<Seq>>());
        prop_assert!(model.done.is_disjoint(&model.dead));
        prop_assert!(model.schedule.groups.is_empty());
        prop_assert_eq!(model.schedule.next_wake(), None);
    }
}

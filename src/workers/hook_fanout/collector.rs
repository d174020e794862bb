//! The replies of one collection: how many there are, and what becomes of one more (contract 04 §5, §5.1).

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::merge::MergeRule;
use crate::model::frame::Happened;
use crate::model::measure::measure;

/// Most replies to one message.
const MAX_REPLIES: usize = 1_024;

/// Largest they may be together, in bytes: an answer has them twice, and must fit into one message.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Deepest a reply may be nested: an answer is deeper, and must be readable.
const MAX_DEPTH: usize = 120;

/// A reply as it came.
#[derive(Debug)]
pub(super) struct Reply {
    /// Its item in the stream, if it has one.
    pub(super) item: Option<String>,
    /// What happened to that item.
    pub(super) happened: Happened,
    /// What it says.
    pub(super) body: Value,
}

/// Where the replies to one message come together.
#[derive(Debug)]
pub(super) struct Collector {
    rule: MergeRule,
    expected: Option<usize>,
    held: Mutex<Held>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    replies: Vec<Kept>,
    bytes: usize,
    last: Option<Instant>,
    exit: Option<Exit>,
    refused: Option<&'static str>,
    is_over: bool,
}

#[derive(Debug)]
struct Kept {
    item: Option<String>,
    is_stored: bool,
    bytes: usize,
    body: Value,
}

/// Why a collection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    ExpectedReplies,
    Quiescence,
    Deadline,
    DeadlineNoReplies,
    /// No later reply could change the answer.
    Settled,
}

/// What is known so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Replies that are in.
    pub(super) count: usize,
    /// When the last one came.
    pub(super) last: Option<Instant>,
    /// What is in is enough; why.
    pub(super) exit: Option<Exit>,
    /// A reply did not fit; why.
    pub(super) refused: Option<&'static str>,
}

/// What a collection leaves.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// In the order of their arrival.
    pub(super) replies: Vec<Value>,
    /// Items of the stream that held them.
    pub(super) items: Vec<String>,
}

impl Collector {
    /// For so many replies, or for any number of them.
    pub(super) fn new(rule: MergeRule, expected: Option<usize>) -> Self {
        Self {
            rule,
            expected,
            held: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Takes a reply in. False: it is not kept.
    pub(super) fn take(&self, reply: Reply, now: Instant) -> bool {
        let mut held = self.held();
        // What somebody takes back was said all the same.
        let is_done = held.is_over || held.exit.is_some() || held.refused.is_some();
        if is_done || reply.happened == Happened::Deleted {
            return false;
        }
        let kept = held.take(self.rule, reply, now);
        // It is looked at when a reply comes, so none expected is one expected.
        if held.exit.is_none()
            && self
                .expected
                .is_some_and(|expected| held.replies.len() >= expected)
        {
            held.exit = Some(Exit::ExpectedReplies);
        }
        drop(held);
        self.changed.notify_one();
        kept
    }

    pub(super) fn progress(&self) -> Progress {
        let held = self.held();
        Progress {
            count: held.replies.len(),
            last: held.last,
            exit: held.exit,
            refused: held.refused,
        }
    }

    /// Resolves when a reply has come since the last time.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Ends the collection; nothing is taken in any more.
    pub(super) fn end(&self) -> Gathered {
        let mut held = self.held();
        held.is_over = true;
        let mut gathered = Gathered::default();
        for kept in std::mem::take(&mut held.replies) {
            gathered.items.extend(kept.item.filter(|_| kept.is_stored));
            gathered.replies.push(kept.body);
        }
        gathered
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn take(&mut self, rule: MergeRule, reply: Reply, now: Instant) -> bool {
        let Reply { item, happened, body } = reply;
        let is_stored = happened != Happened::Sent;
        let (size, count) = (measure(&body), self.replies.len());
        // An item is one reply, however often it is written; its last word counts.
        let earlier = self
            .replies
            .iter_mut()
            .find(|kept| is_stored && kept.is_stored && kept.item.is_some() && kept.item == item);
        // Engines deliver frames in any order: a creation that comes late is the older one.
        if happened == Happened::Created && earlier.is_some() {
            return true;
        }
        let bytes = self.bytes + size.bytes - earlier.as_ref().map_or(0, |kept| kept.bytes);
        if size.depth > MAX_DEPTH {
            self.refused = Some("a reply is nested deeper than 120 levels");
        } else if bytes > MAX_BYTES {
            self.refused = Some("the replies are larger than 8 MiB together");
        } else if earlier.is_none() && count == MAX_REPLIES {
            self.refused = Some("there are more than 1024 replies");
        }
        if self.refused.is_some() {
            return false;
        }
        self.bytes = bytes;
        self.last = Some(now);
        self.exit = rule.is_settled_by(&body).then_some(Exit::Settled);
        let kept = Kept {
            item,
            is_stored,
            bytes: size.bytes,
            body,
        };
        match earlier {
            Some(earlier) => *earlier = kept,
            None => self.replies.push(kept),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn reply(item: Option<&str>, happened: Happened, body: Value) -> Reply {
        Reply {
            item: item.map(str::to_owned),
            happened,
            body,
        }
    }

    fn created(item: &str, body: Value) -> Reply {
        reply(Some(item), Happened::Created, body)
    }

    fn replies_of(rule: MergeRule, replies: Vec<Reply>) -> (Vec<Value>, Vec<String>) {
        let collector = Collector::new(rule, None);
        for reply in replies {
            collector.take(reply, Instant::now());
        }
        let gathered = collector.end();
        (gathered.replies, gathered.items)
    }

    #[test]
    fn an_item_is_one_reply_and_its_last_word_counts() {
        let replies = vec![
            created("a", json!(1)),
            reply(Some("b"), Happened::Updated, json!(3)),
            created("b", json!(2)),
            reply(Some("a"), Happened::Updated, json!(4)),
            reply(Some("a"), Happened::Deleted, json!(4)),
            reply(Some("never seen"), Happened::Deleted, json!(7)),
            // Nothing is stored for these, so nothing tells two of them apart.
            reply(Some("a"), Happened::Sent, json!(5)),
            reply(Some("a"), Happened::Sent, json!(5)),
            reply(None, Happened::Created, json!(6)),
            reply(None, Happened::Created, json!(6)),
        ];
        assert_eq!(
            replies_of(MergeRule::FieldMerge, replies),
            (
                [4, 3, 5, 5, 6, 6].map(Value::from).to_vec(),
                vec!["a".to_owned(), "b".to_owned()]
            )
        );
    }

    #[test]
    fn a_block_cannot_be_taken_back() {
        let (no, yes) = (json!({"block": true}), json!({"block": false}));
        let replies = || {
            vec![
                created("a", no.clone()),
                reply(Some("a"), Happened::Updated, yes.clone()),
            ]
        };
        assert_eq!(
            replies_of(MergeRule::FirstBlockWins, replies()).0,
            vec![no.clone()]
        );
        assert_eq!(replies_of(MergeRule::FieldMerge, replies()).0, vec![yes.clone()]);
    }

    #[test]
    fn what_does_not_fit_is_not_left_out_silently() {
        let text = |bytes: usize| json!("x".repeat(bytes));
        let deep = (0..MAX_DEPTH).fold(json!(1), |inner, _| json!([inner]));
        let many = || (0..MAX_REPLIES).map(|n| created(&n.to_string(), json!(n)));
        for (replies, why) in [
            (
                vec![created("a", deep)],
                "a reply is nested deeper than 120 levels",
            ),
            (
                vec![
                    created("a", text(MAX_BYTES / 2)),
                    created("b", text(MAX_BYTES / 2)),
                ],
                "the replies are larger than 8 MiB together",
            ),
            (
                many().chain([created("one more", json!(1))]).collect(),
                "there are more than 1024 replies",
            ),
        ] {
            let collector = Collector::new(MergeRule::FirstBlockWins, None);
            let count = replies.len() - 1;
            let kept: Vec<bool> = replies
                .into_iter()
                .map(|reply| collector.take(reply, Instant::now()))
                .collect();
            assert_eq!(kept.iter().filter(|kept| **kept).count(), count, "{why}");
            let progress = collector.progress();
            assert_eq!((progress.count, progress.refused), (count, Some(why)));
            assert!(!collector.take(created("later", json!(1)), Instant::now()));
        }
        // Written again, an item takes the place it has.
        let again = |n: usize| reply(Some("a"), Happened::Updated, text(MAX_BYTES - n));
        let collector = Collector::new(MergeRule::FieldMerge, None);
        assert!((2..9).all(|n| collector.take(again(n), Instant::now())));
        let collector = Collector::new(MergeRule::FieldMerge, None);
        assert!(many().all(|reply| collector.take(reply, Instant::now())));
        assert!(collector.take(reply(Some("7"), Happened::Updated, json!(0)), Instant::now()));
    }

    #[test]
    fn what_is_enough_is_enough() {
        for (rule, expected, bodies, exit) in [
            (
                MergeRule::FirstBlockWins,
                None,
                [json!({"block": false}), json!({"block": true})],
                Exit::Settled,
            ),
            (
                MergeRule::FirstBlockWins,
                Some(2),
                [json!(1), json!({"block": true})],
                Exit::Settled,
            ),
            (
                MergeRule::FieldMerge,
                Some(2),
                [json!(1), json!(2)],
                Exit::ExpectedReplies,
            ),
        ] {
            let collector = Collector::new(rule, expected);
            for body in bodies.clone() {
                assert_eq!(collector.progress().exit, None);
                assert!(collector.take(reply(None, Happened::Created, body), Instant::now()));
            }
            assert_eq!(collector.progress().exit, Some(exit));
            assert!(!collector.take(created("one more", json!(3)), Instant::now()));
            assert_eq!(collector.end().replies, bodies);
        }
    }

    #[test]
    fn nothing_is_taken_in_once_it_is_over() {
        let collector = Collector::new(MergeRule::FieldMerge, None);
        assert!(collector.take(created("a", json!(1)), Instant::now()));
        assert_eq!(collector.end().replies, [json!(1)]);
        assert!(!collector.take(created("b", json!(1)), Instant::now()));
        assert_eq!(collector.end().replies, Vec::<Value>::new());
    }
}

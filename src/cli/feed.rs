//! The events of one session, each once and in order (contract 01 §7).
//!
//! Frames of the stream trigger carry the item ids `<session>-<epoch>-<seq>`. What did not come, because the link was down or
//! the engine dropped it, is read from the stream: an item is stored before its frame is sent.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::FutureExt;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::bus::FunctionDef;
use crate::error::Error;

/// Stream of all agent events.
pub(super) const EVENTS: &str = "agent::events";

/// Frames that may wait; beyond that the engine waits, and what it drops is read from the stream.
const WAITING: usize = 1024;

/// An item of the stream, as a frame brought it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    session: String,
    item: String,
    event: Value,
}

/// The function that is called with frames, and where they come out.
pub(super) fn inlet(id: &str) -> (FunctionDef, mpsc::Receiver<Frame>) {
    let (sender, frames) = mpsc::channel(WAITING);
    let sender = Arc::new(sender);
    let handler = FunctionDef::ad_hoc(id, move |payload, _| {
        let sender = Arc::clone(&sender);
        async move {
            if let Some(frame) = Frame::read(payload) {
                sender.send(frame).await.map_err(|_| Error::Stopped)?;
            }
            Ok(Value::Null)
        }
        .boxed()
    });
    (handler, frames)
}

impl Frame {
    fn read(mut payload: Value) -> Option<Self> {
        let text = |name: &str| payload.get(name)?.as_str().map(str::to_owned);
        let session = text("groupId").or_else(|| text("group_id"))?;
        let item = text("id").unwrap_or_default();
        let event = payload.pointer_mut("/event/data")?.take();
        Some(Self { session, item, event })
    }
}

/// Reads one item of the stream; `None` when it is not there.
pub(super) trait Store {
    /// The item's event.
    fn get(&self, session: &str, item: &str) -> impl Future<Output = Option<Value>>;
}

/// Where the reading of a session's events stands.
#[derive(Debug)]
pub(super) struct Feed {
    session: String,
    /// `<session>-<epoch>` of the last item and the number after it.
    at: Option<(String, u64)>,
    /// Whether the first frame may be of a run that is to be seen from its beginning.
    whole_run: bool,
    lost: u64,
}

impl Feed {
    /// Events from now on, and of a message that is being streamed now what came before; the transcript has the rest.
    pub(super) fn of(session: &str) -> Self {
        Self {
            session: session.to_owned(),
            at: None,
            whole_run: false,
            lost: 0,
        }
    }

    /// A run is about to begin and is seen from its beginning.
    pub(super) fn expect_run(&mut self) {
        self.whole_run = true;
    }

    /// The session.
    pub(super) fn session(&self) -> &str {
        &self.session
    }

    /// The events that are next now that this frame came.
    pub(super) async fn accept(&mut self, frame: Frame, store: &impl Store) -> Vec<Value> {
        if frame.session != self.session {
            return Vec::new();
        }
        let Some((source, number)) = place(&frame.item) else {
            return vec![frame.event];
        };
        let mut events = Vec::new();
        let known = self.at.as_ref().map(|(known, _)| known.as_str());
        if known != Some(source) {
            let next = if known.is_some() {
                // Somebody else writes now: a process that goes on with the run, or one that woke for the next.
                events = self.rest(store).await;
                0
            } else {
                events = self.earlier(source, number, &frame.event, store).await;
                number
            };
            self.at = Some((source.to_owned(), next));
        }
        let next = self.at.as_ref().map_or(number, |(_, next)| *next);
        if number < next {
            return events;
        }
        for missing in next..number {
            match store.get(&self.session, &item(source, missing)).await {
                Some(event) => events.push(event),
                None => self.lost += 1,
            }
        }
        events.push(frame.event);
        self.at = Some((source.to_owned(), number + 1));
        events
    }

    /// The events that are in the stream behind the last one, for when frames may have been lost.
    pub(super) async fn rest(&mut self, store: &impl Store) -> Vec<Value> {
        let mut events = Vec::new();
        if let Some((source, next)) = &mut self.at {
            while let Some(event) = store.get(&self.session, &item(source, *next)).await {
                events.push(event);
                *next += 1;
            }
        }
        events
    }

    /// How many events could not be had since this was asked last.
    pub(super) fn lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// The events before the first frame that belong to what it belongs to.
    async fn earlier(&self, source: &str, number: u64, event: &Value, store: &impl Store) -> Vec<Value> {
        let mut earlier = VecDeque::new();
        let begins = |event: &Value| {
            if self.whole_run {
                begins_run(event)
            } else {
                event["type"] != "message_update"
            }
        };
        let mut begun = begins(event);
        for before in (0..number).rev() {
            if begun {
                break;
            }
            let Some(event) = store.get(&self.session, &item(source, before)).await else {
                break;
            };
            begun = begins(&event);
            earlier.push_front(event);
        }
        earlier.into()
    }
}

/// Source and number of an item id.
fn place(item: &str) -> Option<(&str, u64)> {
    let (source, number) = item.rsplit_once('-')?;
    Some((source, number.parse().ok()?))
}

fn item(source: &str, number: u64) -> String {
    format!("{source}-{number:08}")
}

/// Whether this is the first event of a run (contract 02 §3).
fn begins_run(event: &Value) -> bool {
    event["type"] == "turn_state_changed" && event["new_value"]["state"] == "provisioning"
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    /// A stream with the items it holds, and which were asked for.
    #[derive(Default)]
    struct Items {
        held: BTreeMap<String, Value>,
        asked: RefCell<Vec<String>>,
    }

    impl Items {
        fn holding(sources: &[(&str, std::ops::Range<u64>)]) -> Self {
            let ids = sources
                .iter()
                .flat_map(|(source, numbers)| numbers.clone().map(|number| item(source, number)));
            Self {
                held: ids.map(|id| (id.clone(), event(&id))).collect(),
                asked: RefCell::default(),
            }
        }

        fn asked(&self) -> Vec<String> {
            self.asked.take()
        }
    }

    impl Store for Items {
        async fn get(&self, session: &str, item: &str) -> Option<Value> {
            assert_eq!(session, "s");
            self.asked.borrow_mut().push(item.to_owned());
            self.held.get(item).cloned()
        }
    }

    /// Item 2 of any source begins a run.
    fn event(id: &str) -> Value {
        if id.ends_with("-00000002") {
            json!({"type": "turn_state_changed", "new_value": {"state": "provisioning"}, "id": id})
        } else {
            json!({"type": "message_update", "id": id})
        }
    }

    fn frame(source: &str, number: u64) -> Frame {
        let item = item(source, number);
        Frame {
            session: "s".into(),
            event: event(&item),
            item,
        }
    }

    fn numbers(events: &[Value]) -> Vec<&str> {
        events
            .iter()
            .map(|event| event["id"].as_str().unwrap().trim_start_matches("s-"))
            .collect()
    }

    async fn accept(feed: &mut Feed, items: &Items, source: &str, number: u64) -> Vec<String> {
        let events = feed.accept(frame(source, number), items).await;
        numbers(&events).into_iter().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn frames_in_order_need_no_reading() {
        let (items, mut feed) = (Items::default(), Feed::of("s"));
        for number in 2..5 {
            assert_eq!(
                accept(&mut feed, &items, "s-e", number).await,
                [format!("e-{number:08}")]
            );
        }
        assert_eq!(items.asked(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_is_missing_comes_from_the_stream_and_nothing_comes_twice() {
        let (items, mut feed) = (Items::holding(&[("s-e", 0..9)]), Feed::of("s"));
        accept(&mut feed, &items, "s-e", 2).await;
        assert_eq!(
            accept(&mut feed, &items, "s-e", 5).await,
            ["e-00000003", "e-00000004", "e-00000005"]
        );
        assert_eq!(items.asked(), ["s-e-00000003", "s-e-00000004"]);
        // Swapped by the engine, or sent twice.
        for number in [3, 4, 5] {
            assert_eq!(
                accept(&mut feed, &items, "s-e", number).await,
                Vec::<String>::new()
            );
        }
        assert_eq!(
            numbers(&feed.rest(&items).await),
            ["e-00000006", "e-00000007", "e-00000008"]
        );
        assert_eq!(feed.rest(&items).await, Vec::<Value>::new());
        assert_eq!(feed.lost(), 0);
    }

    #[tokio::test]
    async fn what_the_stream_has_not_either_is_counted() {
        let (items, mut feed) = (Items::holding(&[("s-e", 4..5)]), Feed::of("s"));
        accept(&mut feed, &items, "s-e", 2).await;
        assert_eq!(
            accept(&mut feed, &items, "s-e", 6).await,
            ["e-00000004", "e-00000006"]
        );
        assert_eq!((feed.lost(), feed.lost()), (2, 0));
    }

    #[tokio::test]
    async fn a_run_is_seen_from_its_beginning_and_earlier_runs_are_not() {
        let (items, mut feed) = (Items::holding(&[("s-e", 0..9)]), Feed::of("s"));
        feed.expect_run();
        assert_eq!(
            accept(&mut feed, &items, "s-e", 4).await,
            ["e-00000002", "e-00000003", "e-00000004"]
        );
        assert_eq!(items.asked(), ["s-e-00000003", "s-e-00000002"]);
    }

    #[tokio::test]
    async fn who_joins_a_run_sees_the_whole_of_its_current_message() {
        let (items, mut feed) = (Items::holding(&[("s-e", 0..9)]), Feed::of("s"));
        assert_eq!(
            accept(&mut feed, &items, "s-e", 4).await,
            ["e-00000002", "e-00000003", "e-00000004"]
        );
        let (items, mut feed) = (Items::holding(&[("s-e", 0..9)]), Feed::of("s"));
        assert_eq!(accept(&mut feed, &items, "s-e", 2).await, ["e-00000002"]);
        assert_eq!(items.asked(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn another_writer_begins_after_the_rest_of_the_one_before() {
        let items = Items::holding(&[("s-e", 0..5), ("s-e.0001", 0..4)]);
        let mut feed = Feed::of("s");
        accept(&mut feed, &items, "s-e", 2).await;
        assert_eq!(
            accept(&mut feed, &items, "s-e.0001", 1).await,
            ["e-00000003", "e-00000004", "e.0001-00000000", "e.0001-00000001"]
        );
    }

    #[tokio::test]
    async fn odd_frames_do_no_harm() {
        let (items, mut feed) = (Items::default(), Feed::of("s"));
        let other = Frame {
            session: "t".into(),
            ..frame("t-e", 0)
        };
        assert_eq!(feed.accept(other, &items).await, Vec::<Value>::new());
        for id in ["", "x", "x-y", "-"] {
            let foreign = Frame {
                session: "s".into(),
                item: id.into(),
                event: json!({"id": id}),
            };
            assert_eq!(feed.accept(foreign, &items).await, [json!({"id": id})]);
        }
    }

    #[test]
    fn frames_are_read_in_both_spellings() {
        let read =
            |payload: Value| Frame::read(payload).map(|frame| (frame.session, frame.item, frame.event));
        let (event, expected) = (
            json!({"type": "x"}),
            Some(("s".into(), "i".into(), json!({"type": "x"}))),
        );
        assert_eq!(
            read(json!({"groupId": "s", "id": "i", "event": {"type": "create", "data": event}})),
            expected
        );
        assert_eq!(
            read(json!({"group_id": "s", "id": "i", "event": {"type": "update", "data": event}})),
            expected
        );
        for payload in [
            json!(null),
            json!("x"),
            json!({"groupId": "s"}),
            json!({"event": {"data": 1}}),
        ] {
            assert_eq!(read(payload), None);
        }
    }
}

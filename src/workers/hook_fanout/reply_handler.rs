//! `hook-fanout::reply_handler`: a reply in stream `agent::hook_reply`, for the call that waits for it (contract 04 §5.1).
//!
//! The group of the frame is the event id of the call. Replies to calls of other processes are theirs.

use serde_json::Value;
use tokio::time::Instant;

use super::collector::Reply;
use super::collectors::{Addressee, Collectors};
use super::remove_reply;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::model::frame::{Happened, StreamFrame};

/// `hook-fanout::reply_handler`. Request: a frame of the stream, `{groupId, id, event: {type, data}}`. Answers null, always.
#[derive(Debug)]
pub struct ReplyHandler;

impl Function for ReplyHandler {
    const ID: &'static str = "hook-fanout::reply_handler";
    const DESCRIPTION: &'static str =
        "Internal: routes agent::hook_reply stream events to pending publish_collect calls.";
    type State = Collectors;
    type Request = Value;
    type Response = ();

    fn decode(payload: Value) -> Result<Value> {
        // Never rejects. Whatever is too large or too deep is for its collector to see.
        Ok(payload)
    }

    async fn call(cx: &Cx<Collectors>, whole: Value) -> Result<()> {
        let Some(frame) = StreamFrame::read(&whole) else {
            return Ok(());
        };
        let kept = match cx.state().find(frame.group) {
            Addressee::Open(collector) => collector.take(reply(&whole, frame), Instant::now()),
            Addressee::Ended => false,
            Addressee::Unknown => return Ok(()),
        };
        let is_stored = matches!(frame.happened, Happened::Created | Happened::Updated);
        if let Some(item) = frame.item.filter(|_| is_stored && !kept) {
            remove_reply(cx, frame.group, item);
        }
        Ok(())
    }
}

/// What the frame says: the data of its event, else its own unless that is null, else all of it.
fn reply(whole: &Value, frame: StreamFrame<'_>) -> Reply {
    let of_event = whole.pointer("/event/data");
    let body = of_event.or_else(|| frame.data.filter(|data| !data.is_null()));
    Reply {
        item: frame.item.map(str::to_owned),
        happened: frame.happened,
        body: body.unwrap_or(whole).clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn what_a_frame_says() {
        let said = |frame: &Value| reply(frame, StreamFrame::read(frame).unwrap()).body;
        let bare = json!({"group_id": "e", "data": null});
        let sent = json!({"groupId": "e", "event": {"type": "event", "event": {"data": 1}}});
        for (frame, expected) in [
            (
                json!({"groupId": "e", "event": {"type": "create", "data": 1}, "data": 2}),
                json!(1),
            ),
            (
                json!({"groupId": "e", "event": {"data": null}, "data": 2}),
                Value::Null,
            ),
            (
                json!({"groupId": "e", "event": {"type": "create"}, "data": 2}),
                json!(2),
            ),
            (
                json!({"group_id": "e", "event": [1], "data": false}),
                json!(false),
            ),
            (bare.clone(), bare),
            (sent.clone(), sent),
        ] {
            assert_eq!(said(&frame), expected, "{frame}");
        }
    }
}

//! `hook-fanout::*`: ask whoever listens to a topic, gather their answers, make one of them (contract 04 §5).
//!
//! ```text
//!  publish_collect ─► collector ─► iii::durable::publish {event_id, reply_stream, payload} ─► subscribers
//!        ▲                ▲                                                                     │
//!        └── merge ◄──────┴── reply_handler ◄── stream agent::hook_reply, group = event_id ◄────┘
//! ```
//!
//! Invariants: a collector is there before its message is, and gone when the call is over, however it ends; with it go its
//! replies in the stream, also those that come later; what does not fit into a collector ends the call with an error instead
//! of being left out, since it may be the one that says no. Deliberately not here: what topics and replies mean.

mod collector;
mod collectors;
mod gather;
mod merge;
pub mod publish_collect;
pub mod reply_handler;

use serde_json::json;

use crate::bus::{Cx, Function, Worker, WorkerDef};

pub use collectors::Collectors;

/// Where subscribers put their replies.
const REPLIES: &str = "agent::hook_reply";

/// The worker.
pub fn worker() -> WorkerDef {
    Worker::new(
        "hook-fanout",
        "Publishes to a topic and makes one answer of what its subscribers reply.",
        Collectors::default(),
    )
    .function::<publish_collect::PublishCollect>()
    .function::<reply_handler::ReplyHandler>()
    .trigger(
        "stream",
        reply_handler::ReplyHandler::ID,
        json!({ "stream_name": REPLIES }),
    )
    .build()
}

/// Takes a reply out of the stream; nobody waits for it.
fn remove_reply(cx: &Cx<Collectors>, group: &str, item: &str) {
    let reply = json!({ "stream_name": REPLIES, "group_id": group, "item_id": item });
    cx.bus().notify(cx.context(), "stream::delete", reply);
}

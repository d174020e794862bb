//! Tells everybody about a compaction, as every other event of a session is told (contract 01 §7).

use std::sync::Arc;
use std::time::Duration;

use crate::bus::{Cx, StreamItem, Write, to_json};
use crate::error::{Error, Result};
use crate::model::{AgentEvent, SessionId};

const EVENTS: &str = "agent::events";
const LIMIT: Duration = Duration::from_secs(10);

/// Emits the event. A failure is logged: the compaction is done.
pub(super) async fn done<S: Send + Sync>(cx: &Cx<S>, session: &SessionId, event: &AgentEvent) {
    if let Err(error) = publish(cx, session, event).await {
        tracing::warn!(session_id = %session, %error, "compaction not announced");
    }
}

async fn publish<S: Send + Sync>(cx: &Cx<S>, session: &SessionId, event: &AgentEvent) -> Result<()> {
    let bus = cx.bus();
    // Marked as ours, and without a number: readers of the session's own numbering must not take it for a new one.
    let item = format!(
        "{session}-{}.compaction.{}",
        bus.epoch(),
        bus.uuid().replace('-', "")
    );
    let data = Arc::new(to_json(event)?);
    bus.show_to_taps(&StreamItem {
        stream: EVENTS.into(),
        group: session.as_str().into(),
        item: item.clone(),
        data: Arc::clone(&data),
    });
    let write = Write::StreamSet {
        stream: EVENTS.to_owned(),
        group: session.to_string(),
        item,
        data,
    };
    let written = bus.transport().commit(vec![write]);
    tokio::time::timeout(LIMIT, written)
        .await
        .unwrap_or_else(|_| Err(Error::Unavailable("the stream does not answer".into())))
}

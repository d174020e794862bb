//! Streams that a worker keeps itself (contract 00 §5): it registers `stream::get(<name>)` and the like, which are called
//! instead of the store. The events are still the engine's.

use std::sync::Arc;

use futures::FutureExt;
use serde_json::{Value, json};

use super::{Core, write};
use crate::bus::{CallContext, CallFuture, Invocation};

/// Calls the worker that keeps the stream of a call of `stream::*`, or gives the call back.
///
/// # Errors
/// The call: the store keeps the stream.
#[expect(clippy::result_large_err, reason = "the call goes on to the store")]
pub(super) fn kept(core: &Arc<Core>, call: Invocation) -> Result<CallFuture, Invocation> {
    if core.peers.host_nothing() {
        return Err(call);
    }
    let member = |name: &str| call.payload.get(name).and_then(Value::as_str).map(str::to_owned);
    let Some(stream) = member("stream_name") else {
        return Err(call);
    };
    let keeper = format!("{}({stream})", call.function_id);
    let Some(link) = core.peers.host_of(&keeper) else {
        return Err(call);
    };
    let place = member("group_id").zip(member("item_id"));
    let (operation, context) = (call.function_id.clone(), call.context.clone());
    let answer = link.call(Invocation {
        function_id: keeper.into(),
        ..call
    });
    let core = Arc::clone(core);
    let kept = async move {
        let answer = answer.await?;
        if let (Some((group, item)), Some(event)) = (place, event(&operation, &answer)) {
            announce(&core, (stream, group, Some(item)), event, &context).await;
        }
        Ok(answer)
    };
    Ok(kept.boxed())
}

/// What subscribers learn of a write, from what the worker says of it.
fn event(operation: &str, answer: &Value) -> Option<Value> {
    let value = |name: &str| answer.get(name).filter(|value| !value.is_null());
    let (old, new) = (value("old_value"), value("new_value"));
    let (kind, data) = match operation {
        "stream::set" | "stream::update" if old.is_none() => ("create", new),
        "stream::set" | "stream::update" => ("update", new),
        "stream::delete" => ("delete", Some(old?)),
        _ => return None,
    };
    Some(json!({ "type": kind, "data": data }))
}

async fn announce(
    core: &Arc<Core>,
    address: (String, String, Option<String>),
    event: Value,
    context: &CallContext,
) {
    if let Err(error) = write::send(core, address, event, context).await {
        tracing::error!(%error, "an event of a stream that a worker keeps is lost");
    }
}

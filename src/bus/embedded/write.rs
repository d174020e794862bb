//! Writes to state and streams, and the events that follow them (contract 00 §4.2, §5.1).

use std::sync::Arc;

use serde_json::{Value, json};

use super::store::{Address, Change, Doc, Pending, Place, Write, Written};
use super::trigger::{Binding, Event};
use super::{Core, carried};
use crate::bus::{CallContext, StateTap, Write as BatchWrite};
use crate::error::Result;

/// Queues a batch of a caller now; the state taps of the program hear of it after COMMIT, before its events.
pub(super) fn write(core: &Arc<Core>, writes: Vec<Write>, context: &CallContext) -> Pending<Vec<Written>> {
    let taps = writes
        .iter()
        .map(|write| taps_of(core, &write.address.place))
        .collect();
    queue(core, writes, context, taps)
}

/// Queues a batch now; its events go out after COMMIT, in commit order. A binding sees the writes that were queued after
/// it was made. `taps` are those of each write, in order.
fn queue(
    core: &Arc<Core>,
    mut writes: Vec<Write>,
    context: &CallContext,
    taps: Vec<Vec<StateTap>>,
) -> Pending<Vec<Written>> {
    let watchers: Vec<_> = writes
        .iter()
        .map(|write| watchers_of(core, &write.address))
        .collect();
    if watchers.iter().all(Vec::is_empty) && taps.iter().all(Vec::is_empty) {
        return core.store.write(writes);
    }
    for (write, watchers) in writes.iter_mut().zip(&watchers) {
        write.old |= !watchers.is_empty();
    }
    let (hook_core, context) = (Arc::clone(core), carried(context));
    let hook = move |written: &[Written]| {
        for (Written { address, .. }, taps) in written.iter().zip(&taps) {
            for tap in taps {
                tap(address.place.name(), &address.key);
            }
        }
        for (written, watchers) in written.iter().zip(&watchers) {
            publish(&hook_core, written, watchers, &context);
        }
    };
    core.store.write_then(writes, Some(Box::new(hook)))
}

/// The batch of [`crate::bus::Transport::commit`].
pub(super) fn commit(core: &Arc<Core>, writes: Vec<BatchWrite>) -> Result<Pending<Vec<Written>>> {
    let writes = writes.into_iter().map(|write| {
        let (address, change) = match write {
            BatchWrite::StateSet { scope, key, value } => (
                Address::state(scope, key),
                Change::Set(Arc::new(Doc::new(value)?)),
            ),
            BatchWrite::StateDelete { scope, key } => (Address::state(scope, key), Change::Delete),
            BatchWrite::StreamSet {
                stream,
                group,
                item,
                data,
            } => (
                Address::stream(stream, group, item),
                Change::Set(Arc::new(Doc::new(data)?)),
            ),
        };
        Ok(Write {
            address,
            change,
            old: false,
        })
    });
    let writes = writes.collect::<Result<_>>()?;
    Ok(queue(core, writes, &CallContext::default(), Vec::new()))
}

fn taps_of(core: &Core, place: &Place) -> Vec<StateTap> {
    match core.bus() {
        Ok(bus) if !place.is_stream() => bus.state_taps(place.name()),
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// An event of a stream group for which nothing is stored here, in order with the writes of that group.
pub(super) fn send(
    core: &Arc<Core>,
    address: (String, String, Option<String>),
    event: Value,
    context: &CallContext,
) -> Pending<Vec<Written>> {
    let (stream, group, id) = address;
    let watchers = core.triggers.stream().matching(&stream, &group, id.as_deref());
    if watchers.is_empty() {
        return core.store.write(Vec::new());
    }
    let (hook_core, context) = (Arc::clone(core), carried(context));
    let bytes = event.to_string().len();
    let hook = move |_: &[Written]| {
        let key = lane_key(&stream, &group);
        let timestamp = now_ms(&hook_core);
        let event = Event::new(context, bytes, move || {
            Ok(stream_payload(timestamp, &stream, &group, id.as_deref(), &event))
        });
        deliver(&hook_core, &watchers, &key, &event);
    };
    core.store.write_then(Vec::new(), Some(Box::new(hook)))
}

/// The value of an answer: owned if nobody shares it, copied otherwise; absent is null.
pub(super) fn owned(doc: Option<Arc<Doc>>) -> Result<Value> {
    let Some(doc) = doc else { return Ok(Value::Null) };
    match Arc::try_unwrap(doc) {
        Ok(doc) => doc.into_value(),
        Err(doc) => shared(Some(&doc)),
    }
}

fn shared(doc: Option<&Arc<Doc>>) -> Result<Value> {
    doc.map_or(Ok(Value::Null), |doc| {
        doc.value().map(|value| Value::clone(&value))
    })
}

/// `{old_value, new_value}`, with `errors` where operations were skipped.
pub(super) fn old_and_new(written: Written) -> Result<Value> {
    let Written { old, new, errors, .. } = written;
    let mut reply = json!({ "old_value": owned(old)?, "new_value": owned(new)? });
    if !errors.is_empty() {
        reply["errors"] = Value::Array(errors);
    }
    Ok(reply)
}

fn watchers_of(core: &Core, address: &Address) -> Vec<Arc<Binding>> {
    let place = &address.place;
    let index = if place.is_stream() {
        core.triggers.stream()
    } else {
        core.triggers.state()
    };
    index.matching(place.name(), place.group(), Some(&address.key))
}

fn publish(core: &Arc<Core>, written: &Written, watchers: &[Arc<Binding>], context: &CallContext) {
    let place = &written.address.place;
    // Removing nothing: an event for state, none for streams.
    if watchers.is_empty() || (place.is_stream() && written.new.is_none() && !written.existed) {
        return;
    }
    let size = |doc: &Option<Arc<Doc>>| doc.as_ref().map_or(0, |doc| doc.text().len());
    let bytes = size(&written.old) + size(&written.new);
    let (key, event) = if place.is_stream() {
        let timestamp = now_ms(core);
        let written = written.clone();
        let event = Event::new(context.clone(), bytes, move || stream_event(timestamp, &written));
        (lane_key(place.name(), place.group()), event)
    } else {
        let key = lane_key(place.name(), &written.address.key);
        let written = written.clone();
        let event = Event::new(context.clone(), bytes, move || state_event(&written));
        (key, event)
    };
    deliver(core, watchers, &key, &event);
}

fn deliver(core: &Arc<Core>, watchers: &[Arc<Binding>], key: &str, event: &Arc<Event>) {
    for binding in watchers {
        core.triggers.deliver(binding, key, event);
    }
}

fn state_event(written: &Written) -> Result<Value> {
    let event_type = match (written.existed, &written.new) {
        (_, None) => "state:deleted",
        (false, Some(_)) => "state:created",
        (true, Some(_)) => "state:updated",
    };
    Ok(json!({
        "type": "state",
        "event_type": event_type,
        "scope": written.address.place.name(),
        "key": written.address.key,
        "old_value": shared(written.old.as_ref())?,
        "new_value": shared(written.new.as_ref())?,
    }))
}

fn stream_event(timestamp: i64, written: &Written) -> Result<Value> {
    let (event_type, data) = match (written.existed, &written.new) {
        (_, None) => ("delete", &written.old),
        (false, Some(_)) => ("create", &written.new),
        (true, Some(_)) => ("update", &written.new),
    };
    let event = json!({ "type": event_type, "data": shared(data.as_ref())? });
    let Address { place, key } = &written.address;
    Ok(stream_payload(
        timestamp,
        place.name(),
        place.group(),
        Some(key),
        &event,
    ))
}

fn stream_payload(timestamp: i64, stream: &str, group: &str, id: Option<&str>, event: &Value) -> Value {
    json!({
        "type": "stream",
        "timestamp": timestamp,
        "streamName": stream,
        "groupId": group,
        "id": id,
        "event": event,
    })
}

/// Names are free text, so the separator is one that JSON text of a name rarely holds; a clash only joins two lanes.
fn lane_key(name: &str, part: &str) -> String {
    format!("{name}\u{0}{part}")
}

fn now_ms(core: &Core) -> i64 {
    core.bus().map(|bus| bus.now_ms()).unwrap_or_default()
}

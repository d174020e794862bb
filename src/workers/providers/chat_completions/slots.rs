//! Which call a fragment belongs to: by index, else by id, else by order (contract 08 §6.3, field lesson V2).

use serde_json::Value;

use crate::workers::providers::assembly::{Assembly, Key};

/// First place of calls in a message, after reasoning and text.
pub(super) const CALLS: u32 = 2;
/// Calls in one message, and highest index; more is no honest answer.
const MAX_CALLS: u32 = 256;

/// The calls of a message so far, in order of appearance.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Slot>);

#[derive(Debug)]
struct Slot {
    index: Option<u32>,
    key: Key,
}

/// What a fragment says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) arguments: &'a Value,
    index: &'a Value,
}

impl<'a> Fragment<'a> {
    /// Reads a `tool_calls` item, or the older `function_call` object. Empty texts count as absent.
    pub(super) fn read(item: &'a Value) -> Self {
        let function = item.get("function").unwrap_or(item);
        let text = |object: &'a Value, key: &str| object.get(key)?.as_str().filter(|text| !text.is_empty());
        Self {
            id: text(item, "id")
                .or_else(|| text(function, "id"))
                .or_else(|| text(item, "tool_call_id")),
            name: text(function, "name").or_else(|| text(item, "name")),
            arguments: function.get("arguments").unwrap_or(&Value::Null),
            index: item.get("index").unwrap_or(&Value::Null),
        }
    }
}

impl Slots {
    /// The place of the call a fragment belongs to. `None`: out of bounds, to be ignored.
    pub(super) fn place(&mut self, fragment: Fragment<'_>, assembly: &mut Assembly) -> Option<Key> {
        if fragment.index.is_null() {
            return self.by_id(fragment, assembly);
        }
        let index = fragment
            .index
            .as_u64()
            .and_then(|index| u32::try_from(index).ok())?;
        if index >= MAX_CALLS {
            return None;
        }
        let known = self
            .0
            .iter()
            .rev()
            .find(|slot| slot.index == Some(index))
            .map(|slot| slot.key);
        match known {
            Some(key) if !is_next_call(fragment, key, assembly) => Some(key),
            _ => self.open(Some(index), CALLS + index),
        }
    }

    fn by_id(&mut self, fragment: Fragment<'_>, assembly: &mut Assembly) -> Option<Key> {
        if let Some(id) = fragment.id {
            let known = self.0.iter().find(|slot| assembly.call(slot.key).id == id);
            if let Some(slot) = known {
                return Some(slot.key);
            }
        }
        match self.0.last().map(|slot| slot.key) {
            Some(last) if continues(fragment, last, assembly) => Some(last),
            _ => {
                let next = self.0.iter().map(|slot| slot.key.0 + 1).max().unwrap_or(CALLS);
                self.open(None, next)
            }
        }
    }

    fn open(&mut self, index: Option<u32>, place: u32) -> Option<Key> {
        if self.0.len() >= MAX_CALLS as usize {
            return None;
        }
        let order = self.0.iter().filter(|slot| slot.key.0 == place).count();
        let key = (place, u32::try_from(order).ok()?);
        self.0.push(Slot { index, key });
        Some(key)
    }
}

/// Some servers give every parallel call index 0: another id and a name, after a call whose arguments are whole.
fn is_next_call(fragment: Fragment<'_>, key: Key, assembly: &mut Assembly) -> bool {
    let call = assembly.call(key);
    let other_id = fragment.id.is_some_and(|id| !call.id.is_empty() && call.id != id);
    other_id && fragment.name.is_some() && call.is_complete()
}

/// Whether a fragment without index and with no known id goes on with the last call.
fn continues(fragment: Fragment<'_>, last: Key, assembly: &mut Assembly) -> bool {
    let call = assembly.call(last);
    let late_id = fragment.id.is_none() || call.id.is_empty();
    let same_name = match fragment.name {
        None => true,
        Some(name) => call.name.is_empty() || (call.name == name && !call.is_complete()),
    };
    late_id && same_name
}

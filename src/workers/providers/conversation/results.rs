//! Which result belongs to which call.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::blocks;
use crate::model::RawMessage;

/// Results by call id, with their places. Some servers use the same ids again in each turn, so a call owns only the results up to
/// the next assistant message that uses its id; of several the last one counts.
pub(super) struct Results<'a> {
    messages: &'a [RawMessage],
    places: HashMap<&'a str, Vec<usize>>,
    calls: HashMap<&'a str, Vec<usize>>,
    pub(super) used: HashSet<usize>,
}

impl<'a> Results<'a> {
    pub(super) fn of(messages: &'a [RawMessage]) -> Self {
        let mut results: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut calls: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, message) in messages.iter().enumerate() {
            match message.role() {
                "function_result" => {
                    if let Some(id) = message
                        .text_member("function_call_id")
                        .filter(|id| !id.is_empty())
                    {
                        results.entry(id).or_default().push(at);
                    }
                }
                "assistant" => {
                    for block in blocks(message) {
                        if let Some(id) = call_id(block) {
                            calls.entry(id).or_default().push(at);
                        }
                    }
                }
                _ => {}
            }
        }
        Self {
            messages,
            places: results,
            calls,
            used: HashSet::new(),
        }
    }

    pub(super) fn claim(&mut self, id: &str, at: usize) -> Option<&'a RawMessage> {
        let next_use = self
            .calls
            .get(id)
            .and_then(|places| places.iter().find(|place| **place > at))
            .copied()
            .unwrap_or(usize::MAX);
        let places = self.places.get(id)?;
        let mut own = places.iter().filter(|place| (at..next_use).contains(*place));
        self.used.extend(own.clone());
        let last = match own.next_back() {
            Some(last) => *last,
            // Before its call: an odd order, but the only answer there is.
            None => *places
                .iter()
                .find(|place| !self.used.contains(place) && **place < at)?,
        };
        self.used.insert(last);
        self.messages.get(last)
    }
}

fn call_id(block: &Value) -> Option<&str> {
    (block.get("type")?.as_str()? == "function_call")
        .then(|| block.get("id")?.as_str())
        .flatten()
}

//! Which files the summarised calls read and changed (contract 10 weakness 20). Pure.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::model::RawMessage;

/// Most files of each kind that are kept; the newest count.
const MOST: usize = 200;

/// Longest path that is kept, in bytes.
const LONGEST: usize = 1_024;

/// The tool through which models call functions.
const AGENT_TRIGGER: &str = "agent_trigger";

const WRITES: [&str; 6] = ["write", "edit", "patch", "append", "replace", "insert"];
const READS: [&str; 5] = ["read", "cat", "view", "head", "tail"];
/// Words that say the same in an id that is about files.
const FILE_WRITES: [&str; 9] = [
    "create", "delete", "remove", "rm", "move", "mv", "rename", "update", "save",
];
const FILE_READS: [&str; 4] = ["get", "open", "load", "show"];
const FILE_WORDS: [&str; 3] = ["fs", "file", "files"];

/// Members that hold a path, or a list of them.
const PATHS: [&str; 6] = ["path", "file_path", "filepath", "file", "filename", "paths"];

/// `details` of a Compaction entry: the files of the summarised messages and of the compaction before.
pub(super) fn details(head: &[&RawMessage], previous: Option<&Value>) -> Map<String, Value> {
    let (mut read, mut modified) = (listed(previous, "read_files"), listed(previous, "modified_files"));
    let failed: HashSet<&str> = head.iter().filter_map(|message| failed_call(message)).collect();
    for message in head {
        for (function, payload) in calls(message, &failed) {
            let list = match kind(function) {
                Some(Kind::Write) => &mut modified,
                Some(Kind::Read) => &mut read,
                None => continue,
            };
            list.extend(paths(&payload));
        }
    }
    let modified = newest(modified);
    read.retain(|path| !modified.contains(path));
    Map::from_iter([
        ("read_files".to_owned(), json!(newest(read))),
        ("modified_files".to_owned(), json!(modified)),
    ])
}

fn listed(details: Option<&Value>, key: &str) -> Vec<String> {
    let list = details.and_then(|details| details.get(key)?.as_array());
    let paths = list.into_iter().flatten().filter_map(Value::as_str);
    paths.map(str::to_owned).collect()
}

/// Each path once, in the order of its last use.
fn newest(paths: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut kept: Vec<String> = paths
        .into_iter()
        .rev()
        .filter(|path| seen.insert(path.clone()))
        .take(MOST)
        .collect();
    kept.reverse();
    kept
}

fn failed_call(message: &RawMessage) -> Option<&str> {
    let is_error = message.object().get("is_error").and_then(Value::as_bool) == Some(true);
    message.text_member("function_call_id").filter(|_| is_error)
}

/// Target and payload of each call that did not fail.
fn calls<'a>(
    message: &'a RawMessage,
    failed: &'a HashSet<&str>,
) -> impl Iterator<Item = (&'a str, Value)> + 'a {
    let content = message.object().get("content").and_then(Value::as_array);
    content.into_iter().flatten().filter_map(|block| {
        let text = |value: &'a Value, key: &str| value.get(key).and_then(Value::as_str);
        if text(block, "type")? != "function_call" || failed.contains(text(block, "id")?) {
            return None;
        }
        let function = text(block, "function_id")?;
        let arguments = block.get("arguments")?;
        if function != AGENT_TRIGGER {
            return Some((function, arguments.clone()));
        }
        let payload = match arguments.get("payload")? {
            Value::String(text) => serde_json::from_str(text).ok()?,
            payload => payload.clone(),
        };
        Some((text(arguments, "function")?, payload))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

/// What a function does to files, by its name.
fn kind(function: &str) -> Option<Kind> {
    let lower = function.to_lowercase();
    let words: Vec<&str> = lower
        .split(|character: char| !character.is_alphanumeric())
        .collect();
    let names = |list: &[&str]| words.iter().any(|word| list.contains(word));
    let is_of_files = names(&FILE_WORDS);
    if names(&WRITES) || (is_of_files && names(&FILE_WRITES)) {
        Some(Kind::Write)
    } else if names(&READS) || (is_of_files && names(&FILE_READS)) {
        Some(Kind::Read)
    } else {
        None
    }
}

fn paths(payload: &Value) -> Vec<String> {
    let members = PATHS.iter().filter_map(|key| payload.get(key));
    let texts = members.flat_map(|member| match member {
        Value::Array(items) => items.iter().collect(),
        other => vec![other],
    });
    let is_path = |text: &&str| !text.is_empty() && text.len() <= LONGEST;
    texts
        .filter_map(Value::as_str)
        .filter(is_path)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "helpers take what json! gives")]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn call(id: &str, function: &str, payload: Value) -> RawMessage {
        RawMessage::new(json!({ "role": "assistant", "content": [
            { "type": "function_call", "id": id, "function_id": AGENT_TRIGGER,
              "arguments": { "function": function, "payload": payload } }] }))
        .unwrap()
    }

    fn of(messages: &[RawMessage], previous: Option<&Value>) -> Value {
        Value::Object(details(&messages.iter().collect::<Vec<_>>(), previous))
    }

    #[test]
    fn files_of_calls_that_worked_are_listed_by_what_was_done() {
        let failed =
            json!({ "role": "function_result", "content": [], "function_call_id": "4", "is_error": true });
        let messages = [
            call("1", "shell::fs::cat", json!({ "path": "/a" })),
            call("2", "shell::fs::write", json!("{\"path\":\"/b\"}")),
            call("3", "coder::read_file", json!({ "paths": ["/c", "/b", 5] })),
            call("4", "shell::fs::cat", json!({ "path": "/missing" })),
            call("5", "web::get", json!({ "path": "/no-file" })),
            call("6", "shell::fs::rm", json!({ "path": "" })),
            RawMessage::new(failed).unwrap(),
        ];
        let previous = json!({ "read_files": ["/old", "/a"], "modified_files": ["/z"] });
        assert_eq!(
            of(&messages, Some(&previous)),
            json!({ "read_files": ["/old", "/a", "/c"], "modified_files": ["/z", "/b"] })
        );
        assert_eq!(of(&[], None), json!({ "read_files": [], "modified_files": [] }));
    }

    #[test]
    fn the_lists_are_bounded() {
        let messages: Vec<RawMessage> = (0..MOST + 50)
            .map(|n| call("1", "fs::read", json!({ "path": format!("/{n}") })))
            .collect();
        let details = of(&messages, None);
        let read = details["read_files"].as_array().unwrap();
        assert_eq!((read.len(), &read[0]), (MOST, &json!("/50")));
    }
}

//! What the model sees of a session (contract 02 §5.1), and which messages of a `run::start` are new (contract 02 §3,
//! history form). Pure.

use std::collections::HashMap;

use serde_json::Value;

use crate::model::api::session::{CompactionsResponse, MessageRow, MessagesResponse};
use crate::model::message::UserRole;
use crate::model::{AgentMessage, ContentBlock, RawMessage, UserMessage, window};

/// Told to the model after a turn that the user stopped.
const STOPPED_NOTE: &str = "The user stopped the previous turn. Do not continue it unless asked to.";

/// The messages for the model, oldest first.
pub(super) fn view(
    rows: &MessagesResponse,
    compactions: &CompactionsResponse,
    now_ms: i64,
) -> Vec<RawMessage> {
    let compaction = window::newest(&compactions.entries);
    let summary = compaction.map(|row| window::summary_message(&row.summary, row.timestamp));
    let kept = window::verbatim(&rows.messages, compaction);
    summary
        .into_iter()
        .chain(with_stop_notes(kept.into_iter(), now_ms))
        .collect()
}

/// Leaves out failed messages, and stopped ones that say nothing; after a stopped turn a note says so.
fn with_stop_notes<'a>(rows: impl Iterator<Item = &'a MessageRow>, now_ms: i64) -> Vec<RawMessage> {
    let mut out = Vec::new();
    let mut stopped = false;
    for row in rows {
        let message = &row.message;
        if stopped && message.role() != "function_result" {
            out.push(user(STOPPED_NOTE, now_ms));
            stopped = false;
        }
        match message.text_member("stop_reason") {
            Some("error") => continue,
            Some("aborted") => {
                stopped = true;
                if is_empty(message) {
                    continue;
                }
            }
            _ => {}
        }
        out.push(message.clone());
    }
    if stopped {
        out.push(user(STOPPED_NOTE, now_ms));
    }
    out
}

fn is_empty(message: &RawMessage) -> bool {
    let content = message.object().get("content").and_then(Value::as_array);
    content.is_none_or(Vec::is_empty)
}

fn user(text: &str, timestamp: i64) -> RawMessage {
    RawMessage::from(&AgentMessage::User(UserMessage {
        role: UserRole::Role,
        content: vec![ContentBlock::text(text)],
        timestamp,
    }))
}

/// Index of the first given message that is new. The last one always is; those before it are history, matched in step
/// with the active path by role and text.
pub(super) fn first_new(
    path: &[MessageRow],
    compactions: &CompactionsResponse,
    given: &[RawMessage],
) -> usize {
    let Some(history) = given.len().checked_sub(1).map(|last| given.iter().take(last)) else {
        return 0;
    };
    let compaction = window::newest(&compactions.entries);
    let summary = compaction.map(|row| window::wrap_summary(&row.summary));
    let is_summary = |(role, text): &Said<'_>| {
        *role == "assistant"
            && summary
                .as_deref()
                .is_some_and(|summary| summary.trim() == text.trim())
    };
    matched(
        path.iter().map(|row| said(&row.message)),
        history.map(said),
        is_summary,
    )
}

/// Role and joined text of a message.
type Said<'a> = (&'a str, String);

fn said(message: &RawMessage) -> Said<'_> {
    (message.role(), joined(message))
}

/// How much of the history is on the path, up to its last element that is: each is looked for behind the one before it.
/// Both are read once, since a client may send a long history that is not on the path at all.
fn matched<'a>(
    path: impl Iterator<Item = Said<'a>>,
    history: impl Iterator<Item = Said<'a>>,
    is_summary: impl Fn(&Said<'a>) -> bool,
) -> usize {
    let mut places: HashMap<Said<'a>, Vec<usize>> = HashMap::new();
    for (place, said) in path.enumerate() {
        places.entry(said).or_default().push(place);
    }
    let (mut from, mut matched) = (0, 0);
    for (index, said) in history.enumerate() {
        let place = places.get(&said).and_then(|places| {
            let next = places.partition_point(|place| *place < from);
            places.get(next)
        });
        if is_summary(&said) {
            matched = index + 1;
        } else if let Some(place) = place {
            from = place + 1;
            matched = index + 1;
        }
    }
    matched
}

fn joined(message: &RawMessage) -> String {
    message.texts().collect::<Vec<_>>().join("\n")
}

/// The id of the user message that waits for its answer, which a compaction must leave alone; `""` when there is none. In
/// the middle of a turn everything but its last step may be summarised.
pub(super) fn open_question(rows: &MessagesResponse) -> String {
    let mut said = rows.messages.iter().rev().filter(|row| !window::is_nudge(row));
    let last = said.next().filter(|row| window::is_user(row));
    last.map(|row| row.entry_id.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::api::session::CompactionRow;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn row(id: &str, role: &str, text: &str) -> MessageRow {
        let mut value =
            json!({ "role": role, "content": [{ "type": "text", "text": text }], "timestamp": 1 });
        if role == "assistant" {
            value["stop_reason"] = json!("end");
        }
        MessageRow {
            entry_id: id.into(),
            message: RawMessage::new(value).unwrap(),
            metadata: None,
        }
    }

    fn path(rows: &[(&str, &str, &str)]) -> MessagesResponse {
        MessagesResponse {
            messages: rows.iter().map(|(id, role, text)| row(id, role, text)).collect(),
            ..MessagesResponse::default()
        }
    }

    fn texts(messages: &[RawMessage]) -> Vec<String> {
        messages.iter().map(joined).collect()
    }

    fn compaction(tail: Option<&str>, before: Option<usize>) -> CompactionsResponse {
        let row = CompactionRow {
            id: "k".into(),
            summary: "S".into(),
            tokens_before: json!(1),
            tail_start_id: tail.map(Into::into),
            details: json!({}),
            timestamp: 5,
            on_path: Some(true),
            messages_before: before,
        };
        CompactionsResponse { entries: vec![row] }
    }

    const SUMMARY: &str = "<conversation-summary>\nS\n</conversation-summary>";

    #[test]
    fn without_a_compaction_all_messages_are_seen_but_failed_ones() {
        let mut rows = path(&[
            ("1", "user", "a"),
            ("2", "assistant", "bad"),
            ("3", "assistant", "b"),
        ]);
        let mut failed = rows.messages[1].message.to_value();
        failed["stop_reason"] = json!("error");
        rows.messages[1].message = RawMessage::new(failed).unwrap();
        assert_eq!(
            texts(&view(&rows, &CompactionsResponse::default(), 0)),
            ["a", "b"]
        );
    }

    #[test]
    fn after_a_stopped_turn_and_its_results_a_note_follows() {
        let mut rows = path(&[
            ("1", "user", "a"),
            ("2", "assistant", "x"),
            ("3", "function_result", "r"),
            ("4", "user", "b"),
        ]);
        let mut stopped = rows.messages[1].message.to_value();
        stopped["stop_reason"] = json!("aborted");
        rows.messages[1].message = RawMessage::new(stopped).unwrap();
        assert_eq!(
            texts(&view(&rows, &CompactionsResponse::default(), 0)),
            ["a", "x", "r", STOPPED_NOTE, "b"]
        );
    }

    #[test]
    fn a_compaction_replaces_what_stands_before_its_tail() {
        let rows = path(&[("1", "user", "a"), ("2", "assistant", "b"), ("3", "user", "c")]);
        assert_eq!(
            texts(&view(&rows, &compaction(Some("3"), Some(2)), 0)),
            [SUMMARY, "c"]
        );
        assert_eq!(
            texts(&view(&rows, &compaction(Some("gone"), Some(2)), 0)),
            [SUMMARY, "c"]
        );
        assert_eq!(
            texts(&view(&rows, &compaction(None, None), 0)),
            [SUMMARY, "a", "b", "c"]
        );
    }

    #[test]
    fn an_open_question_survives_a_compaction_without_a_tail() {
        let mut rows = path(&[
            ("1", "user", "a"),
            ("2", "assistant", "b"),
            ("3", "user", "q"),
            ("4", "user", "go on"),
        ]);
        rows.messages[3].metadata = Some(json!({ "compaction_continue": true }));
        assert_eq!(texts(&view(&rows, &compaction(None, Some(3)), 0)), [SUMMARY, "q"]);
        rows.messages.push(row("5", "assistant", "answer"));
        assert_eq!(
            texts(&view(&rows, &compaction(None, Some(3)), 0)),
            [SUMMARY, "q", "go on", "answer"]
        );
    }

    #[test]
    fn the_history_form_appends_only_what_is_new() {
        let rows = path(&[("1", "user", "a"), ("2", "assistant", "b"), ("3", "user", "a")]);
        let given = |texts: &[(&str, &str)]| -> Vec<RawMessage> {
            texts
                .iter()
                .map(|(role, text)| row("x", role, text).message)
                .collect()
        };
        let new = |texts: &[(&str, &str)]| {
            first_new(&rows.messages, &CompactionsResponse::default(), &given(texts))
        };
        assert_eq!(new(&[]), 0);
        assert_eq!(new(&[("user", "a")]), 0);
        assert_eq!(
            new(&[("user", "a"), ("assistant", "b"), ("user", "a"), ("user", "d")]),
            3
        );
        assert_eq!(new(&[("user", "z"), ("assistant", "b"), ("user", "d")]), 2);
        assert_eq!(new(&[("user", "z"), ("user", "d")]), 0);
        let with_summary = given(&[("assistant", SUMMARY), ("user", "d")]);
        assert_eq!(
            first_new(&rows.messages, &compaction(None, Some(3)), &with_summary),
            1
        );
    }

    #[test]
    fn only_a_question_without_an_answer_is_left_alone() {
        let mut rows = path(&[("1", "user", "a"), ("2", "user", "go on")]);
        rows.messages[1].metadata = Some(json!({ "compaction_continue": true }));
        assert_eq!(open_question(&rows), "1");
        rows.messages.push(row("3", "assistant", "b"));
        assert_eq!(open_question(&rows), "");
        assert_eq!(open_question(&path(&[])), "");
    }

    #[test]
    fn a_long_history_is_read_once() {
        use std::cell::Cell;
        const MANY: usize = 20_000;
        let read = Cell::new(0);
        let count = |n: usize, prefix: &str| {
            read.set(read.get() + 1);
            ("user", format!("{prefix}{n}"))
        };
        let path = || (0..MANY).map(|n| count(n, "a"));
        // Compared one by one, this would take 400 million texts.
        assert_eq!(matched(path(), (0..MANY).map(|n| count(n, "b")), |_| false), 0);
        assert_eq!(read.get(), 2 * MANY);
        // The same text again and again is found behind the one before it.
        let same = |many| (0..many).map(|_| ("user", "x".to_owned()));
        assert_eq!(matched(same(MANY), same(MANY + 5), |_| false), MANY);
        let backwards = (0..MANY).rev().map(|n| count(n, "a"));
        assert_eq!(matched(path(), backwards, |_| false), 1);
    }
}

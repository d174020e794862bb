//! What of a transcript a model still sees verbatim once the rest is a summary (contract 02 §5.1, 10 §4). Pure.

use serde_json::Value;

use super::api::session::{CompactionRow, MessageRow};
use super::message::{AgentMessage, AssistantMessage, ContentBlock};
use super::raw::RawMessage;

const OPEN: &str = "<conversation-summary>\n";
const CLOSE: &str = "\n</conversation-summary>";

/// A summary as it stands in a conversation.
pub fn wrap_summary(summary: &str) -> String {
    format!("{OPEN}{summary}{CLOSE}")
}

/// The message that stands for what was summarised at that time.
pub fn summary_message(summary: &str, timestamp: i64) -> RawMessage {
    let mut message = AssistantMessage::empty("", "", timestamp);
    message.content = vec![ContentBlock::text(wrap_summary(summary))];
    RawMessage::from(&AgentMessage::Assistant(message))
}

/// Whether a message is such a summary.
pub fn is_summary(message: &RawMessage) -> bool {
    message.role() == "assistant"
        && message.text_member("model") == Some("")
        && message.texts().next().is_some_and(|text| text.starts_with(OPEN))
}

/// The newest compaction on the active path. Rows of session workers that do not tell count as on it.
pub fn newest(compactions: &[CompactionRow]) -> Option<&CompactionRow> {
    let on_path = compactions.iter().filter(|row| row.on_path.unwrap_or(true));
    on_path.reduce(|newest, row| {
        if row.timestamp >= newest.timestamp {
            row
        } else {
            newest
        }
    })
}

/// Whether a row is the prompt that a compaction leaves behind, not a word of the user.
pub fn is_nudge(row: &MessageRow) -> bool {
    marks_nudge(row.metadata.as_ref())
}

/// The same by the metadata of its entry.
pub fn marks_nudge(metadata: Option<&Value>) -> bool {
    metadata.is_some_and(|metadata| metadata["compaction_continue"] == true)
}

/// Whether a row is a word of the user.
pub fn is_user(row: &MessageRow) -> bool {
    row.message.role() == "user" && !is_nudge(row)
}

/// The rows that stay verbatim beside the summary, oldest first. A prompt of the compaction is left out while the question
/// before it has no answer: the model is to answer that.
pub fn verbatim<'a>(rows: &'a [MessageRow], compaction: Option<&CompactionRow>) -> Vec<&'a MessageRow> {
    let mut kept: Vec<&MessageRow> = match compaction {
        None => rows.iter().collect(),
        Some(compaction) => tail(rows, compaction),
    };
    let question = kept.iter().rposition(|row| is_user(row));
    if let Some(question) = question {
        let answered = kept
            .iter()
            .skip(question)
            .any(|row| row.message.role() == "assistant");
        let mut place = 0;
        kept.retain(|row| {
            place += 1;
            answered || place <= question || !is_nudge(row)
        });
    }
    kept
}

fn tail<'a>(rows: &'a [MessageRow], compaction: &CompactionRow) -> Vec<&'a MessageRow> {
    let start = compaction
        .tail_start_id
        .as_ref()
        .and_then(|id| rows.iter().position(|row| row.entry_id == *id));
    if let Some(start) = start {
        return rows.iter().skip(start).collect();
    }
    let Some(before) = compaction.messages_before else {
        return rows.iter().collect();
    };
    let (old, recent) = rows.split_at(before.min(rows.len()));
    // The question that the compaction interrupted must stay visible: nobody has answered it.
    let last = old
        .iter()
        .rev()
        .find(|row| row.message.role() != "function_result" && !is_nudge(row));
    let question = last.filter(|row| is_user(row));
    question.into_iter().chain(recent).collect()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    fn rows(words: &[(&str, &str)]) -> Vec<MessageRow> {
        let row = |(id, role): &(&str, &str)| MessageRow {
            entry_id: (*id).into(),
            message: RawMessage::new(json!({ "role": role.replace("nudge", "user"), "content": [] }))
                .unwrap(),
            metadata: (*role == "nudge").then(|| json!({ "compaction_continue": true })),
        };
        words.iter().map(row).collect()
    }

    fn compaction(tail: Option<&str>, before: usize) -> CompactionRow {
        CompactionRow {
            id: "k".into(),
            summary: "S".into(),
            tokens_before: json!(1),
            tail_start_id: tail.map(Into::into),
            details: json!({}),
            timestamp: 5,
            on_path: Some(true),
            messages_before: Some(before),
        }
    }

    fn seen(words: &[(&str, &str)], compaction: &CompactionRow) -> Vec<String> {
        let rows = rows(words);
        let kept = verbatim(&rows, Some(compaction));
        kept.into_iter().map(|row| row.entry_id.to_string()).collect()
    }

    #[test]
    fn a_prompt_never_hides_the_question_before_it() {
        let asked = [("u", "user"), ("a", "assistant"), ("q", "user"), ("n", "nudge")];
        assert_eq!(seen(&asked, &compaction(None, 3)), ["q"]);
        assert_eq!(seen(&asked, &compaction(Some("a"), 3)), ["a", "q"]);
        // A second compaction, still without an answer.
        assert_eq!(seen(&asked, &compaction(None, 4)), ["q"]);
        let answered = [&asked[..], &[("b", "assistant")]].concat();
        assert_eq!(seen(&answered, &compaction(None, 3)), ["q", "n", "b"]);
        assert_eq!(seen(&answered, &compaction(None, 5)), Vec::<String>::new());
    }

    #[test]
    fn only_summaries_are_taken_for_one() {
        assert!(is_summary(&summary_message("S", 7)));
        for odd in [
            json!({ "role": "user", "model": "", "content": [{ "type": "text", "text": wrap_summary("S") }] }),
            json!({ "role": "assistant", "model": "m", "content": [{ "type": "text", "text": wrap_summary("S") }] }),
            json!({ "role": "assistant", "model": "", "content": [{ "type": "text", "text": "S" }] }),
        ] {
            assert!(!is_summary(&RawMessage::new(odd).unwrap()));
        }
    }
}

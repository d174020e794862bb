//! What the summariser is asked.
#![expect(clippy::needless_pass_by_value, reason = "helpers take what json! gives")]

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const FRAME: usize = 120;

fn message(role: &str, content: Value) -> RawMessage {
    RawMessage::stored(json!({ "role": role, "content": content })).unwrap()
}

fn text(role: &str, text: &str) -> RawMessage {
    message(role, json!([{ "type": "text", "text": text }]))
}

fn rendered(messages: &[RawMessage], bytes: usize) -> String {
    conversation(&messages.iter().collect::<Vec<_>>(), 2_000, bytes)
}

#[test]
fn c10_case_25_a_previous_summary_is_in_the_prompt_and_only_then() {
    let new = system(None, 10_000);
    assert!(!new.contains("previous-summary") && !new.contains("OLD"));
    let update = system(Some("OLD"), 10_000);
    assert!(update.contains("\n<previous-summary>\nOLD\n</previous-summary>\n"));
    let headings = [
        "## Goal",
        "## Constraints & Preferences",
        "## Progress",
        "### Done",
        "### In Progress",
        "### Blocked",
        "## Key Decisions",
        "## Tool Calls Made",
        "## Next Steps",
        "## Critical Context",
        "## Relevant Files",
    ];
    for prompt in [new, update] {
        let places: Vec<usize> = headings
            .iter()
            .map(|heading| prompt.find(heading).unwrap())
            .collect();
        assert!(places.is_sorted(), "{places:?}");
    }
    assert!(system(Some(&"é".repeat(9_000)), 3_000).len() < 3_000);
}

#[test]
fn c10_case_26_pictures_are_words_and_outputs_are_cut() {
    let image = json!({ "type": "image", "mime": "image/png", "data": "AAAA" });
    let long = json!({ "type": "text", "text": "x".repeat(10_000) });
    assert_eq!(
        lines(&message("user", json!([image, long])), 100),
        ["[image stripped]".to_owned(), "x".repeat(10_000)]
    );
    assert_eq!(
        lines(&message("function_result", json!([long, image])), 100),
        ["x".repeat(100) + "... [truncated]", "[image stripped]".to_owned()]
    );
}

#[test]
fn a_conversation_is_rendered_line_by_line() {
    let call = json!({ "type": "function_call", "id": "1", "function_id": "f", "arguments": { "a": [1] } });
    let messages = [
        text("user", "hi"),
        message(
            "assistant",
            json!([{ "type": "thinking", "text": "no" }, { "type": "text", "text": "so" }, call, 5]),
        ),
        message("custom", json!({ "odd": true })),
        message("custom", json!("plain")),
        message("custom", json!(null)),
    ];
    let expected = "Summarise this conversation.\n\n<conversation>\n\n[user]\nhi\n\n[assistant]\nso\n\
        [tool_call] f {\"a\":[1]}\n\n[custom]\n{\"odd\":true}\n\n[custom]\nplain\n\n[custom]\n</conversation>";
    assert_eq!(rendered(&messages, 10_000), expected);
}

#[test]
fn field_lesson_k4_outputs_go_first_then_long_texts_then_the_oldest_messages() {
    let long = "y".repeat(1_000);
    let messages = [
        text("user", "question"),
        text("function_result", &format!("first {long}")),
        text("assistant", &format!("words {long}")),
        text("function_result", &format!("second {long}")),
    ];
    let seen = |bytes| {
        let text = rendered(&messages, bytes);
        [
            "question",
            "first",
            "words",
            "second",
            "[output left out]",
            "... [truncated]",
            "earlier messages",
        ]
        .map(|word| text.contains(word))
    };
    assert_eq!(seen(4_000), [true, true, true, true, false, false, false]);
    assert_eq!(seen(2_500), [true, false, true, true, true, false, false]);
    assert_eq!(seen(1_400), [true, false, true, false, true, false, false]);
    assert_eq!(seen(600), [true, false, true, false, true, true, false]);
    assert_eq!(seen(200), [false, false, false, false, true, false, true]);
}

#[test]
fn a_small_window_is_halved_and_told_how_long_to_answer() {
    let limit = |context, output| Limits {
        context,
        input: context,
        output,
    };
    assert_eq!(
        space(limit(200_000, 4_096), 20_000),
        Space {
            bytes: 540_000,
            answer: None
        }
    );
    assert_eq!(
        space(limit(8_192, 8_192), 20_000),
        Space {
            bytes: 12_288,
            answer: Some(2_048)
        }
    );
    assert_eq!(
        space(limit(32_000, 4_000), 20_000),
        Space {
            bytes: 48_000,
            answer: Some(8_000)
        }
    );
}

proptest! {
    #[test]
    fn field_lesson_k4_the_request_always_fits(
        said in proptest::collection::vec((0_u8..3, "[a-zé🦀 ]{0,400}"), 0..30), bytes in 0_usize..6_000,
    ) {
        let roles = ["user", "assistant", "function_result"];
        let messages: Vec<RawMessage> = said.iter().map(|(role, words)| text(roles[usize::from(*role)], words)).collect();
        prop_assert!(rendered(&messages, bytes).len() <= bytes.max(FRAME));
    }
}

//! A path as one HTML document that does nothing: no text becomes markup, no script, no link, nothing loaded (contract 06 §4.7,
//! field lesson S7). Pure.

use std::sync::Arc;

use serde_json::Value;

use super::entry::{Body, SessionEntry};
use crate::model::RawMessage;
use crate::telemetry::redact;

/// Blocks within blocks that are followed; deeper ones are shown as JSON.
const MAX_NESTING: usize = 16;

/// Should anything slip through the escaping after all: no script runs and nothing is loaded.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const STYLE: &str = include_str!("export.css");

/// The document of a path.
pub(super) fn document(session: &str, path: &[Arc<SessionEntry>]) -> String {
    let mut page = Page(String::with_capacity(4096));
    page.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"");
    page.raw(POLICY);
    page.raw(
        "\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>session ",
    );
    page.text(session);
    page.raw("</title>\n<style>\n");
    page.raw(STYLE);
    page.raw("</style>\n</head>\n<body>\n<div class=\"session\">\n");
    for entry in path {
        page.entry(entry);
    }
    page.raw("</div>\n</body>\n</html>\n");
    page.0
}

struct Page(String);

impl Page {
    /// Text of ours.
    fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Text of others. Control characters are shown as signs, so that the file is inert in a terminal too.
    fn text(&mut self, text: &str) {
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '&' => self.raw("&amp;"),
                '<' => self.raw("&lt;"),
                '>' => self.raw("&gt;"),
                '"' => self.raw("&quot;"),
                '\'' => self.raw("&#39;"),
                '\r' if chars.peek() == Some(&'\n') => {}
                '\n' | '\t' => self.0.push(char),
                char if char.is_control() => self.0.push(sign(char)),
                char => self.0.push(char),
            }
        }
    }

    fn pre(&mut self, text: &str) {
        // A parser drops a line break that follows the tag at once.
        self.raw("<pre>");
        if text.starts_with('\n') {
            self.raw("\n");
        }
        self.text(text);
        self.raw("</pre>");
    }

    fn json(&mut self, value: &Value) {
        self.pre(&redact(value).to_string());
    }

    fn entry(&mut self, entry: &SessionEntry) {
        match &entry.body {
            Body::Message(message) => self.message(message),
            Body::CustomMessage {
                custom_type,
                content,
                display,
                ..
            } => {
                self.open("custom", "custom", Some(custom_type));
                self.custom(display.as_deref(), content);
            }
            Body::BranchSummary { summary, from_id } => {
                self.open("summary", "branch summary", Some(&format!("from {from_id}")));
                self.pre(summary);
            }
            Body::Compaction {
                summary,
                tokens_before,
                details,
                ..
            } => {
                self.open(
                    "compaction",
                    "compaction",
                    Some(&format!("{tokens_before} tokens before")),
                );
                let read = files(details, "read_files");
                let modified = files(details, "modified_files");
                self.pre(&format!("{summary}\n\nread: {read}\nmodified: {modified}"));
            }
            Body::Unreadable => {
                self.open("unreadable", "unreadable record", Some(&entry.id));
            }
        }
        self.raw("</div>\n");
    }

    fn open(&mut self, kind: &'static str, label: &'static str, more: Option<&str>) {
        self.raw("<div class=\"entry ");
        self.raw(kind);
        self.raw("\"><div class=\"role\">");
        self.raw(label);
        if let Some(more) = more {
            self.raw(" \u{b7} ");
            self.text(more);
        }
        self.raw("</div>");
    }

    fn message(&mut self, message: &RawMessage) {
        let member = |name| Some(message.text_member(name).unwrap_or_default());
        let content = message.object().get("content").unwrap_or(&Value::Null);
        match message.role() {
            "assistant" => self.open("assistant", "assistant", member("model")),
            "function_result" => self.open("tool-result", "function result", member("function_id")),
            "custom" => {
                self.open("custom", "custom", member("custom_type"));
                return self.custom(message.text_member("display"), content);
            }
            // Stored by others: a role that nobody knows is shown as what it is.
            role if role != "user" => self.open("other", "message", Some(role)),
            _ => self.open("user", "user", None),
        }
        self.blocks(content, 0);
    }

    fn custom(&mut self, display: Option<&str>, content: &Value) {
        match display {
            Some(display) => self.pre(display),
            None => self.json(content),
        }
    }

    fn blocks(&mut self, content: &Value, depth: usize) {
        match content {
            Value::Array(blocks) => {
                for block in blocks {
                    self.block(block, depth);
                }
            }
            Value::String(text) => self.pre(text),
            Value::Null => {}
            other => self.json(other),
        }
    }

    fn block(&mut self, block: &Value, depth: usize) {
        let member = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
        match member("type") {
            "text" => self.pre(member("text")),
            "thinking" => {
                self.raw("<div class=\"thinking\">");
                self.pre(member("text"));
                self.raw("</div>");
            }
            "image" => self.pre(&format!("[image: {}]", member("mime"))),
            "function_call" => {
                let arguments = block.get("arguments").map(redact).unwrap_or_default();
                self.pre(&format!("function call: {} {arguments}", member("function_id")));
            }
            "function_result" if depth < MAX_NESTING => {
                self.blocks(block.get("content").unwrap_or(&Value::Null), depth + 1);
            }
            _ => self.json(block),
        }
    }
}

/// What stands for a control character.
fn sign(control: char) -> char {
    match u32::from(control) {
        code @ 0..0x20 => char::from_u32(0x2400 + code).unwrap_or(char::REPLACEMENT_CHARACTER),
        0x7f => '\u{2421}',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

fn files(details: &Value, name: &str) -> String {
    let files = details.get(name).and_then(Value::as_array);
    let files = files.into_iter().flatten().filter_map(Value::as_str);
    files.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn body(rows: &[Value]) -> String {
        let entries: Vec<_> = rows
            .iter()
            .map(|row| Arc::new(SessionEntry::read(row.clone()).0.unwrap()))
            .collect();
        let html = document("s", &entries);
        let (_, rest) = html.split_once("<div class=\"session\">\n").unwrap();
        let (body, end) = rest.rsplit_once("</div>\n</body>").unwrap();
        assert_eq!(end, "\n</html>\n");
        body.to_owned()
    }

    fn message(message: &Value) -> String {
        body(&[json!({"type": "message", "id": "e", "timestamp": 1, "message": message})])
    }

    #[test]
    fn an_empty_path_is_a_document_without_entries() {
        let html = document("<s>", &[]);
        assert!(html.starts_with("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"));
        assert!(html.contains("<title>session &lt;s&gt;</title>"));
        assert!(html.ends_with("<body>\n<div class=\"session\">\n</div>\n</body>\n</html>\n"));
        assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("url("));
    }

    #[test]
    fn every_kind_of_entry_has_its_block() {
        assert_eq!(
            message(&json!({"role": "user", "content": [{"type": "text", "text": "a < b & \"c\" 'd'"}]})),
            "<div class=\"entry user\"><div class=\"role\">user</div>\
             <pre>a &lt; b &amp; &quot;c&quot; &#39;d&#39;</pre></div>\n"
        );
        let blocks = json!([
            {"type": "thinking", "text": "hm"},
            {"type": "image", "mime": "image/png", "data": "AAAA"},
            {"type": "function_call", "id": "c", "function_id": "f::g", "arguments": {"x": [1], "api_key": "k"}},
            {"type": "function_result", "function_call_id": "c", "content": [{"type": "text", "text": "inner"}]},
            {"type": "riddle"},
            7,
        ]);
        assert_eq!(
            message(&json!({"role": "assistant", "model": "m", "content": blocks})),
            "<div class=\"entry assistant\"><div class=\"role\">assistant \u{b7} m</div>\
             <div class=\"thinking\"><pre>hm</pre></div><pre>[image: image/png]</pre>\
             <pre>function call: f::g {&quot;x&quot;:[1],&quot;api_key&quot;:&quot;[REDACTED]&quot;}</pre>\
             <pre>inner</pre><pre>{&quot;type&quot;:&quot;riddle&quot;}</pre><pre>7</pre></div>\n"
        );
        assert_eq!(
            message(&json!({"role": "function_result", "function_id": "f::g", "content": "old"})),
            "<div class=\"entry tool-result\"><div class=\"role\">function result \u{b7} f::g</div><pre>old</pre></div>\n"
        );
        assert_eq!(
            message(&json!({"role": "custom", "custom_type": "note", "content": {"a": 1}})),
            "<div class=\"entry custom\"><div class=\"role\">custom \u{b7} note</div>\
             <pre>{&quot;a&quot;:1}</pre></div>\n"
        );
        assert_eq!(
            message(&json!({"role": "robot", "content": [{"type": "text", "text": "x"}]})),
            "<div class=\"entry other\"><div class=\"role\">message \u{b7} robot</div><pre>x</pre></div>\n"
        );
        let rows = [
            json!({"type": "custom_message", "id": "b", "timestamp": 1, "custom_type": "n", "content": 1, "display": "shown"}),
            json!({"type": "branch_summary", "id": "c", "timestamp": 2, "summary": "s", "from_id": "q"}),
            json!({"type": "compaction", "id": "d", "timestamp": 3, "summary": "s", "tokens_before": 12,
                   "details": {"read_files": ["a.rs", "b.rs"]}}),
            json!({"type": "riddle", "id": "<e>", "timestamp": 4}),
        ];
        assert_eq!(
            body(&rows),
            "<div class=\"entry custom\"><div class=\"role\">custom \u{b7} n</div><pre>shown</pre></div>\n\
             <div class=\"entry summary\"><div class=\"role\">branch summary \u{b7} from q</div><pre>s</pre></div>\n\
             <div class=\"entry compaction\"><div class=\"role\">compaction \u{b7} 12 tokens before</div>\
             <pre>s\n\nread: a.rs, b.rs\nmodified: </pre></div>\n\
             <div class=\"entry unreadable\"><div class=\"role\">unreadable record \u{b7} &lt;e&gt;</div></div>\n"
        );
    }

    #[test]
    fn field_lesson_s7_text_is_inert_in_a_terminal_too() {
        let text = "\nok\r\n\u{1b}[2J\u{7}\u{9b}\u{0}\r\u{7f}\tä\u{2028}";
        assert_eq!(
            message(&json!({"role": "user", "content": [{"type": "text", "text": text}]})),
            "<div class=\"entry user\"><div class=\"role\">user</div>\
             <pre>\n\nok\n\u{241b}[2J\u{2407}\u{fffd}\u{2400}\u{240d}\u{2421}\tä\u{2028}</pre></div>\n"
        );
    }

    #[test]
    fn blocks_within_blocks_have_an_end() {
        let mut block = json!({"type": "text", "text": "x"});
        for _ in 0..50 {
            block = json!({"type": "function_result", "content": [block]});
        }
        let html = message(&json!({"role": "user", "content": [block]}));
        assert!(
            html.contains("<pre>{&quot;type&quot;:&quot;function_result&quot;"),
            "{html}"
        );
    }
}

//! A chat request as the server saw it.

use axum::http::HeaderMap;
use serde_json::Value;

/// Headers and body of one request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Headers.
    pub headers: HeaderMap,
    /// The JSON body; null when it was none.
    pub body: Value,
}

impl Request {
    /// The `model`.
    pub fn model(&self) -> &str {
        self.body.get("model").and_then(Value::as_str).unwrap_or_default()
    }

    /// The `messages`.
    pub fn rows(&self) -> &[Value] {
        self.body
            .get("messages")
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// The text of the last user row; of content in parts the text parts, one per line.
    pub fn last_user_text(&self) -> String {
        let last = self.rows().iter().rev().find(|row| role(row) == "user");
        last.map(text_of).unwrap_or_default()
    }

    /// The tool rows after the last assistant row, as call id and text: what a model would now react to.
    pub fn tool_results(&self) -> Vec<(String, String)> {
        let newest = self.rows().iter().rev().take_while(|row| role(row) == "tool");
        let mut results: Vec<_> = newest
            .map(|row| {
                let id = row
                    .get("tool_call_id")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                (id.to_owned(), text_of(row))
            })
            .collect();
        results.reverse();
        results
    }

    /// Names of the offered tools.
    pub fn tools(&self) -> Vec<&str> {
        let tools = self.body.get("tools").and_then(Value::as_array);
        let names = tools.into_iter().flatten();
        names
            .filter_map(|tool| {
                tool.pointer("/function/name")
                    .or_else(|| tool.get("name"))?
                    .as_str()
            })
            .collect()
    }

    /// A header's value; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }
}

pub(super) fn role(row: &Value) -> &str {
    row.get("role").and_then(Value::as_str).unwrap_or_default()
}

fn text_of(row: &Value) -> String {
    match row.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

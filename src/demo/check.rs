//! What was seen of a scene, in short lines, and how it differs from what must be.

use serde_json::Value;

use super::scenes::Scene;

/// Events and transcript of one scene.
#[derive(Default)]
pub(super) struct Seen {
    events: Vec<String>,
    transcript: Vec<String>,
}

impl Seen {
    pub(super) fn event(&mut self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line = match event["type"].as_str().unwrap_or_default() {
            "message_update" => return self.delta(&event["llm_event"]),
            "turn_state_changed" => {
                let view = &event["new_value"];
                let created = if event["event_type"] == "state:created" {
                    "created "
                } else {
                    ""
                };
                let parked = view["awaiting_approval"].as_array().into_iter().flatten();
                let words = [text(&view["state"])]
                    .into_iter()
                    .chain(parked.map(|call| text(&call["function_id"])));
                format!("{created}{}", words.collect::<Vec<_>>().join(" "))
            }
            "message_complete" => format!("message_complete {}", text(&event["message"]["stop_reason"])),
            "function_execution_start" => format!("start {}", text(&event["function_id"])),
            "function_execution_end" => {
                let outcome = if event["is_error"] == true { "error" } else { "ok" };
                format!("end {} {outcome}", text(&event["function_id"]))
            }
            "turn_end" => {
                let results = event["function_results"].as_array().map_or(0, Vec::len);
                format!("turn_end {results}")
            }
            other => other.to_owned(),
        };
        self.events.push(line);
    }

    /// Text deltas in a row make one line; other stream events make none.
    fn delta(&mut self, event: &Value) {
        if event["type"] != "text_delta" {
            return;
        }
        let delta = event["delta"].as_str().unwrap_or_default();
        match self.events.last_mut() {
            Some(line) if line.starts_with("streams ") => line.push_str(delta),
            _ => self.events.push(format!("streams {delta}")),
        }
    }

    pub(super) fn transcript(&mut self, messages: &Value) {
        let rows = messages["messages"].as_array().into_iter().flatten();
        self.transcript = rows.map(|row| summary(&row["message"])).collect();
    }

    /// Both lists as they are and as they must be, where they differ.
    pub(super) fn differences(&self, scene: &Scene) -> Vec<String> {
        [
            ("events", &self.events, scene.events),
            ("transcript", &self.transcript, scene.transcript),
        ]
        .into_iter()
        .filter(|(_, seen, expected)| !seen.iter().eq(expected.iter()))
        .map(|(what, seen, expected)| {
            format!(
                "{}: {what}\n  expected  {}\n  seen      {}",
                scene.title,
                expected.join(" · "),
                seen.join(" · ")
            )
        })
        .collect()
    }
}

fn summary(message: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let first = &message["content"][0];
    match text(&message["role"]).as_str() {
        "function_result" if message["details"]["status"] == "denied" => {
            format!(
                "denied {} {}",
                text(&message["function_id"]),
                text(&message["details"]["denied_by"])
            )
        }
        "function_result" => format!(
            "result {} {}",
            text(&message["function_id"]),
            text(&first["text"])
        ),
        "assistant" if first["type"] == "function_call" => {
            format!("assistant calls {}", text(&first["arguments"]["function"]))
        }
        role => format!("{role} {}", text(&first["text"])),
    }
}

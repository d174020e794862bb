//! What a console shows for the frames it gets (contract 11 §4, §5): a small copy of its event loop.

use serde_json::{Value, json};

/// What stands on the screen.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Screen {
    /// Assistant bubbles, closed ones and the open one.
    pub(super) bubbles: Vec<String>,
    /// Lines below them.
    pub(super) notices: Vec<String>,
    /// Function cards: call id, state, output.
    pub(super) cards: Vec<Card>,
    /// Call ids with buttons.
    pub(super) prompts: Vec<String>,
    /// The stream is over.
    pub(super) finished: bool,
    is_open: bool,
}

#[derive(Debug, PartialEq)]
pub(super) struct Card {
    pub(super) call: String,
    pub(super) function: String,
    pub(super) args: Value,
    /// `None` while it runs.
    pub(super) output: Option<Value>,
    pub(super) failed: bool,
}

impl Screen {
    /// Takes an event; panics on what would break a client.
    pub(super) fn take(&mut self, event: &Value) {
        assert!(!self.finished, "after the end: {event}");
        match event["type"].as_str().unwrap() {
            "message_update" => self.update(&event["llm_event"]),
            "message_complete" => self.complete(event),
            "function_execution_start" => self.start(event),
            "function_execution_end" => self.end(event),
            "turn_state_changed" => self.state(&event["new_value"]),
            "turn_end" => {}
            "agent_end" => self.finished = true,
            other => panic!("a type that some clients do not know: {other}"),
        }
    }

    fn update(&mut self, event: &Value) {
        if event["type"] != "text_delta" {
            return;
        }
        let delta = event["delta"].as_str().expect("a delta must be a string");
        if delta.is_empty() {
            return;
        }
        self.bubble().push_str(delta);
    }

    fn bubble(&mut self) -> &mut String {
        if !self.is_open {
            self.bubbles.push(String::new());
            self.is_open = true;
        }
        self.bubbles.last_mut().unwrap()
    }

    fn complete(&mut self, event: &Value) {
        let message = &event["message"];
        if message["role"] != "assistant" {
            return;
        }
        if event["body_streamed"] != true {
            for block in message["content"].as_array().unwrap() {
                if let ("text", Some(text)) = (block["type"].as_str().unwrap(), block["text"].as_str()) {
                    self.bubble().push_str(text);
                }
            }
        }
        self.is_open = false;
        match message["stop_reason"].as_str().unwrap() {
            "error" => self.notices.push(format!(
                "response failed: {}",
                message["error_message"].as_str().unwrap()
            )),
            "length" | "aborted" => self.notices.push(message["stop_reason"].to_string()),
            "end" | "function_call" => {}
            other => panic!("unknown stop reason {other}"),
        }
    }

    fn start(&mut self, event: &Value) {
        let call = event["function_call_id"].as_str().unwrap().to_owned();
        assert!(
            self.cards.iter().all(|card| card.call != call),
            "started twice: {call}"
        );
        self.prompts.retain(|prompt| *prompt != call);
        self.cards.push(Card {
            call,
            function: event["function_id"].as_str().unwrap().to_owned(),
            args: event["args"].clone(),
            output: None,
            failed: false,
        });
    }

    fn end(&mut self, event: &Value) {
        assert!(event["result"]["content"].is_array(), "{event}");
        assert!(
            event["duration_ms"].is_i64() || event["duration_ms"].is_u64(),
            "{event}"
        );
        let call = event["function_call_id"].as_str().unwrap();
        let card = self
            .cards
            .iter_mut()
            .find(|card| card.call == call)
            .expect("an end without a start");
        assert_eq!(card.output, None, "ended twice");
        card.output = Some(event["result"].clone());
        card.failed = event["is_error"].as_bool().unwrap();
    }

    fn state(&mut self, view: &Value) {
        assert!(view.is_object());
        self.prompts = match view["state"].as_str().unwrap() {
            "function_awaiting_approval" => {
                let calls = view["awaiting_approval"].as_array().unwrap();
                calls
                    .iter()
                    .map(|call| call["function_call_id"].as_str().unwrap().to_owned())
                    .collect()
            }
            _ => Vec::new(),
        };
    }

    /// The record of `turn::get_state` counts as a first event.
    pub(super) fn take_record(&mut self, record: &Value) {
        if record.is_object() {
            self.take(
                &json!({ "type": "turn_state_changed", "event_type": "state:created", "new_value": record }),
            );
        }
    }
}

//! What a person sees of a session's events. No I/O.

use serde::Deserialize;
use serde_json::Value;

use super::lines::{call, line};
use super::visible::visible;
use crate::model::{
    AgentEvent, AssistantEvent, AwaitingCall, ContentBlock, RawMessage, StopReason, TurnState, TurnStateView,
};

/// Something to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A piece of the answer, as it comes.
    Text(String),
    /// The answer is over, or goes on after something else.
    TextEnd,
    /// A line about what happens.
    Note(Tone, String),
}

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// What goes on.
    Quiet,
    /// What went wrong.
    Bad,
    /// What a person is asked.
    Ask,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// By itself.
    Done,
    /// Somebody stopped it.
    Aborted,
    /// It could not go on.
    Failed,
}

/// What is known of a session's run.
#[derive(Debug, Default)]
pub(super) struct View {
    parked: Vec<AwaitingCall>,
    ending: Option<Outcome>,
    ended: bool,
    answered: bool,
    /// Why the run rests, as it was shown.
    resting: Option<String>,
}

impl View {
    /// Takes in one event; answers what it shows. Unknown events show nothing.
    pub(super) fn event(&mut self, event: &Value) -> Vec<Piece> {
        match AgentEvent::deserialize(event) {
            Ok(event) => self.known(event),
            Err(_) => Vec::new(),
        }
    }

    /// Calls that wait for a person.
    pub(super) fn parked(&self) -> &[AwaitingCall] {
        &self.parked
    }

    /// Whether the last message of the run was seen.
    pub(super) fn has_answer(&self) -> bool {
        self.answered
    }

    /// How the run ended, once it has. The next event begins another one.
    pub(super) fn ended(&mut self) -> Option<Outcome> {
        if !std::mem::take(&mut self.ended) {
            return None;
        }
        self.parked.clear();
        self.answered = false;
        Some(self.ending.take().unwrap_or(Outcome::Done))
    }

    /// Takes in the state of the run, as `turn::get_state` tells it; answers what it shows. A terminal one ends the run.
    pub(super) fn state(&mut self, view: TurnStateView) -> Option<Piece> {
        self.ended |= view.state.is_terminal();
        self.changed(view)
    }

    fn changed(&mut self, view: TurnStateView) -> Option<Piece> {
        if view.state == TurnState::Failed {
            self.ending = Some(Outcome::Failed);
        }
        // In every other state the list counts as empty (contract 11 §5).
        self.parked = match view.state {
            TurnState::FunctionAwaitingApproval => view.awaiting_approval.unwrap_or_default(),
            _ => Vec::new(),
        };
        let rests = view.budget_wait.map(|wait| {
            let (reason, budget) = (visible(&wait.reason), visible(&wait.budget_id));
            format!("the run rests: {reason}; it goes on once budget {budget} has room")
        });
        if rests == self.resting {
            return None;
        }
        self.resting.clone_from(&rests);
        rests.map(|text| note(Tone::Ask, text))
    }

    fn known(&mut self, event: AgentEvent) -> Vec<Piece> {
        match event {
            AgentEvent::TurnStateChanged { new_value, .. } => {
                // A model turn begins; its message comes.
                self.answered &= new_value.state != TurnState::AssistantStreaming;
                self.changed(new_value).into_iter().collect()
            }
            AgentEvent::MessageUpdate { llm_event, .. } => streamed(llm_event),
            AgentEvent::MessageComplete {
                message,
                body_streamed,
            } => self.complete(&message, body_streamed == Some(true)),
            AgentEvent::FunctionExecutionStart {
                function_id, args, ..
            } => {
                vec![note(Tone::Quiet, format!("→ {}", call(&function_id, &args)))]
            }
            AgentEvent::FunctionExecutionEnd {
                function_id,
                result,
                is_error,
                ..
            } => {
                let text = line(
                    &result
                        .content
                        .iter()
                        .filter_map(ContentBlock::as_text)
                        .collect::<Vec<_>>()
                        .join(" "),
                );
                vec![if is_error {
                    note(
                        Tone::Bad,
                        format!("✗ {}: {}", visible(&function_id), visible(&text)),
                    )
                } else {
                    note(Tone::Quiet, format!("← {text}"))
                }]
            }
            AgentEvent::CompactionDone { tokens_before, .. } => {
                vec![note(Tone::Quiet, format!("compacted {tokens_before} tokens"))]
            }
            AgentEvent::AgentEnd { .. } => {
                self.ended = true;
                vec![Piece::TextEnd]
            }
            AgentEvent::TurnEnd { .. } => Vec::new(),
        }
    }

    fn complete(&mut self, message: &RawMessage, body_streamed: bool) -> Vec<Piece> {
        if message.role() != "assistant" {
            return Vec::new();
        }
        self.answered = true;
        let reason = message
            .object()
            .get("stop_reason")
            .and_then(|reason| StopReason::deserialize(reason).ok());
        let failure = message
            .text_member("error_message")
            .filter(|_| reason == Some(StopReason::Error));
        let mut pieces = vec![Piece::TextEnd];
        if !body_streamed {
            // Without what the notice below says anyway.
            let texts = message
                .texts()
                .filter(|text| !text.is_empty() && Some(*text) != failure);
            pieces.extend(texts.map(|text| Piece::Text(text.to_owned())));
            pieces.push(Piece::TextEnd);
        }
        match reason {
            Some(StopReason::Error) => {
                self.ending = Some(Outcome::Failed);
                let why = failure.unwrap_or("no reason given");
                pieces.push(note(Tone::Bad, format!("✗ the response failed: {why}")));
            }
            Some(StopReason::Aborted) => {
                self.ending = Some(Outcome::Aborted);
                pieces.push(note(Tone::Bad, "✗ stopped".into()));
            }
            Some(StopReason::Length) => pieces.push(note(
                Tone::Bad,
                "✗ the answer is cut off: the model's output limit was reached".into(),
            )),
            Some(StopReason::End | StopReason::FunctionCall) | None => {}
        }
        pieces
    }
}

fn streamed(event: AssistantEvent) -> Vec<Piece> {
    match event {
        AssistantEvent::TextDelta { delta, .. } if !delta.is_empty() => vec![Piece::Text(delta)],
        // One that begins ends one that a crash has cut off.
        AssistantEvent::Start { .. } | AssistantEvent::TextEnd { .. } => vec![Piece::TextEnd],
        AssistantEvent::ThinkingStart { .. } => vec![note(Tone::Quiet, "thinking …".into())],
        _ => Vec::new(),
    }
}

fn note(tone: Tone, text: String) -> Piece {
    Piece::Note(tone, text)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "helpers take what json! gives")]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::super::lines::MAX_DETAIL;
    use super::*;

    /// What the events show: text as it is, the end of it as `|`, lines in brackets.
    fn shown(view: &mut View, events: &[Value]) -> String {
        let pieces = events.iter().flat_map(|event| view.event(event));
        pieces
            .map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::TextEnd => "|".into(),
                Piece::Note(Tone::Bad, text) => format!("[!{text}]"),
                Piece::Note(_, text) => format!("[{text}]"),
            })
            .collect()
    }

    fn streams(event: Value) -> Value {
        json!({"type": "message_update", "message": {"role": "assistant", "content": []}, "llm_event": event})
    }

    fn complete(text: &str, stop_reason: &str, error: Value, body_streamed: bool) -> Value {
        json!({"type": "message_complete", "body_streamed": body_streamed, "message": {
            "role": "assistant", "content": [{"type": "text", "text": text}], "stop_reason": stop_reason,
            "error_message": error, "model": "m", "provider": "p", "timestamp": 1,
        }})
    }

    fn state(state: &str, parked: Value) -> Value {
        json!({"type": "turn_state_changed", "event_type": "state:updated", "new_value": {
            "session_id": "s", "state": state, "turn_count": 1, "awaiting_approval": parked,
        }})
    }

    fn end() -> Value {
        json!({"type": "agent_end", "messages": []})
    }

    #[test]
    fn an_answer_is_shown_once() {
        let mut view = View::default();
        let events = [
            streams(json!({"type": "thinking_start"})),
            streams(json!({"type": "thinking_delta", "delta": "hm"})),
            streams(json!({"type": "text_start"})),
            streams(json!({"type": "text_delta", "delta": "Hel"})),
            streams(json!({"type": "text_delta", "delta": ""})),
            streams(json!({"type": "text_delta", "delta": "lo"})),
            streams(json!({"type": "text_end"})),
            complete("Hello", "end", Value::Null, true),
            end(),
        ];
        assert_eq!(shown(&mut view, &events), "[thinking …]Hello|||");
        assert_eq!((view.ended(), view.ended()), (Some(Outcome::Done), None));
        assert_eq!(
            shown(&mut view, &[complete("Hello", "end", Value::Null, false)]),
            "|Hello|"
        );
    }

    #[test]
    fn calls_and_their_results_are_lines() {
        let start = |args: Value| json!({"type": "function_execution_start", "function_call_id": "c", "function_id": "a::b", "args": args});
        let done = |text: &str, is_error: bool| {
            json!({"type": "function_execution_end", "function_call_id": "c", "function_id": "a::b",
                   "result": {"content": [{"type": "text", "text": text}], "details": {}, "terminate": false},
                   "is_error": is_error, "duration_ms": 3})
        };
        let long = "x".repeat(200);
        let cut = "x".repeat(MAX_DETAIL);
        for (event, expected) in [
            (start(json!({"n": 1})), r#"[→ a::b {"n":1}]"#.to_owned()),
            (
                start(json!(long)),
                format!("[→ a::b \"{}…]", "x".repeat(MAX_DETAIL - 1)),
            ),
            (done("one\n  two", false), "[← one two]".to_owned()),
            (done(&long, false), format!("[← {cut}…]")),
            (done("not allowed", true), "[!✗ a::b: not allowed]".to_owned()),
        ] {
            assert_eq!(shown(&mut View::default(), &[event]), expected);
        }
    }

    #[test]
    fn every_ending_is_told_apart() {
        let stopped = complete("Half", "aborted", json!("aborted"), true);
        let broken = complete("boom", "error", json!("boom"), false);
        let failed = state("failed", Value::Null);
        for (events, text, outcome) in [
            (vec![end()], "|", Outcome::Done),
            (vec![stopped, end()], "|[!✗ stopped]|", Outcome::Aborted),
            (
                vec![broken, end()],
                "||[!✗ the response failed: boom]|",
                Outcome::Failed,
            ),
            (vec![failed, end()], "|", Outcome::Failed),
            (
                vec![complete("Half", "length", Value::Null, true), end()],
                "|[!✗ the answer is cut off: the model's output limit was reached]|",
                Outcome::Done,
            ),
        ] {
            let mut view = View::default();
            assert_eq!(
                (shown(&mut view, &events).as_str(), view.ended()),
                (text, Some(outcome))
            );
        }
    }

    #[test]
    fn calls_wait_only_while_the_run_does() {
        let call = json!({"function_call_id": "c", "function_id": "a::b", "args": {}});
        let mut view = View::default();
        shown(&mut view, &[state("function_awaiting_approval", json!([call]))]);
        let ids: Vec<&str> = view
            .parked()
            .iter()
            .map(|call| call.function_id.as_str())
            .collect();
        assert_eq!(ids, ["a::b"]);
        shown(&mut view, &[state("function_execute", json!([call]))]);
        assert_eq!(view.parked(), []);
    }

    #[test]
    fn the_state_tells_an_end_that_was_missed() {
        let read = |event: Value| TurnStateView::deserialize(&event["new_value"]).unwrap();
        let mut view = View::default();
        assert_eq!(view.state(read(state("assistant_streaming", Value::Null))), None);
        assert_eq!((view.ended(), view.has_answer()), (None, false));
        assert_eq!(view.state(read(state("failed", Value::Null))), None);
        assert_eq!(view.ended(), Some(Outcome::Failed));
    }

    #[test]
    fn a_run_that_rests_says_why_once() {
        let mut rests = state("provisioning", Value::Null);
        rests["new_value"]["budget_wait"] = json!({ "budget_id": "b", "reason": "budget exceeded: empty" });
        let mut view = View::default();
        let told = "[the run rests: budget exceeded: empty; it goes on once budget b has room]";
        assert_eq!(shown(&mut view, &[rests.clone(), rests.clone()]), told);
        let goes_on = state("assistant_streaming", Value::Null);
        assert_eq!(shown(&mut view, &[goes_on, rests]), told);
    }

    #[test]
    fn what_is_not_known_shows_nothing() {
        for event in [
            json!(null),
            json!({"type": "agent_start"}),
            json!({"type": "message_update", "llm_event": {"type": "new"}}),
            json!({"type": "turn_end", "message": {"role": "assistant", "content": []}, "function_results": []}),
            json!({"type": "message_complete", "message": {"role": "user", "content": "x"}}),
        ] {
            assert_eq!(shown(&mut View::default(), &[event]), "");
        }
    }
}

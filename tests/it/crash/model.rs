//! The model of the crash stories: one question makes calls, every other one an answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::scripted::{Gate, Reply, Request, Script, Server, Step};
use serde_json::json;

use crate::turn::user;

/// What one call of the model does.
#[derive(Clone, Copy)]
pub(super) enum Does {
    /// Leaves one mark per run.
    Mark,
    /// Asks another model, which answers when its gate opens; the model server counts the runs.
    AskSlow,
}

/// The model: a first request that may be special, then "go" makes calls and everything else an answer.
pub(super) struct Model {
    pub(super) server: Server,
    pub(super) slow: Gate,
    /// Calls that leave a mark.
    pub(super) marks: Vec<&'static str>,
}

impl Model {
    pub(super) fn new(calls: &[(&'static str, Does)]) -> Self {
        Self::answering_first(None, calls)
    }

    /// The first request gets a reply of its own.
    pub(super) fn answering_first(first: Option<Reply>, calls: &[(&'static str, Does)]) -> Self {
        let slow = Gate::new();
        let marking = calls.iter().filter(|(_, does)| matches!(does, Does::Mark));
        let marks = marking.map(|(id, _)| *id).collect();
        let (gate, calls, seen) = (slow.clone(), calls.to_vec(), AtomicUsize::new(0));
        let server = Server::start(Script::answer(move |request| {
            match (&first, seen.fetch_add(1, Ordering::SeqCst)) {
                (Some(reply), 0) => reply.clone(),
                _ => answer(request, &gate, &calls),
            }
        }));
        Self {
            server: server.unwrap(),
            slow,
            marks,
        }
    }

    /// Requests to a model, in order.
    pub(super) fn asked(&self, model: &str) -> usize {
        let requests = self.server.requests();
        requests.iter().filter(|request| request.model() == model).count()
    }
}

pub(super) fn answer(request: &Request, slow: &Gate, calls: &[(&'static str, Does)]) -> Reply {
    if request.model() == "slow" {
        return Reply::says("slow answer", 1).after(slow.clone());
    }
    if !request.tool_results().is_empty() {
        return Reply::says("Done.", 2);
    }
    match request.last_user_text().as_str() {
        "go" => {
            let arguments: Vec<_> = calls
                .iter()
                .map(|(id, does)| (*id, arguments(id, *does)))
                .collect();
            let calls = arguments
                .iter()
                .map(|(id, arguments)| (*id, "agent_trigger", arguments.as_str()));
            Reply::calls(calls)
        }
        text => Reply::says(format!("Re: {text}"), 3),
    }
}

fn arguments(id: &str, does: Does) -> String {
    match does {
        Does::Mark => json!({ "function": "session-inbox::push",
            "payload": { "name": "marks", "session_id": "marks", "item": id } }),
        Does::AskSlow => json!({ "function": "provider::openai::complete",
            "payload": { "model": "slow", "messages": [user("think hard")] } }),
    }
    .to_string()
}

/// Half an answer, then nothing.
pub(crate) fn half(text: &str) -> Reply {
    let chunk = json!({ "id": "x", "object": "chat.completion.chunk", "created": 0, "model": "gpt-5",
        "choices": [{ "index": 0, "delta": { "role": "assistant", "content": text }, "finish_reason": null }] });
    Reply::raw([Step::send(format!("data: {chunk}\n\n")), Step::Wait(Gate::new())])
}

//! The four scenes: what is asked, what the scripted model answers, and how each must go.

use crate::scripted::{Reply, Request};

/// Permission rules of the demo: one function is allowed, one is denied, the rest needs a person.
pub(super) const RULES: &str = "rules:\n  - '!demo::wipe_disk'\n  - demo::weather\n";

/// What another worker would host, with its answer.
pub(super) const FUNCTIONS: [(&str, &str); 3] = [
    ("demo::weather", "14 °C, light rain"),
    ("demo::send_mail", "sent"),
    ("demo::wipe_disk", "wiped"),
];

/// One scene and how it must go.
pub(super) struct Scene {
    pub(super) title: &'static str,
    pub(super) session: &'static str,
    pub(super) prompt: &'static str,
    /// Events in order; streamed deltas count as the text they make up.
    pub(super) events: &'static [&'static str],
    /// Transcript, oldest first.
    pub(super) transcript: &'static [&'static str],
}

/// In the order in which they are played.
pub(super) const SCENES: &[Scene] = &[
    Scene {
        title: "1. A streamed answer",
        session: "demo-1",
        prompt: "Say hello.",
        events: &[
            "created provisioning",
            "assistant_streaming",
            "streams Hello! I am an agent on the iii bus.",
            "message_complete end",
            "steering_check",
            "turn_end 0",
            "stopped",
            "agent_end",
        ],
        transcript: &[
            "user Say hello.",
            "assistant Hello! I am an agent on the iii bus.",
        ],
    },
    Scene {
        title: "2. A call that the rules allow",
        session: "demo-2",
        prompt: "What is the weather in Oslo?",
        events: &[
            "created provisioning",
            "assistant_streaming",
            "message_complete function_call",
            "function_execute",
            "start demo::weather",
            "end demo::weather ok",
            "turn_end 1",
            "steering_check",
            "assistant_streaming",
            "streams It is 14 °C with light rain.",
            "message_complete end",
            "steering_check",
            "turn_end 0",
            "stopped",
            "agent_end",
        ],
        transcript: &[
            "user What is the weather in Oslo?",
            "assistant calls demo::weather",
            "result demo::weather 14 °C, light rain",
            "assistant It is 14 °C with light rain.",
        ],
    },
    Scene {
        title: "3. A call that waits for a person",
        session: "demo-3",
        prompt: "Mail the report to Ada.",
        events: &[
            "created provisioning",
            "assistant_streaming",
            "message_complete function_call",
            "function_execute",
            "start demo::send_mail",
            "function_awaiting_approval demo::send_mail",
            "end demo::send_mail ok",
            "turn_end 1",
            "steering_check",
            "assistant_streaming",
            "streams Done, the report is on its way to Ada.",
            "message_complete end",
            "steering_check",
            "turn_end 0",
            "stopped",
            "agent_end",
        ],
        transcript: &[
            "user Mail the report to Ada.",
            "assistant calls demo::send_mail",
            "result demo::send_mail sent",
            "assistant Done, the report is on its way to Ada.",
        ],
    },
    Scene {
        title: "4. A call that the rules deny",
        session: "demo-4",
        prompt: "Wipe the disk.",
        events: &[
            "created provisioning",
            "assistant_streaming",
            "message_complete function_call",
            "function_execute",
            "start demo::wipe_disk",
            "end demo::wipe_disk error",
            "turn_end 1",
            "steering_check",
            "assistant_streaming",
            "streams I am not allowed to do that.",
            "message_complete end",
            "steering_check",
            "turn_end 0",
            "stopped",
            "agent_end",
        ],
        transcript: &[
            "user Wipe the disk.",
            "assistant calls demo::wipe_disk",
            "denied demo::wipe_disk permissions",
            "assistant I am not allowed to do that.",
        ],
    },
];

/// The model: calls a function when it is asked to, comments its result when there is one.
pub(super) fn answer(request: &Request) -> Reply {
    if let [(id, text), ..] = request.tool_results().as_slice() {
        return match id.as_str() {
            "weather" if text.contains("14 °C") => Reply::says("It is 14 °C with light rain.", 6),
            "mail" if text == "sent" => Reply::says("Done, the report is on its way to Ada.", 7),
            "wipe" if text.starts_with("[PERMISSION_DENIED]") => {
                Reply::says("I am not allowed to do that.", 5)
            }
            _ => Reply::says(format!("unexpected result of {id}: {text}"), 1),
        };
    }
    let call = |id, arguments| Reply::calls([(id, "agent_trigger", arguments)]);
    match request.last_user_text().as_str() {
        "Say hello." => Reply::says("Hello! I am an agent on the iii bus.", 8),
        "What is the weather in Oslo?" => call(
            "weather",
            r#"{"function":"demo::weather","payload":{"city":"Oslo"}}"#,
        ),
        "Mail the report to Ada." => call(
            "mail",
            r#"{"function":"demo::send_mail","payload":{"to":"ada@example.com","subject":"Report"}}"#,
        ),
        "Wipe the disk." => call("wipe", r#"{"function":"demo::wipe_disk","payload":{"path":"/"}}"#),
        other => Reply::fails(400, format!("no such scene: {other}")),
    }
}

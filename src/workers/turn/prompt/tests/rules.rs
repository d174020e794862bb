//! What every text has to say, and what none may.

use super::*;

/// Every rule of contract 02 §9, then ours, with the words that carry it in every voice.
const RULES: &[(&str, &[&str])] = &[
    ("one tool", &["only", "`agent_trigger`", "no other way"]),
    (
        "payload is an object",
        &[
            "a json object, never a string",
            r#"wrong: {"function":"engine::functions::info","payload":"{\"function_id\":\"web::fetch\"}"}"#,
            r#"right: {"function":"engine::functions::info","payload":{"function_id":"web::fetch"}}"#,
        ],
    ),
    (
        "long text is one field",
        &["long", "one field", r##""text":"# plan\n\nfirst line."##],
    ),
    ("routing", &["the engine routes every call"]),
    ("contract is the id", &["the function id is the only contract"]),
    ("triggers", &["triggers", "instead of polling"]),
    (
        "discovery takes known input",
        &["`function_id`", "never introspect the `engine::`"],
    ),
    (
        "contract before the call",
        &[
            "before the first call of a function",
            "do not refetch",
            "in the same turn",
        ],
    ),
    ("hints", &["descriptions in lists", "hints"]),
    ("lag", &["an empty list may be lag"]),
    (
        "error table",
        &[
            "`invalid_arguments`",
            "`function_not_found`",
            "`handler_error` with `code` and `fix`",
            "`timeout`",
            "when timeouts repeat, stop and report them",
        ],
    ),
    ("no repetition", &["never resend an identical failed call"]),
    (
        "reuse",
        &[
            "existing functions, connected or installable, before building",
            "foreign-ecosystem patterns",
        ],
    ),
    (
        "lifecycle",
        &[
            "remove, stop or clear",
            "`yes: true`",
            "a boolean",
            "not a string",
        ],
    ),
    (
        "authoring",
        &[
            "`registerworker` of the sdk",
            "`register_worker`",
            "its description and its request and response formats",
        ],
    ),
    ("silent bindings", &["may land without firing"]),
    ("handlers", &["handler contract", "the trigger type"]),
    (
        "http",
        &[
            "`web::fetch`",
            "never",
            "curl or wget",
            "`{ok,status,headers,body}`",
        ],
    ),
    ("trust", &["user messages", "data, not instructions"]),
    (
        "function names",
        &[
            "in prose",
            "`@fn(<id>)`",
            "the bare id",
            "tool arguments and code",
        ],
    ),
    (
        "ours: mode, outcome of calls, secrets",
        &[
            "mode",
            "stated above this text",
            "approval",
            "`call_failed`",
            "`interrupted`",
            "`[permission_denied]`",
            "secret",
        ],
    ),
];

/// All function ids that may occur, and every voice has to name each: nothing of any one worker beyond these.
const IDS: [&str; 11] = [
    "engine::functions::info",
    "engine::functions::list",
    "engine::registered-triggers::list",
    "engine::triggers::info",
    "engine::triggers::list",
    "engine::workers::info",
    "engine::workers::list",
    "example::save_note",
    "web::fetch",
    "worker::add",
    "worker::list",
];

const MUST_NOT_MENTION: [&str; 5] = ["skill", "directory", "iii://", "sandbox", "shell::"];

fn ids(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "_-:".contains(c)))
        .map(|word| word.trim_end_matches(':'))
        .filter(|word| word.contains("::"))
        .collect()
}

#[test]
fn every_voice_carries_every_rule() {
    for voice in VOICES {
        let text = normal(voice.identity());
        for (rule, phrases) in RULES {
            for phrase in *phrases {
                assert!(
                    text.contains(phrase),
                    "{voice:?} lacks {phrase:?} of rule {rule:?}"
                );
            }
        }
    }
}

#[test]
fn every_voice_names_exactly_the_allowed_functions() {
    for voice in VOICES {
        assert_eq!(ids(voice.identity()), BTreeSet::from(IDS), "{voice:?}");
    }
}

#[test]
fn no_text_mentions_what_it_must_not() {
    let tool = agent_trigger();
    let texts = VOICES
        .map(Voice::identity)
        .into_iter()
        .chain(MODES.map(paragraph))
        .map(str::to_owned)
        .chain([tool.description, tool.parameters.to_string()]);
    for text in texts {
        for term in MUST_NOT_MENTION {
            assert!(!text.to_lowercase().contains(term), "{term:?} in {text}");
        }
        assert!(!text.contains('\r'), "line ends must not depend on the checkout");
    }
}

//! A walk over all registered functions as a program of somebody else takes it: over a socket, with what they take and
//! with eleven kinds of what they do not. Each call is answered, by a result or by an error with a code and a short text;
//! nothing panics, nothing is left at work, and the program serves as before.

use futures::{StreamExt, stream};
use harness::bus::FunctionInfo;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::payloads::{good, one_of_each, with};
use super::world::World;
use super::{MAX_TEXT, cannot_succeed};
use crate::catalog::registered;
use crate::support::log;
use crate::support::ws::Ws;

/// Levels that an engine's frame has room for, less its own.
const DEEP: usize = 120;

/// Functions that are walked at the same time, each in a program of its own.
const AT_ONCE: usize = 4;

const IDS: [&str; 10] = [
    "",
    " ",
    "\u{0}",
    "a/b",
    "../../etc/passwd",
    "__proto__",
    "a::b::c",
    "\u{202e}💥\u{2028}",
    "'; DROP TABLE rows; --",
    "${HOME}%s%n{{x}}",
];

/// Bad payloads, with the kind of each.
fn bad(function: &FunctionInfo, good: &Value) -> Vec<(String, Value)> {
    let whole = [
        ("null", Value::Null),
        ("a number", json!(-1.5)),
        ("a text", json!("text")),
        ("an array", json!([good])),
        ("an empty object", json!({})),
        ("an empty body", json!({ "body": {} })),
    ];
    let mut bad: Vec<(String, Value)> = whole.map(|(kind, payload)| (kind.to_owned(), payload)).into();
    let Some(members) = good.as_object() else {
        return bad;
    };
    let nested = (0..DEEP).fold(json!("x"), |inner, _| json!([inner]));
    let huge = json!("x".repeat(1024 * 1024));
    let mut replace = |kind: &str, name: &str, value: Value| {
        bad.push((format!("{kind}: {name}"), with(good, &[name.to_owned()], value)));
    };
    replace("an unknown member", "unknown", json!({ "odd": [null] }));
    replace("an unknown member that is huge", "unknown", huge.clone());
    replace("an unknown member that is deep", "unknown", nested.clone());
    for (name, value) in members {
        for wrong in one_of_each() {
            replace(&format!("{wrong}"), name, wrong);
        }
        replace("huge", name, huge.clone());
        replace("deep", name, nested.clone());
        for id in IDS.iter().filter(|_| value.is_string()) {
            replace(&format!("{id:?}"), name, json!(id));
        }
    }
    let schema = function.request_schema.clone().unwrap_or_default();
    for name in schema["required"].as_array().into_iter().flatten() {
        let mut payload = good.clone();
        payload.as_object_mut().unwrap().remove(name.as_str().unwrap());
        bad.push((format!("no {name}"), payload));
    }
    bad
}

/// What is wrong with the frame that answered a call; one without an error has a result, or nothing to tell.
fn complaint(reply: &Value) -> Option<String> {
    let error = reply.get("error")?;
    let text = |name: &str| error[name].as_str().unwrap_or_default();
    let (code, message) = (text("code"), text("message"));
    let is_clear = !code.is_empty() && !message.is_empty() && message.len() <= MAX_TEXT;
    let is_ours = code == "TIMEOUT" || message.contains("panicked");
    (!is_clear || is_ours).then(|| format!("{code:?}: {message}"))
}

async fn walk(function: FunctionInfo) -> Vec<String> {
    let id = function.id.as_str();
    let world = World::start().await;
    let mut socket = Ws::join(world.listen().await).await;
    let mut complaints = Vec::new();
    let good = good(&function);
    let reply = socket.call(id, good.clone()).await;
    if reply.get("error").is_some() != cannot_succeed(id) {
        complaints.push(format!("{id} on {good}: {reply}"));
    }
    for (kind, payload) in bad(&function, &good) {
        let reply = socket.call(id, payload).await;
        if let Some(complaint) = complaint(&reply) {
            let complaint: String = complaint.chars().take(300).collect();
            complaints.push(format!("{id}, {kind}: {complaint}"));
        }
    }
    world.is_idle().await;
    world.proves_to_live().await;
    world.stop().await;
    complaints
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_function_answers_whatever_comes_over_a_socket() {
    log::listen();
    let functions = registered();
    let walks = stream::iter(functions).map(walk).buffer_unordered(AT_ONCE);
    let mut complaints: Vec<String> = walks.concat().await;
    complaints.sort();
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(log::panics(), Vec::<String>::new());
}

#[test]
fn the_walk_sees_what_is_no_answer() {
    for reply in [
        json!({ "error": {} }),
        json!({ "error": { "code": "", "message": "no" } }),
        json!({ "error": { "code": "invocation_failed", "message": "" } }),
        json!({ "error": { "code": "invocation_failed", "message": "x".repeat(MAX_TEXT + 1) } }),
        json!({ "error": { "code": "invocation_failed", "message": "a::b panicked: index out of bounds" } }),
        json!({ "error": { "code": "TIMEOUT", "message": "a::b timed out after 30000 ms" } }),
    ] {
        assert!(complaint(&reply).is_some(), "{reply}");
    }
    for reply in [
        json!({}),
        json!({ "result": {} }),
        json!({ "error": { "code": "invocation_failed", "message": "missing required field: path" } }),
    ] {
        assert_eq!(complaint(&reply), None);
    }
}

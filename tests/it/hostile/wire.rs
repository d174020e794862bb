//! A walk over all registered functions as a program of somebody else takes it: over a socket, with the least that each
//! takes, with all that it takes, and with many kinds of what it does not. What is right is carried out; everything else is
//! answered, by a result or by an error with a code and a short text. Nothing panics, nothing is left at work, and the
//! program serves as before.
//!
//! One program takes all of it, from several sockets at once and with several calls of each under way, so that what one
//! function does to another one shows as well.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use harness::bus::FunctionInfo;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::MAX_TEXT;
use super::payloads::{one_of_each, with};
use super::stage::{failure, minimal, whole};
use super::world::World;
use crate::catalog::registered;
use crate::support::log;
use crate::support::ws::Ws;

/// Levels that an engine's frame has room for, less its own.
const DEEP: usize = 120;

/// Functions that are walked at the same time.
const AT_ONCE: usize = 4;

/// Calls of a function that are under way at the same time.
const UNDER_WAY: usize = 8;

/// Kinds of bad input that each function gets, at least.
const KINDS: usize = 10;

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

/// A payload that is wrong.
struct Bad {
    kind: &'static str,
    /// The member.
    place: String,
    payload: Value,
}

fn bad(function: &FunctionInfo, good: &Value) -> Vec<Bad> {
    let nested = (0..DEEP).fold(json!("x"), |inner, _| json!([inner]));
    let huge = json!("x".repeat(128 * 1024));
    let mut bad = Vec::new();
    let mut add = |kind, place: &str, payload| {
        let place = place.to_owned();
        bad.push(Bad { kind, place, payload });
    };
    add("null", "", Value::Null);
    add("true", "", json!(true));
    add("a number", "", json!(-1.5));
    add("a text", "", json!("text"));
    add("a huge text", "", json!("x".repeat(1024 * 1024)));
    add("an array", "", json!([good]));
    add("a deep array", "", nested.clone());
    add("an empty object", "", json!({}));
    add("an empty body", "", json!({ "body": {} }));
    add("a body that is none", "", json!({ "body": [good] }));
    let mut replace = |kind, name: &str, value: Value| {
        add(kind, name, with(good, &[name.to_owned()], value));
    };
    replace("an unknown member", "unknown", json!({ "odd": [null] }));
    replace("an unknown member that is huge", "unknown", huge.clone());
    replace("an unknown member that is deep", "unknown", nested.clone());
    for (name, value) in good.as_object().unwrap() {
        for wrong in one_of_each() {
            replace("another type", name, wrong);
        }
        replace("a huge member", name, huge.clone());
        replace("a deep member", name, nested.clone());
        for id in IDS.iter().filter(|_| value.is_string()) {
            replace("an odd text", name, json!(id));
        }
    }
    for name in minimal(function, good).as_object().unwrap().keys() {
        let mut payload = good.clone();
        payload.as_object_mut().unwrap().remove(name);
        add("a member missing", name, payload);
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

/// Calls with what must work.
async fn good_calls(world: &World, socket: &mut Ws, function: &FunctionInfo) -> Vec<String> {
    let id = function.id.as_str();
    let mut complaints = Vec::new();
    for is_minimal in [true, false] {
        // What is used up by one call is there again for the next.
        let mut request = whole(world, function).await;
        if is_minimal {
            request = minimal(function, &request);
        }
        let reply = socket.call(id, request.clone()).await;
        let problem = match reply.get("error") {
            Some(error) => Some(format!("{id}: {error}")),
            None => failure(id, &reply["result"]),
        };
        complaints.extend(problem.map(|problem| format!("{problem}, on {request}")));
    }
    complaints
}

async fn bad_calls(world: &World, socket: &mut Ws, function: &FunctionInfo) -> Vec<String> {
    let id = function.id.as_str();
    let bad = bad(function, &whole(world, function).await);
    let kinds: BTreeSet<&str> = bad.iter().map(|bad| bad.kind).collect();
    assert!(kinds.len() >= KINDS, "{id}: {kinds:?}");
    let mut complaints = Vec::new();
    let mut left = bad.into_iter();
    loop {
        let mut calls = Vec::new();
        for Bad { kind, place, payload } in left.by_ref().take(UNDER_WAY) {
            calls.push((kind, place, socket.begin(id, payload).await));
        }
        if calls.is_empty() {
            return complaints;
        }
        for (kind, place, call) in calls {
            if let Some(complaint) = complaint(&socket.result(&call).await) {
                complaints.push(format!("{id}, {kind} {place}: {complaint}"));
            }
        }
    }
}

async fn walk(world: &World, function: FunctionInfo) -> Vec<String> {
    let mut socket = Ws::join(world.address()).await;
    let mut complaints = good_calls(world, &mut socket, &function).await;
    complaints.extend(bad_calls(world, &mut socket, &function).await);
    let short = |text: String| text.chars().take(300).collect();
    complaints.into_iter().map(short).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_function_answers_whatever_comes_over_a_socket() {
    log::listen();
    let world = World::open().await;
    let walks = stream::iter(registered()).map(|function| walk(&world, function));
    let mut complaints: Vec<String> = walks.buffer_unordered(AT_ONCE).concat().await;
    complaints.sort();
    assert_eq!(complaints, Vec::<String>::new());
    world.is_idle().await;
    world.proves_to_live().await;
    world.stop().await;
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
    for (id, answer) in [
        ("a::b", json!({ "ok": false })),
        ("a::b", json!({ "error": "no" })),
        (
            "web::fetch",
            json!({ "ok": false, "error": "timeout", "message": "m" }),
        ),
        ("harness::trigger", json!({ "status_code": 409 })),
        ("run::start", json!({ "started": false })),
        ("provider::x::complete", json!({ "stop_reason": "error" })),
    ] {
        assert!(failure(id, &answer).is_some(), "{id}: {answer}");
    }
    assert_eq!(failure("a::b", &json!({ "ok": true, "error": null })), None);
    assert_eq!(failure("a::b", &Value::Null), None);
}

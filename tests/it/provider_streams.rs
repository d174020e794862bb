//! Every recorded stream served over real HTTP: whole, in drops, broken off, and falling silent.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use harness::scripted::{Gate, Reply, Script, Step};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::provider_rig::{Rig, Turn, World, user};

/// Bytes of a drop: smaller than any event, and no divisor of much.
const DROP: usize = 7;

fn streams(provider: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/streams")
        .join(provider);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut streams: Vec<_> = files
        .map(|path| {
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .collect();
    streams.sort();
    streams
}

/// The places where a stream is cut short: early, and late.
fn heads(bytes: &[u8]) -> [&[u8]; 2] {
    [bytes.len() / 3, bytes.len() * 4 / 5].map(|at| bytes.split_at(at).0)
}

async fn turns(provider: &'static str, replies: Vec<Reply>, idle_ms: u64) -> Vec<Turn> {
    let mut world = World {
        provider,
        ..World::default()
    };
    world.config.provider.idle_timeout_ms = idle_ms;
    world.config.provider.local_idle_timeout_ms = idle_ms;
    let count = replies.len();
    let rig = Rig::with(Script::queue(replies), world).await;
    let mut turns = Vec::new();
    for _ in 0..count {
        turns.push(rig.turn(json!({"messages": [user("hi")]})).await);
    }
    rig.server_is_idle().await;
    turns
}

/// Texts of a message by the kind of block.
fn texts(message: &Value) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for block in message["content"].as_array().unwrap() {
        if let Some(text) = block["text"].as_str() {
            let kind = block["type"].as_str().unwrap().to_owned();
            texts.entry(kind).or_insert_with(String::new).push_str(text);
        }
    }
    texts
}

/// One terminal event at the end, and each block that begins ends.
fn assert_in_order(turn: &Turn, what: &str) {
    turn.message();
    let kinds = turn.kinds();
    let count = |kind: &str| kinds.iter().filter(|seen| **seen == kind).count();
    for block in ["text", "thinking", "functioncall"] {
        assert_eq!(
            count(&format!("{block}_start")),
            count(&format!("{block}_end")),
            "{what}: {kinds:?}"
        );
    }
    assert_eq!(
        count("start"),
        usize::from(kinds != ["error"]),
        "{what}: {kinds:?}"
    );
}

/// A stream that was cut short: what had come is kept, and if that was not all it is a failure.
fn assert_beginning(cut: &Turn, whole: &Turn, what: &str) {
    assert_in_order(cut, what);
    let (cut, whole) = (cut.message(), whole.message());
    let all = texts(whole);
    for (kind, text) in texts(cut) {
        assert!(
            all.get(&kind).is_some_and(|all| all.starts_with(&text)),
            "{what}: {kind} {text:?}"
        );
    }
    if cut["stop_reason"] == "error" {
        let kinds = [&json!("transient"), &whole["error_kind"]];
        assert!(kinds.contains(&&cut["error_kind"]), "{what}: {cut}");
        assert!(!cut["error_message"].as_str().unwrap().is_empty());
    } else {
        assert_eq!(texts(cut), all, "{what}");
    }
}

async fn check(provider: &'static str) {
    let streams = streams(provider);
    assert!(streams.len() >= 9, "{} streams of {provider}", streams.len());
    let send = |bytes: &[u8]| Step::send(bytes.to_vec());
    let whole = streams.iter().map(|(_, bytes)| Reply::raw([send(bytes)]));
    let whole = turns(provider, whole.collect(), 60_000).await;

    let drops = streams
        .iter()
        .map(|(_, bytes)| Reply::raw(bytes.chunks(DROP).map(send)));
    let drops = turns(provider, drops.collect(), 60_000).await;
    for (n, (name, _)) in streams.iter().enumerate() {
        assert_in_order(&whole[n], name);
        assert_in_order(&drops[n], name);
        let without_time = |turn: &Turn| {
            let mut message = turn.message().clone();
            message["timestamp"].take();
            // Ids made for calls without one differ from turn to turn.
            for block in message["content"].as_array_mut().unwrap() {
                if block["id"]
                    .as_str()
                    .is_some_and(|id| id.starts_with("call_") && id.len() > 20)
                {
                    block["id"].take();
                }
            }
            message
        };
        assert_eq!(
            without_time(&drops[n]),
            without_time(&whole[n]),
            "{provider}/{name}"
        );
    }

    let heads_of = || streams.iter().flat_map(|(_, bytes)| heads(bytes));
    let broken = heads_of().map(|head| Reply::raw([send(head), Step::Break]));
    let silent = heads_of().map(|head| Reply::raw([send(head), Step::Wait(Gate::new())]));
    for (how, cut) in [
        ("broken", turns(provider, broken.collect(), 60_000).await),
        ("silent", turns(provider, silent.collect(), 15).await),
    ] {
        for (n, cut) in cut.iter().enumerate() {
            let at = n / 2;
            assert_beginning(cut, &whole[at], &format!("{provider}/{} {how}", streams[at].0));
        }
    }
}

#[tokio::test]
async fn anthropic_streams_over_http() {
    check("anthropic").await;
}

#[tokio::test]
async fn openai_streams_over_http() {
    check("openai").await;
}

#[tokio::test]
async fn kimi_streams_over_http() {
    check("kimi").await;
}

#[tokio::test]
async fn lmstudio_streams_over_http() {
    check("lmstudio").await;
}

#[tokio::test]
async fn llamacpp_streams_over_http() {
    check("llamacpp").await;
}

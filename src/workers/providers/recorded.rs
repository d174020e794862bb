//! Every recorded stream in `tests/fixtures/streams`: what it decodes to, that it makes no difference where the reads were
//! cut, and that no damage to it does harm.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::protocol::{Call, Decode, ModelFacts};
use super::replay::{Replay, replay};
use super::{chat_completions, messages};
use crate::model::AssistantEvent;

const PROVIDERS: [&str; 5] = ["anthropic", "kimi", "llamacpp", "lmstudio", "openai"];

/// Name and bytes of a stream.
type Recording = (String, Vec<u8>);

/// All streams, by provider and name.
static STREAMS: LazyLock<BTreeMap<&str, Vec<Recording>>> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/streams");
    let read = |provider| {
        let files = fs::read_dir(folder.join(provider)).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let mut streams: Vec<_> = files
            .map(|path| {
                (
                    path.file_stem().unwrap().to_str().unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                )
            })
            .collect();
        streams.sort();
        (provider, streams)
    };
    PROVIDERS.into_iter().map(read).collect()
});

fn streams(provider: &str) -> &'static [Recording] {
    &STREAMS[provider]
}

/// A decoder of a turn that offers one tool.
fn decoder(provider: &str) -> Box<dyn Decode> {
    let tool = json!({"name": "agent_trigger", "description": "d", "parameters": {}});
    let call = Call {
        tools: vec![serde_json::from_value(tool).unwrap()],
        ..Call::default()
    };
    let model = ModelFacts::default();
    let encoded = if provider == "anthropic" {
        let quirks = messages::Quirks {
            provider: "anthropic",
            thinking: |_, _| messages::Thinking::Unasked,
        };
        quirks.encode(&call, &model)
    } else {
        chat_completions::Quirks::default().encode(&call, &model)
    };
    (encoded.unwrap().decoder)()
}

fn decode(provider: &str, pieces: Vec<&[u8]>) -> Replay {
    replay(decoder(provider), provider, pieces)
}

/// Events and message of a stream in a few lines.
fn shown(name: &str, replay: &Replay) -> String {
    let mut text = format!("== {name}\n");
    for event in &replay.events {
        let event = serde_json::to_value(event).unwrap();
        let more = event.get("delta").or_else(|| event.get("usage"));
        let kind = event["type"].as_str().unwrap();
        match more {
            Some(more) => writeln!(text, "   {kind} {more}").unwrap(),
            None => writeln!(text, "   {kind}").unwrap(),
        }
    }
    let message = serde_json::to_value(&replay.message).unwrap();
    let reason = message["stop_reason"].as_str().unwrap();
    let failure = match (&message["error_kind"], &message["error_message"]) {
        (Value::String(kind), Value::String(error)) => format!(", {kind}: {error}"),
        _ => String::new(),
    };
    writeln!(text, "-> {reason}{failure}").unwrap();
    for block in message["content"].as_array().unwrap() {
        writeln!(text, "   {block}").unwrap();
    }
    text
}

/// Each block that begins ends, and no event is terminal: those are the driver's.
fn is_symmetric(events: &[AssistantEvent]) -> bool {
    let count = |is: fn(&AssistantEvent) -> bool| events.iter().filter(|event| is(event)).count();
    let starts = (
        count(|event| matches!(event, AssistantEvent::TextStart { .. })),
        count(|event| matches!(event, AssistantEvent::ThinkingStart { .. })),
        count(|event| matches!(event, AssistantEvent::FunctioncallStart { .. })),
    );
    let ends = (
        count(|event| matches!(event, AssistantEvent::TextEnd { .. })),
        count(|event| matches!(event, AssistantEvent::ThinkingEnd { .. })),
        count(|event| matches!(event, AssistantEvent::FunctioncallEnd { .. })),
    );
    starts == ends && events.iter().all(|event| event.terminal().is_none())
}

fn check(provider: &str, at_least: usize) {
    let streams = streams(provider);
    assert!(
        streams.len() >= at_least,
        "{} streams of {provider}",
        streams.len()
    );
    let mut text = String::new();
    for (name, bytes) in streams {
        let whole = decode(provider, vec![bytes]);
        assert!(is_symmetric(&whole.events), "{provider}/{name}");
        text.push_str(&shown(name, &whole));
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(
                decode(provider, vec![head, tail]),
                whole,
                "{provider}/{name} cut at {at}"
            );
        }
        assert_eq!(
            decode(provider, bytes.chunks(1).collect()),
            whole,
            "{provider}/{name} byte by byte"
        );
    }
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(provider, text) });
}

#[test]
fn v6_w1_anthropic_at_every_split() {
    check("anthropic", 50);
}

#[test]
fn v1_v2_w1_openai_at_every_split() {
    check("openai", 15);
}

#[test]
fn v5_w1_kimi_at_every_split() {
    check("kimi", 9);
}

#[test]
fn v1_v10_w1_lmstudio_at_every_split() {
    check("lmstudio", 11);
}

#[test]
fn v1_v9_w1_llamacpp_at_every_split() {
    check("llamacpp", 12);
}

/// A stream that ends before the model said why it stops is an error, whatever was received.
#[test]
fn v7_a_stream_cut_anywhere_before_its_stop_reason_is_an_error() {
    for (provider, name, mark) in [
        ("anthropic", "text", "\"stop_reason\":\""),
        ("openai", "text_cr", "\"finish_reason\":\""),
    ] {
        let streams = streams(provider);
        let (_, bytes) = streams.iter().find(|(known, _)| known == name).unwrap();
        let text = String::from_utf8_lossy(bytes);
        let mark = text.find(mark).unwrap();
        let line_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let told = mark + bytes.iter().skip(mark).position(line_end).unwrap();
        for at in 0..bytes.len() {
            let (head, _) = bytes.split_at(at);
            let cut = decode(provider, vec![head]).message;
            assert_eq!(
                cut.error_message.is_none(),
                at >= told,
                "{provider} cut at {at}: {cut:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Bytes changed, lost or doubled anywhere: no panic, one message, and still no difference where the reads were cut.
    #[test]
    fn damaged_streams_do_no_harm(
        provider in prop::sample::select(&PROVIDERS[..]),
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..4, any::<u8>()), 1..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let streams = streams(provider);
        let (_, bytes) = &streams[which.index(streams.len())];
        let mut bytes = bytes.clone();
        for (place, kind, byte) in damage {
            if bytes.is_empty() { break; }
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                2 => bytes.insert(at, byte),
                _ => {
                    let end = (at + usize::from(byte)).min(bytes.len());
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
        let whole = decode(provider, vec![&bytes]);
        prop_assert!(is_symmetric(&whole.events));
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces = places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
        prop_assert_eq!(decode(provider, pieces.collect()), whole);
    }
}

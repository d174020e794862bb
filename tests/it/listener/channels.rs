//! Data channels over sockets (contract 00 §8).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{SinkExt, StreamExt};
use harness::bus::Frame;
use harness::model::AssistantEvent;
use harness::model::api::provider::ChannelRef;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Open, eventually};
use crate::support::engine::within;
use crate::support::ws::{Socket, end_of, open};

async fn create(engine: &Open, request: Value) -> (ChannelRef, ChannelRef) {
    let mut worker = engine.join().await;
    let mut pair = worker.ok("engine::channels::create", request).await;
    let end = |value: Value| serde_json::from_value(value).unwrap();
    (end(pair["writer"].take()), end(pair["reader"].take()))
}

fn path(channel: &ChannelRef, dir: &str) -> String {
    format!(
        "/ws/channels/{}?key={}&dir={dir}",
        channel.channel_id, channel.access_key
    )
}

async fn frame(socket: &mut Socket) -> Message {
    within(socket.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn c00_case_23_frames_wait_for_the_reader() {
    let engine = Open::start().await;
    let (writer, reader) = create(&engine, json!({})).await;
    let mut out = open(engine.address, &path(&writer, "write"), None).await.unwrap();
    out.send(Message::text("a")).await.unwrap();
    out.send(Message::binary(vec![1])).await.unwrap();
    out.close(None).await.unwrap();
    assert_eq!(end_of(&mut out).await, None);

    let mut input = open(engine.address, &path(&reader, "read"), None).await.unwrap();
    assert_eq!(frame(&mut input).await, Message::text("a"));
    assert_eq!(frame(&mut input).await, Message::binary(vec![1]));
    assert_eq!(end_of(&mut input).await.map(u16::from), Some(1000));
    drop(input);
    eventually(|| engine.engine.bus.channels().count() == 0).await;
    assert_eq!(
        open(engine.address, &path(&reader, "read"), None).await.err(),
        Some(404)
    );
}

#[tokio::test]
async fn c00_case_24_an_end_is_taken_once_and_needs_its_key() {
    let engine = Open::start().await;
    let (writer, reader) = create(&engine, json!({})).await;
    let mut held = Vec::new();
    for (channel, dir) in [(&writer, "write"), (&reader, "read")] {
        let first = open(engine.address, &path(channel, dir), None).await.unwrap();
        let mut second = open(engine.address, &path(channel, dir), None).await.unwrap();
        assert_eq!(end_of(&mut second).await.map(u16::from), Some(1000));
        // Kept open, so that the channel is not over.
        held.push(first);
    }
    let wrong = ChannelRef {
        access_key: "wrong".into(),
        ..reader.clone()
    };
    for refused in [
        path(&wrong, "read"),
        path(&reader, "sideways"),
        "/ws/channels/none?key=x&dir=read".into(),
    ] {
        assert_eq!(
            open(engine.address, &refused, None).await.err(),
            Some(404),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn c00_case_25_a_full_channel_holds_its_writer_up_and_loses_nothing() {
    const FRAMES: usize = 300;
    /// What sockets on the way may hold, in frames; the channel itself holds one.
    const ON_THE_WAY: usize = 150;
    let engine = Open::start().await;
    let (writer, reader) = create(&engine, json!({"buffer_size": 1})).await;
    let mut out = open(engine.address, &path(&writer, "write"), None).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let writing = async move {
        for n in 0..FRAMES {
            let mut bytes = vec![0; 256 * 1024];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            out.send(Message::binary(bytes)).await.unwrap();
            counter.store(n + 1, Ordering::Release);
        }
        out.close(None).await.unwrap();
        end_of(&mut out).await;
    };
    let reading = async {
        eventually(|| sent.load(Ordering::Acquire) > 2).await;
        let mut input = open(engine.address, &path(&reader, "read"), None).await.unwrap();
        for n in 0..FRAMES {
            let ahead = sent.load(Ordering::Acquire).saturating_sub(n);
            assert!(ahead <= ON_THE_WAY, "{ahead} frames ahead");
            let Message::Binary(bytes) = frame(&mut input).await else {
                panic!("not binary")
            };
            assert_eq!(bytes[..8], n.to_be_bytes());
        }
        end_of(&mut input).await.map(u16::from)
    };
    let ((), end) = tokio::join!(writing, reading);
    assert_eq!(end, Some(1000));
}

#[tokio::test]
async fn a_channel_between_the_program_and_a_worker() {
    let engine = Open::start().await;
    let (writer, reader) = create(&engine, json!({})).await;
    let ours = engine.engine.bus.open_writer(&writer).await.unwrap();
    let mut input = open(engine.address, &path(&reader, "read"), None).await.unwrap();
    let event: AssistantEvent = serde_json::from_value(json!({"type": "text_delta", "delta": "hi"})).unwrap();
    let text = serde_json::to_string(&event).unwrap();
    ours.send(Frame::Event(event)).await.unwrap();
    ours.send(Frame::Text("é".into())).await.unwrap();
    assert_eq!(frame(&mut input).await, Message::text(text));
    assert_eq!(frame(&mut input).await, Message::text("é"));
    // A reader that goes is noticed at once.
    drop(input);
    within(ours.closed()).await;

    let (writer, reader) = create(&engine, json!({})).await;
    let mut ours = engine.engine.bus.open_reader(&reader).await.unwrap();
    let mut out = open(engine.address, &path(&writer, "write"), None).await.unwrap();
    out.send(Message::text("x")).await.unwrap();
    drop(out);
    assert_eq!(within(ours.next()).await, Some(Frame::Text("x".into())));
    assert_eq!(within(ours.next()).await, None);
}

//! Channels of the engine.

use bytes::Bytes;
use harness::bus::{Bus, Frame};
use harness::model::api::provider::ChannelRef;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Served, call, join};
use crate::support::engine::within;

async fn channel(bus: &Bus, buffer: u64) -> (ChannelRef, ChannelRef) {
    let pair = call(bus, "engine::channels::create", json!({ "buffer_size": buffer }))
        .await
        .unwrap();
    let end = |name: &str| serde_json::from_value(pair[name].clone()).unwrap();
    (end("writer"), end("reader"))
}

fn text(text: &str) -> Frame {
    Frame::Text(text.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_23_frames_keep_kind_and_order() {
    let engine = Served::start().await;
    let program = join(engine.options(), Vec::new()).await;
    let (writer, reader) = channel(&program, 64).await;
    let writer = program.open_writer(&writer).await.unwrap();
    writer.send(text("a")).await.unwrap();
    writer
        .send(Frame::Binary(Bytes::from_static(&[1])))
        .await
        .unwrap();
    writer.send(text("b")).await.unwrap();
    drop(writer);
    let mut reader = within(program.open_reader(&reader)).await.unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = within(reader.next()).await {
        frames.push(frame);
    }
    assert_eq!(
        frames,
        [text("a"), Frame::Binary(Bytes::from_static(&[1])), text("b")]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_25_a_slow_reader_holds_the_writer_up() {
    const FRAMES: usize = 1_600;
    const QUIET: std::time::Duration = std::time::Duration::from_millis(500);
    let engine = Served::start().await;
    let program = join(engine.options(), Vec::new()).await;
    let (writer_ref, reader_ref) = channel(&program, 1).await;
    let writer = program.open_writer(&writer_ref).await.unwrap();
    let mut reader = program.open_reader(&reader_ref).await.unwrap();
    let (sent, mut progress) = tokio::sync::watch::channel(0);
    let line = "x".repeat(64 * 1024);
    program.spawn(async move {
        for number in 0..FRAMES {
            writer.send(text(&format!("{number} {line}"))).await.unwrap();
            sent.send_replace(number + 1);
        }
    });
    // It stops by itself: the buffers of both processes and of their sockets hold less than all of it.
    let held = within(async {
        loop {
            let before = *progress.borrow_and_update();
            match tokio::time::timeout(QUIET, progress.changed()).await {
                Ok(Ok(())) => {}
                Err(_) if before == 0 => {}
                // Quiet for long enough, or done.
                Ok(Err(_)) | Err(_) => return before,
            }
        }
    })
    .await;
    assert!(held < FRAMES, "the writer was not held up");
    for number in 0..FRAMES {
        let Some(Frame::Text(frame)) = within(reader.next()).await else {
            panic!("frame {number} is missing");
        };
        assert_eq!(frame.split(' ').next(), Some(&*number.to_string()));
    }
    assert_eq!(within(reader.next()).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_learns_that_nobody_reads() {
    let engine = Served::start().await;
    let program = join(engine.options(), Vec::new()).await;
    let (writer, reader) = channel(&program, 4).await;
    let writer = program.open_writer(&writer).await.unwrap();
    let reader = program.open_reader(&reader).await.unwrap();
    drop(reader);
    within(async { while writer.send(text("lost")).await.is_ok() {} }).await;
    within(writer.closed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_24_unknown_channels_are_errors() {
    let engine = Served::start().await;
    let program = join(engine.options(), Vec::new()).await;
    let (writer, mut reader) = channel(&program, 4).await;
    reader.access_key = "wrong".to_owned();
    for outcome in [
        program.open_reader(&reader).await.map(|_| ()),
        program
            .open_writer(&ChannelRef {
                channel_id: "no/such?x=#".to_owned(),
                ..writer
            })
            .await
            .map(|_| ()),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.wire_code(), "channel_not_found");
    }
}

/// An outside provider of a program, and a provider of the program for somebody outside: both over one channel each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_between_two_programs() {
    let engine = Served::start().await;
    let one = join(engine.options(), Vec::new()).await;
    let mut other = engine.options();
    other.worker_name = "other".to_owned();
    let other = join(other, Vec::new()).await;
    let weak = other.downgrade();
    other
        .register(harness::bus::FunctionDef::ad_hoc(
            "provider::x::stream",
            move |payload: Value, _| {
                let bus = weak.upgrade().unwrap();
                async move {
                    let writer: ChannelRef = serde_json::from_value(payload["writer_ref"].clone()).unwrap();
                    let writer = bus.open_writer(&writer).await?;
                    for word in ["one", "two"] {
                        writer.send(text(word)).await?;
                    }
                    Ok(json!({ "ok": true }))
                }
            },
        ))
        .unwrap();
    other.transport().settle().await.unwrap();
    let (writer, reader) = channel(&one, 64).await;
    let mut reader = one.open_reader(&reader).await.unwrap();
    let answer = call(&one, "provider::x::stream", json!({ "writer_ref": writer })).await;
    assert_eq!(answer, Ok(json!({ "ok": true })));
    assert_eq!(within(reader.next()).await, Some(text("one")));
    assert_eq!(within(reader.next()).await, Some(text("two")));
    assert_eq!(within(reader.next()).await, None);
}

//! A link that delivers single bytes, or everything late.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Rig, channel};
use crate::listener::eventually;
use crate::support::engine::within;
use crate::support::proxy::Mode;
use crate::support::ws::{Ws, end_of};

/// Around the sizes at which a frame's header changes, and above what goes in one frame.
const SIZES: [usize; 8] = [0, 1, 125, 126, 65_535, 65_536, 1024 * 1024, 1_500_000];

#[tokio::test]
async fn everything_works_in_splinters() {
    Box::pin(everything_works(Mode::Split)).await;
}

#[tokio::test]
async fn everything_works_late() {
    Box::pin(everything_works(Mode::Delay(Duration::from_millis(3)))).await;
}

async fn everything_works(mode: Mode) {
    let rig = Rig::start().await;
    rig.proxy.set(mode);
    let (mut host, mut caller) = (rig.join_badly().await, rig.join_badly().await);
    rig.open
        .engine
        .serve("p::echo", |payload, _| std::future::ready(Ok(payload)));
    host.host(&["w::echo", "w::on"]).await;
    host.bind("w/on", "state", "w::on", json!({"scope": "d"})).await;

    for size in SIZES {
        let payload = json!("é".repeat(size / 2));
        assert!(
            caller.ok("p::echo", payload.clone()).await == payload,
            "{size} up and down"
        );
        let ours = rig.open.engine.call("w::echo", payload.clone());
        let (ours, ()) = tokio::join!(ours, echo(&mut host));
        assert!(ours == Ok(payload.clone()), "{size} down and up");
        let theirs = caller.begin("w::echo", payload.clone()).await;
        echo(&mut host).await;
        assert!(caller.result(&theirs).await["result"] == payload, "{size} across");
    }

    caller
        .void("state::set", json!({"scope": "d", "key": "k", "value": 1}))
        .await;
    assert_eq!(host.event("w::on").await["new_value"], 1);
    assert_eq!(
        caller.call("no::such", json!({})).await["error"]["code"],
        "function_not_found"
    );
    Box::pin(channels_work(&rig, &mut caller)).await;
    host.leave().await;
    rig.open.workers(1).await;
    rig.serves(&mut caller).await;
}

async fn echo(host: &mut Ws) {
    let mut call = host.called("w::echo").await;
    let payload = call["data"].take();
    host.answer(&call, payload).await;
}

async fn channels_work(rig: &Rig, worker: &mut Ws) {
    let (writer, reader) = channel(worker, json!({"buffer_size": 2})).await;
    let frames: Vec<Message> = SIZES
        .into_iter()
        .flat_map(|size| [Message::text("x".repeat(size)), Message::binary(vec![7; size])])
        .collect();
    let writing = async {
        let mut out = rig.open_badly(&writer, "write").await;
        for frame in &frames {
            out.send(frame.clone()).await.unwrap();
        }
        out.close(None).await.unwrap();
        end_of(&mut out).await
    };
    let reading = async {
        let mut input = rig.open_badly(&reader, "read").await;
        for frame in &frames {
            let read = within(input.next()).await.unwrap().unwrap();
            assert!(read == *frame, "{} bytes instead of {}", read.len(), frame.len());
        }
        end_of(&mut input).await.map(u16::from)
    };
    let (_, end) = tokio::join!(Box::pin(writing), Box::pin(reading));
    assert_eq!(end, Some(1000));
    eventually(|| rig.channels() == 0).await;
}

#[tokio::test]
async fn pings_and_tiny_messages_pass_in_order() {
    let rig = Rig::start().await;
    rig.proxy.set(Mode::Split);
    let mut worker = rig.join_badly().await;
    for n in 0..50_u8 {
        worker.socket.feed(Message::Ping(vec![n].into())).await.unwrap();
        worker
            .socket
            .feed(Message::text(r#"{"type":"ping"}"#))
            .await
            .unwrap();
    }
    worker.socket.flush().await.unwrap();
    let (mut pongs, mut answers) = (Vec::new(), 0);
    within(async {
        while pongs.len() < 50 || answers < 50 {
            match worker.socket.next().await.unwrap().unwrap() {
                Message::Pong(bytes) => pongs.push(bytes[0]),
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(message, json!({"type": "pong"}));
                    answers += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    // Only the latest of pings that come together must be answered (RFC 6455 §5.5.3); ours all are.
    assert_eq!(pongs, (0..50).collect::<Vec<u8>>());
}

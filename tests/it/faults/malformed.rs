//! What is no WebSocket, no frame, or no message: at worst it costs its sender the connection.

use futures::StreamExt;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::Rig;
use crate::support::engine::within;
use crate::support::ws::end_of;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const FIN: u8 = 0x80;

/// A frame as a client sends it, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        long => {
            bytes.push(0xFE);
            bytes.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// The head of a frame that claims to be this long.
fn claims(length: u64) -> Vec<u8> {
    let mut bytes = vec![FIN | BINARY, 0x80 | 127];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// Bytes on an open socket, and the code of the Close they are answered with.
fn breaches() -> Vec<(&'static str, Vec<u8>, Option<u16>)> {
    let text = |bytes: &[u8]| frame(FIN | TEXT, bytes);
    vec![
        ("no mask", vec![FIN | TEXT, 2, b'{', b'}'], Some(1002)),
        ("reserved opcode 3", frame(FIN | 0x3, b"x"), Some(1002)),
        ("reserved control opcode 11", frame(FIN | 0xB, b"x"), Some(1002)),
        (
            "compressed, which was not agreed on",
            frame(FIN | 0x40 | TEXT, b"x"),
            Some(1002),
        ),
        ("reserved bit", frame(FIN | 0x10 | TEXT, b"x"), Some(1002)),
        ("ping in pieces", frame(PING, b"x"), Some(1002)),
        ("ping of 126 bytes", frame(FIN | PING, &[b'x'; 126]), Some(1002)),
        ("continuation of nothing", frame(FIN, b"x"), Some(1002)),
        (
            "a message inside another",
            [frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat(),
            Some(1002),
        ),
        ("no UTF-8", text(b"\xff\xfe"), Some(1007)),
        ("overlong UTF-8", text(b"\xc0\xaf"), Some(1007)),
        ("half a character", text("é".as_bytes().split_at(1).0), Some(1007)),
        ("a surrogate in UTF-8", text(b"\xed\xa0\x80"), Some(1007)),
        (
            "half a character, continued by something else",
            [frame(TEXT, b"\xc3"), frame(FIN, b"(")].concat(),
            Some(1007),
        ),
        ("close with half a code", frame(FIN | CLOSE, &[3]), Some(1002)),
        ("longer than 2^63", claims(1 << 63), Some(1009)),
        ("longer than there are bytes", claims(u64::MAX), Some(1009)),
        (
            "longer than a frame may be",
            claims(16 * 1024 * 1024 + 1),
            Some(1009),
        ),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Some(1002)),
        ("zeros", vec![0; 4096], Some(1002)),
    ]
}

#[tokio::test]
async fn broken_frames_cost_their_sender_the_connection() {
    let rig = Rig::start().await;
    let mut other = rig.join().await;
    other.host(&["w::f"]).await;
    let mut seen = Vec::new();
    for (what, bytes, _) in breaches() {
        let mut bad = rig.join().await;
        bad.host(&["bad::f"]).await;
        within(bad.socket.get_mut().write_all(&bytes)).await.unwrap();
        seen.push((what, end_of(&mut bad.socket).await.map(u16::from)));
        rig.open.workers(1).await;
        rig.serves(&mut other).await;
    }
    let expected: Vec<_> = breaches()
        .into_iter()
        .map(|(what, _, code)| (what, code))
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(
        [rig.hosts("w::f").await, rig.hosts("bad::f").await],
        [true, false]
    );
}

#[tokio::test]
async fn what_is_no_upgrade_is_refused() {
    let rig = Rig::start().await;
    let mut other = rig.join().await;
    let upgrade = |with: &str| {
        format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{with}\r\n")
    };
    let requests: Vec<Vec<u8>> = vec![
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(100),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
        b"GET / HTTP/0.9\r\n\r\n".to_vec(),
        upgrade("").into_bytes(),
        upgrade("Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n").into_bytes(),
        upgrade("Sec-WebSocket-Version: 13\r\n").into_bytes(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)).into_bytes(),
        upgrade(&"x: y\r\n".repeat(10_000)).into_bytes(),
    ];
    for request in requests {
        let shown: String = String::from_utf8(request.iter().take(60).copied().collect()).unwrap_or_default();
        let mut socket = TcpStream::connect(rig.open.address).await.unwrap();
        // Refused before all of it was read, or after.
        socket.write_all(&request).await.ok();
        let mut answer = Vec::new();
        within(socket.read_to_end(&mut answer)).await.ok();
        assert!(!answer.starts_with(b"HTTP/1.1 101"), "{shown}");
        rig.serves(&mut other).await;
    }
    rig.open.workers(1).await;
}

/// Frames that are well formed, and what is in them is not.
#[tokio::test]
async fn bad_messages_cost_nothing() {
    let rig = Rig::start().await;
    let (mut bad, mut other) = (rig.join().await, rig.join().await);
    let id = "00000000-0000-4000-9000-0000000000aa";
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let call = |data: &str| {
        format!(
            r#"{{"type":"invokefunction","function_id":"state::list","invocation_id":"{id}","data":{data}}}"#
        )
    };
    let silent = [
        call(&deep(100_000)),
        call("1e999"),
        call("NaN"),
        call(r#"{"scope":"x"},}"#),
        call(r#""\ud800""#),
        call("\u{0}"),
        call(&format!("\"{}", "x".repeat(100_000))),
        r#"{"type":"ping""#.to_owned(),
        r#"{"type":"invokefunction","type":"ping"}"#.to_owned(),
        r#"{"type":"\u0000"}"#.to_owned(),
        r#"{"type":["ping"]}"#.to_owned(),
        r#"{"type":null}"#.to_owned(),
        format!(r#"{{"type":"{}"}}"#, "x".repeat(1_000_000)),
        r#"{"type":"registerfunction","id":""}"#.to_owned(),
        r#"{"type":"registerfunction","id":"h","invocation":{"url":"http://127.0.0.1:9"}}"#.to_owned(),
        r#"{"type":"registertriggertype","id":null}"#.to_owned(),
        r#"{"type":"unregistertrigger"}"#.to_owned(),
        r#"{"type":"invocationresult","invocation_id":null,"function_id":"f","result":1}"#.to_owned(),
        "{}".repeat(10_000),
        "\u{feff}{\"type\":\"ping\"}".to_owned(),
    ];
    for text in &silent {
        bad.text(text).await;
    }
    bad.settle().await;
    assert_eq!(bad.untaken(), Vec::<Value>::new());
    rig.serves(&mut bad).await;
    rig.serves(&mut other).await;
}

/// Ids are free text: odd ones are as good as others.
#[tokio::test]
async fn odd_ids_are_ids() {
    let rig = Rig::start().await;
    let (mut host, mut caller) = (rig.join().await, rig.join().await);
    for id in [
        " ",
        "\u{0}",
        "\u{202e}txt",
        "a\nb",
        "💥",
        "w::\u{2028}",
        &"x".repeat(100_000),
    ] {
        host.host(&[id]).await;
        let call = caller.begin(id, json!(1)).await;
        assert_eq!(host.event(id).await, json!(1));
        assert_eq!(caller.result(&call).await, json!({}));
        let listed = caller
            .ok("engine::functions::info", json!({"function_id": id}))
            .await;
        assert_eq!(listed["function_id"], json!(id));
    }
}

#[tokio::test]
async fn a_message_in_many_pieces_is_one() {
    let rig = Rig::start().await;
    let mut worker = rig.join().await;
    let text = json!({"type": "ping", "note": "é".repeat(100)}).to_string();
    let bytes = text.as_bytes();
    let mut wire = Vec::new();
    for (n, byte) in bytes.iter().enumerate() {
        let kind = if n == 0 { TEXT } else { 0 };
        let fin = if n + 1 == bytes.len() { FIN } else { 0 };
        wire.extend(frame(fin | kind, &[*byte]));
        // Control frames may come between.
        wire.extend(frame(FIN | PING, b""));
    }
    within(worker.socket.get_mut().write_all(&wire)).await.unwrap();
    let mut pongs = 0;
    let answer = within(async {
        loop {
            match worker.socket.next().await.unwrap().unwrap() {
                Message::Pong(_) => pongs += 1,
                other => break other,
            }
        }
    })
    .await;
    assert_eq!(answer, Message::text(r#"{"type":"pong"}"#));
    assert!(pongs > 0);
}

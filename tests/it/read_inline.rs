//! Contract 04 §4: `harness::fs::read_inline`, over a stand-in for the shell worker.

use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::bus::Recorded;
use crate::support::{TestBus, TestOptions, three_ways};

three_ways! {
    c04_case_20_a_file_as_text,
    c04_case_21_a_part_of_a_file,
    c04_case_22_a_file_that_is_no_text,
    c04_case_23_the_default_limit,
    c04_case_24_bad_requests_and_bad_answers,
    a_file_that_grew_is_cut_and_says_so,
    a_cut_goes_between_characters,
    many_files_at_once,
}

const READ: &str = "harness::fs::read_inline";
const SHELL: &str = "shell::fs::read";

async fn start() -> TestBus {
    TestBus::with(TestOptions::default()).await
}

/// A shell worker with one file, which reports a size of its own.
async fn shell(t: &TestBus, size: u64, chunks: Vec<Vec<u8>>) -> Recorded {
    let (write, read) = t.channel().await;
    let writers = t.writers();
    let seen = Recorded::default();
    let requests = seen.clone();
    t.serve(SHELL, move |request| {
        requests.add(request);
        let (writers, write, read, chunks) = (writers.clone(), write.clone(), read.clone(), chunks.clone());
        async move {
            let writer = writers.open(&write).await?;
            for chunk in chunks {
                writer.send_bytes(chunk).await?;
            }
            writer.close().await;
            Ok(json!({ "content": read, "size": size, "mode": "0644", "mtime": 1 }))
        }
    });
    seen
}

/// Reads a file that the shell answers in these chunks.
async fn read(size: u64, chunks: Vec<Vec<u8>>, request: Value) -> Value {
    let t = start().await;
    shell(&t, size, chunks).await;
    let answer = t.ok(READ, request).await;
    t.stop().await;
    answer
}

fn answer(text: &str, size: u64, truncated: bool, bytes_read: u64) -> Value {
    json!({ "content": [{ "type": "text", "text": text }],
        "details": { "size": size, "truncated": truncated, "bytes_read": bytes_read }, "terminate": false })
}

async fn c04_case_20_a_file_as_text() {
    let t = start().await;
    let asked = shell(&t, 5, vec![b"he".to_vec(), b"llo".to_vec()]).await;
    assert_eq!(
        t.ok(READ, json!({ "body": { "path": "/tmp/a" } })).await,
        answer("hello", 5, false, 5)
    );
    let [request] = asked.all().try_into().unwrap();
    assert_eq!(request["path"], "/tmp/a");
    t.stop().await;
}

async fn c04_case_21_a_part_of_a_file() {
    let x = |count: usize| "x".repeat(count);
    let request = json!({ "path": "/tmp/a", "max_bytes": 256 });
    assert_eq!(
        read(1_000, vec![x(200).into(), x(800).into()], request).await,
        answer(&x(256), 1_000, true, 256)
    );
}

async fn c04_case_22_a_file_that_is_no_text() {
    assert_eq!(
        read(3, vec![vec![0xff, 0xfe, 0xfd]], json!({ "path": "/tmp/a" })).await,
        answer("<binary 3 bytes>", 3, false, 3)
    );
}

async fn c04_case_23_the_default_limit() {
    for request in [
        json!({ "path": "/tmp/a" }),
        json!({ "path": "/tmp/a", "max_bytes": 0 }),
        json!({ "path": "/tmp/a", "max_bytes": "9" }),
    ] {
        let file = vec![vec![b'x'; 100_000]; 3];
        assert_eq!(
            read(300_000, file, request).await,
            answer(&"x".repeat(262_144), 300_000, true, 262_144)
        );
    }
}

async fn c04_case_24_bad_requests_and_bad_answers() {
    let t = start().await;
    assert_eq!(t.error(READ, json!({})).await, "missing required field: path");
    let request = json!({ "path": "/tmp/a" });
    assert_eq!(
        t.call(READ, request.clone()).await,
        Err(Error::coded(
            "function_not_found",
            "Function shell::fs::read not found"
        ))
    );
    let gone = json!({ "channel_id": "gone", "access_key": "a&b=c d/é" });
    t.record_with(SHELL, move |request| match request["path"].as_str() {
        Some("odd") => Ok(json!({ "size": 5 })),
        Some("none") => Err(Error::coded("S211", "no such file")),
        _ => Ok(json!({ "content": gone, "size": 5 })),
    });
    assert_eq!(
        t.error(READ, json!({ "path": "odd" })).await,
        "shell::fs::read returned unexpected shape"
    );
    assert_eq!(
        t.call(READ, json!({ "path": "none" })).await,
        Err(Error::coded("S211", "no such file"))
    );
    assert_eq!(
        t.error(READ, request).await,
        "channel drain failed: no channel gone"
    );
    t.stop().await;
}

async fn a_file_that_grew_is_cut_and_says_so() {
    let request = json!({ "path": "/tmp/a", "max_bytes": 5 });
    let grown = vec![b"hello".to_vec(), b"!".to_vec()];
    assert_eq!(read(5, grown, request.clone()).await, answer("hello", 5, true, 5));
    assert_eq!(
        read(5, vec![b"hello".to_vec()], request).await,
        answer("hello", 5, false, 5)
    );
    // One that ended early.
    assert_eq!(
        read(9, vec![b"hello".to_vec()], json!({ "path": "/tmp/a" })).await,
        answer("hello", 9, true, 5)
    );
}

async fn a_cut_goes_between_characters() {
    let file = || vec!["ab🦀".as_bytes().to_vec()];
    for (max_bytes, text) in [(2, "ab"), (3, "ab"), (5, "ab"), (6, "ab🦀")] {
        assert_eq!(
            read(6, file(), json!({ "path": "/tmp/a", "max_bytes": max_bytes })).await,
            answer(text, 6, max_bytes < 6, max_bytes)
        );
    }
}

async fn many_files_at_once() {
    let t = start().await;
    let mut channels = Vec::new();
    for _ in 0..20 {
        channels.push(t.channel().await);
    }
    let writers = t.writers();
    t.serve(SHELL, move |request| {
        let number: usize = request["path"].as_str().unwrap().parse().unwrap();
        let (writers, (write, read)) = (writers.clone(), channels[number].clone());
        async move {
            let writer = writers.open(&write).await?;
            writer.send_bytes(vec![b'x'; number]).await?;
            writer.close().await;
            Ok(json!({ "content": read, "size": number }))
        }
    });
    let reads = (0..20).map(|number| t.ok(READ, json!({ "path": number.to_string() })));
    for (number, found) in futures::future::join_all(reads).await.into_iter().enumerate() {
        let size = number as u64;
        assert_eq!(found, answer(&"x".repeat(number), size, false, size));
    }
    assert_eq!(t.bus().channels().count(), 0);
    t.stop().await;
}

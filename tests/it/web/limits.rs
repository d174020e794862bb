//! What a server that means harm gets: the caps, and nothing more.

use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::Rig;
use super::site::{Act, Site, answer, ok, to};
use crate::support::stub::Door;
use crate::support::timed::settle;

/// Contract 05 weakness 1: hops do not each have a limit of their own.
#[tokio::test]
async fn w1_one_limit_over_all_hops() {
    let site = Site::start(|_| {
        let mut acts = vec![Act::Wait(Duration::from_millis(60))];
        acts.extend(to("302 Found", "/"));
        acts
    })
    .await;
    let t = Rig::start().await;
    let expected = (
        "timeout".to_owned(),
        "no complete answer within 200 ms".to_owned(),
    );
    assert_eq!(
        t.failure(json!({ "url": site.url("/"), "timeout_ms": 200 }))
            .await,
        expected
    );
    assert!(site.asked().len() < 6);
    t.stop().await;
}

#[tokio::test]
async fn endless_bodies_are_cut() {
    let site = Site::start(|asked| {
        let (head, part) = match asked.path.as_str() {
            "/chunked" => ("transfer-encoding: chunked\r\n", b"400\r\n".to_vec()),
            _ => ("", Vec::new()),
        };
        let mut piece = part;
        piece.extend([b'x'; 0x400]);
        if !head.is_empty() {
            piece.extend(b"\r\n");
        }
        vec![
            Act::Say(format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes()),
            Act::Repeat(piece, Duration::ZERO),
        ]
    })
    .await;
    let t = Rig::start().await;
    for path in ["/chunked", "/until-the-end"] {
        let reply = t
            .fetch(json!({ "url": site.url(path), "max_bytes": 10_000 }))
            .await;
        assert_eq!(reply["body"], "x".repeat(10_000));
        assert_eq!(reply["bytes_truncated"], true);
    }
    t.stop().await;
}

#[tokio::test]
async fn w8_a_compressed_bomb_is_cut_at_what_it_unpacks_to() {
    let mut bomb = Vec::new();
    let zeros = vec![b'0'; 64 << 20];
    let mut packing = async_compression::tokio::bufread::GzipEncoder::new(zeros.as_slice());
    packing.read_to_end(&mut bomb).await.unwrap();
    let packed_bytes = bomb.len();
    assert!(packed_bytes < 100_000);
    let site = Site::start(move |_| answer("200 OK", &[("content-encoding", "gzip")], &bomb)).await;
    let t = Rig::start().await;
    let reply = t.get(&site.url("/")).await;
    assert_eq!(reply["body"].as_str().unwrap().len(), 5_242_880);
    assert_eq!(reply["bytes_truncated"], true);
    // As it came, it is small.
    let request = json!({ "url": site.url("/"), "response_format": "base64" });
    let reply = t.fetch(request).await;
    assert_eq!(
        reply["body"].as_str().unwrap().len(),
        packed_bytes.div_ceil(3) * 4
    );
    assert_eq!(reply["bytes_truncated"], false);
    t.stop().await;
}

/// Contract 05 weakness 13.
#[tokio::test]
async fn w13_headers_have_a_cap() {
    let site = Site::start(|asked| {
        let count = asked.rest().parse::<usize>().unwrap_or(60);
        let value = "v".repeat(1000);
        let names: Vec<String> = (0..count).map(|n| format!("x-{n:02}")).collect();
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
        match asked.path.as_str() {
            "/endless" => vec![
                Act::Say(b"HTTP/1.1 200 OK\r\n".to_vec()),
                Act::Repeat(format!("x: {value}\r\n").into_bytes(), Duration::ZERO),
            ],
            "/redirect" => {
                let names: Vec<(&str, &str)> = [("location", "/1")].into_iter().chain(headers).collect();
                answer("302 Found", &names, b"")
            }
            _ => answer("200 OK", &headers, b"ok"),
        }
    })
    .await;
    let t = Rig::start().await;
    assert_eq!(t.get(&site.url("/64")).await["body"], "ok");
    let (error, message) = t.failure(json!({ "url": site.url("/70") })).await;
    assert_eq!(
        (error.as_str(), message.contains("more than 65536")),
        ("transport_error", true),
        "{message}"
    );
    let (error, _) = t.failure(json!({ "url": site.url("/endless") })).await;
    assert_eq!(error, "transport_error");
    assert_eq!(t.get(&site.url("/redirect")).await["body"], "ok");
    t.stop().await;
}

#[tokio::test]
async fn broken_answers_are_failures() {
    let site = Site::start(|asked| {
        let raw = |text: &str| vec![Act::Say(text.into()), Act::Close];
        match asked.path.as_str() {
            "/short" => raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
            "/chunk" => raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nx"),
            "/lengths" => raw("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx"),
            "/gzip" => answer("200 OK", &[("content-encoding", "gzip")], b"no gzip at all"),
            "/cut-gzip" => answer("200 OK", &[("content-encoding", "gzip")], &[0x1f, 0x8b, 8, 0, 0]),
            "/no-http" => raw("SSH-2.0-OpenSSH\r\n\r\n"),
            "/http2" => raw("\0\0\u{12}\u{4}\0\0\0\0\0\0\u{3}\0\0\0\u{64}"),
            "/http2-line" => raw("HTTP/2 200 OK\r\ncontent-length: 0\r\n\r\n"),
            "/http09" => raw("hello"),
            _ => vec![Act::Close],
        }
    })
    .await;
    let t = Rig::start().await;
    for path in [
        "/short",
        "/chunk",
        "/lengths",
        "/gzip",
        "/cut-gzip",
        "/no-http",
        "/http2",
        "/http2-line",
        "/http09",
        "/nothing",
    ] {
        let (error, message) = t.failure(json!({ "url": site.url(path) })).await;
        assert_eq!(error, "transport_error", "{path}: {message}");
        assert!(!message.contains(path), "{message}");
    }
    t.stop().await;
}

/// A second answer that nobody asked for does not become the answer to the next question.
#[tokio::test]
async fn an_answer_too_many_is_thrown_away() {
    let site = Site::start(|asked| match asked.path.as_str() {
        "/two" => [ok("one"), ok("smuggled")].concat(),
        _ => ok("asked for"),
    })
    .await;
    let t = Rig::start().await;
    for _ in 0..20 {
        assert_eq!(t.get(&site.url("/two")).await["body"], "one");
        assert_eq!(t.get(&site.url("/next")).await["body"], "asked for");
    }
    let mut connections: Vec<_> = site.asked().into_iter().map(|asked| asked.connection).collect();
    connections.dedup();
    assert_eq!(connections.len(), 40);
    t.stop().await;
}

/// A line break in a URL is no line break on the wire.
#[tokio::test]
async fn a_url_is_one_line() {
    let site = Site::start(|_| ok("")).await;
    let t = Rig::start().await;
    let url = site.url("/a\r\nX-Evil: 1\r\n\r\nGET /b?c=\r\n%0d%0aX-Evil:%201");
    assert_eq!(t.get(&url).await["status"], 200);
    let asked = site.only();
    assert_eq!(asked.path, "/aX-Evil:%201GET%20/b?c=%0d%0aX-Evil:%201");
    assert_eq!(asked.header("x-evil"), None);
    t.stop().await;
}

/// Contract 05 weakness 15: waiting for a place counts, and nothing is sent before there is one.
#[tokio::test]
async fn w15_a_call_waits_for_its_place() {
    let door = Door::closed();
    let held = door.clone();
    let site = Site::start(move |asked| {
        let mut acts = ok("hello");
        if asked.path == "/held" {
            acts.insert(0, Act::Hold(held.clone()));
        }
        acts
    })
    .await;
    let t = Rig::with(|web| web.max_concurrent = 1).await;
    let held = t.fetch(json!({ "url": site.url("/held"), "timeout_ms": 20_000 }));
    let waiting = async {
        t.eventually(async || (site.asked().len() == 1).then_some(()))
            .await;
        let request = json!({ "url": site.url("/next"), "timeout_ms": 50 });
        let expected = ("timeout".to_owned(), "no complete answer within 50 ms".to_owned());
        assert_eq!(t.failure(request).await, expected);
        assert_eq!(site.lines(), ["GET /held"]);
        let request = json!({ "url": site.url("/next"), "timeout_ms": 20_000 });
        let next = t.fetch(request);
        let opening = async {
            settle().await;
            assert_eq!(site.lines(), ["GET /held"]);
            door.open();
        };
        assert_eq!(futures::join!(next, opening).0["body"], "hello");
    };
    let (held, ()) = futures::join!(held, waiting);
    assert_eq!(held["body"], "hello");
    t.stop().await;
}

#[tokio::test]
async fn outcomes_are_counted() {
    let site = Site::start(|asked| answer(&format!("{} X", asked.rest()), &[], b"")).await;
    let t = Rig::start().await;
    for status in ["/200", "/204", "/404", "/500"] {
        t.get(&site.url(status)).await;
    }
    t.get("http://10.0.0.1/").await;
    t.fetch(json!({})).await;
    let measured = t.measured();
    let mut lines: Vec<&str> = measured
        .lines()
        .filter(|line| line.starts_with("harness_web_fetches_total{"))
        .collect();
    lines.sort_unstable();
    let expected = [
        r#"harness_web_fetches_total{outcome="2xx"} 2"#,
        r#"harness_web_fetches_total{outcome="4xx"} 1"#,
        r#"harness_web_fetches_total{outcome="5xx"} 1"#,
        r#"harness_web_fetches_total{outcome="blocked_host"} 1"#,
        r#"harness_web_fetches_total{outcome="invalid_payload"} 1"#,
    ];
    assert_eq!(lines, expected);
    t.stop().await;
}

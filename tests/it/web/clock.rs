//! One limit over all of a call.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use harness::config::{Config, Flags, LoadInput, MapEnv};
use pretty_assertions::assert_eq;
use serde_json::json;

use super::Rig;
use super::site::{Act, Site};
use crate::support::three_ways;

three_ways! {
    c05_case_17_and_30_the_whole_call_has_a_limit,
}

/// Between two bytes of a server that means to go on for ever.
const DRIP: Duration = Duration::from_millis(20);

async fn c05_case_17_and_30_the_whole_call_has_a_limit() {
    let drip = |head: &str| vec![Act::Say(head.into()), Act::Repeat(b"x".to_vec(), DRIP)];
    let site = Site::start(move |asked| match asked.path.as_str() {
        "/body" => drip("HTTP/1.1 200 OK\r\n\r\n"),
        "/headers" => drip("HTTP/1.1 200 OK\r\nx: "),
        _ => vec![Act::Hang],
    })
    .await;
    let t = Rig::with(|web| web.max_timeout_ms = 400).await;
    let calls = [
        ("/", 50, 50),
        ("/", 999_999, 400),
        ("/body", 300, 300),
        ("/headers", 300, 300),
    ];
    let calls = calls.map(|(path, asked_ms, limit_ms)| {
        let (t, url) = (&t, site.url(path));
        async move {
            let request = json!({ "url": url, "timeout_ms": asked_ms });
            let message = format!("no complete answer within {limit_ms} ms");
            assert_eq!(
                t.failure(request).await,
                ("timeout".to_owned(), message),
                "{path}"
            );
        }
    });
    join_all(calls).await;
    t.stop().await;
}

/// The clock runs ahead as soon as nothing else is left to do.
#[tokio::test]
async fn c05_case_17_and_30_and_31_the_limit_is_that_of_the_settings_to_the_millisecond() {
    let drip = |head: &str| vec![Act::Say(head.into()), Act::Repeat(b"x".to_vec(), DRIP)];
    let site = Site::start(move |asked| match asked.path.as_str() {
        "/body" => drip("HTTP/1.1 200 OK\r\n\r\n"),
        "/headers" => drip("HTTP/1.1 200 OK\r\nx: "),
        _ => vec![Act::Hang],
    })
    .await;
    for (settings, path, asked_ms, limit_ms) in [
        ("", "/", 999_999, 30_000),
        ("web: {max_timeout_ms: \"fast\"}", "/", 999_999, 30_000),
        ("web: {max_timeout_ms: 2000}", "/", 2_001, 2_000),
        ("", "/body", 300, 300),
        ("", "/headers", 300, 300),
    ] {
        let t = Rig::with(|web| *web = load(settings).web).await;
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        let request = json!({ "url": site.url(path), "timeout_ms": asked_ms });
        let message = format!("no complete answer within {limit_ms} ms");
        assert_eq!(
            t.failure(request).await,
            ("timeout".to_owned(), message),
            "{settings}"
        );
        // A timer may be a millisecond late.
        let took = begun.elapsed().as_millis();
        assert!((limit_ms..=limit_ms + 1).contains(&took), "{path}: {took}");
        tokio::time::resume();
        t.stop().await;
    }
}

/// What a file of settings says.
fn load(settings: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    std::fs::write(&path, settings).unwrap();
    let input = LoadInput {
        path: Some(path),
        flags: Flags::default(),
        env: Arc::new(MapEnv::default()),
    };
    Config::load(&input).unwrap().config
}

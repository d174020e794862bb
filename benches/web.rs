//! What `web::fetch` costs beside a bare HTTP client that asks the same server in the same run.
//!
//! `cargo bench --bench web`. The server is in this process and answers from memory. The bare client makes a connection for each
//! request, as `web::fetch` does; the same client that keeps its connections stands beside it, which nobody who checks every
//! address anew can be. Then many callers at once, and pages that become Markdown.

#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

#[path = "support/figures.rs"]
mod figures;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::future::join_all;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::{Bus, CallContext, CallOptions, Ports};
use harness::clock::SystemClock;
use harness::config::{Config, MapEnv};
use harness::ids::RandomIds;
use harness::telemetry::Metrics;
use harness::workers::web;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use figures::{Samples, say, say_load};

const ROUNDS: usize = 300;
const AT_ONCE: usize = 32;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    say_load("before");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let bus = bus().await;
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(accept(listener));
        let rig = Rig {
            once: client(0),
            kept: client(AT_ONCE),
            bus,
            base,
        };
        rig.table().await;
        rig.bus.shutdown(Duration::from_secs(5)).await;
    });
    say_load("after");
}

struct Rig {
    once: reqwest::Client,
    kept: reqwest::Client,
    bus: Bus,
    base: String,
}

impl Rig {
    async fn table(&self) {
        say("| body | callers | bare, kept connections | bare | web::fetch | times bare |");
        say("|---|---|---|---|---|---|");
        for bytes in [1_000, 100_000, 1_000_000] {
            for callers in [1, AT_ONCE] {
                let url = format!("{}/text/{bytes}", self.base);
                let kept = measured(callers, || bare(&self.kept, &url, bytes)).await;
                let once = measured(callers, || bare(&self.once, &url, bytes)).await;
                let request = json!({ "url": url });
                let fetched = measured(callers, || self.fetch(&request, bytes)).await;
                say(format!(
                    "| {bytes} bytes | {callers} | {} | {} | {} | {:.2} |",
                    shown(&kept),
                    shown(&once),
                    shown(&fetched),
                    fetched.median().as_secs_f64() / once.median().as_secs_f64()
                ));
            }
        }
        for paragraphs in [100, 2_000] {
            let url = format!("{}/html/{paragraphs}", self.base);
            let plain = json!({ "url": url });
            let plain = measured(1, || self.fetch(&plain, 0)).await;
            let page = json!({ "url": url, "format": "markdown" });
            let page = measured(1, || self.fetch(&page, 0)).await;
            say(format!(
                "| HTML of {paragraphs} paragraphs | 1 | as text: {} | as Markdown: {} | | |",
                shown(&plain),
                shown(&page)
            ));
        }
    }

    async fn fetch(&self, request: &Value, bytes: usize) {
        let context = CallContext::default();
        let answer = self
            .bus
            .invoke(&context, "web::fetch", request.clone(), CallOptions::default())
            .await
            .expect("an answer");
        let body = answer.get("body").and_then(Value::as_str).expect("a body");
        assert!(bytes == 0 || body.len() == bytes, "{answer}");
    }
}

async fn bare(client: &reqwest::Client, url: &str, bytes: usize) {
    let response = client.get(url).send().await.expect("a response");
    let body = response.text().await.expect("a body");
    assert_eq!(body.len(), bytes);
}

/// Each round all callers ask at once; a sample is the time of one round.
async fn measured<R: Future<Output = ()>>(callers: usize, ask: impl Fn() -> R) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..ROUNDS / callers.min(10) {
        let began = Instant::now();
        join_all((0..callers).map(|_| ask())).await;
        samples.push(began.elapsed());
    }
    samples
}

fn shown(samples: &Samples) -> String {
    format!("{:.3} ms", samples.median().as_secs_f64() * 1_000.0)
}

fn client(idle: usize) -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .pool_max_idle_per_host(idle)
        .build()
        .expect("an HTTP client")
}

async fn bus() -> Bus {
    let ports = Ports {
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        env: Arc::new(MapEnv::default()),
        config: Arc::new(ArcSwap::from_pointee(Config::default())),
        metrics: Metrics::new(),
    };
    let bus = Bus::new(
        ports,
        Embedded::open(EmbeddedOptions::default()).expect("an engine"),
    );
    bus.host(vec![web::worker()]).await.expect("hosted");
    bus
}

async fn accept(listener: TcpListener) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream));
    }
}

/// `/text/<bytes>` and `/html/<paragraphs>`, again and again on one connection.
async fn serve(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        head.extend(buffer.iter().take(read));
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut head)).expect("a request");
        let path = text.split(' ').nth(1).expect("a path");
        let (kind, count) = path.trim_matches('/').split_once('/').expect("two parts");
        let count = count.parse().expect("a number");
        let (kind, body) = match kind {
            "text" => ("text/plain", "x".repeat(count)),
            _ => (
                "text/html",
                "<p>A <b>bold</b> <a href=\"/x\">link</a>.</p>".repeat(count),
            ),
        };
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

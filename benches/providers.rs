//! What a provider adds to reading a model's stream.
//!
//! `cargo bench --bench providers [-- time many cpu]`. The scripted server answers the same stream to `provider::<id>::stream`
//! of this program, read through its channel, and to a bare HTTP client that only cuts events. `time`: per request (to the end
//! of an answer of one delta) and per delta (answers of 2,000 deltas). `many`: 100 and 1,000 streams at once. `cpu`: processor
//! time of the whole process, server included, per 1,000 deltas behind a transcript of 100 KB, for answers of 500, 2,000 and 8,000.

#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

#[path = "support/bare.rs"]
mod bare;
#[path = "support/figures.rs"]
mod figures;
#[path = "support/model.rs"]
mod model;
#[path = "support/process.rs"]
mod process;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::{Bus, CallContext, CallOptions, ChannelOptions, Frame, Ports};
use harness::clock::SystemClock;
use harness::config::{Config, MapEnv};
use harness::ids::RandomIds;
use harness::scripted::{Reply, Script, Server, Step};
use harness::telemetry::Metrics;
use harness::workers::{harness as registry, models, providers};
use serde_json::{Value, json};

use bare::Bare;
use figures::{Samples, say, say_load};
use process::{cpu_time, median, ms, wanted};

const DELTAS: u32 = 2_000;
const ROUNDS: u32 = 40;
/// Measurements of which the middle one counts; processor time comes in steps of 10 ms.
const REPEATS: usize = 3;

/// A provider of this program beside the server.
struct Side {
    id: &'static str,
    model: &'static str,
}

impl Side {
    fn pieces(&self, deltas: u32) -> Vec<Step> {
        if self.id == "openai" {
            model::pieces((0..deltas).map(|n| format!(" piece {n:05}")))
        } else {
            claude_pieces(deltas)
        }
    }

    /// An answer as it usually is.
    fn usual(&self) -> Vec<Step> {
        if self.id == "openai" {
            model::usual_pieces()
        } else {
            claude_pieces(24)
        }
    }
}

const SIDES: [Side; 2] = [
    Side {
        id: "openai",
        model: "gpt-5",
    },
    Side {
        id: "anthropic",
        model: "claude-sonnet-4-5",
    },
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        say_load("before");
        if wanted("time") {
            time().await;
        }
        if wanted("many") {
            many().await;
        }
        if wanted("cpu") {
            cpu().await;
        }
        say_load("after");
    });
}

async fn time() {
    say("| provider | per request | bare | per delta | bare |");
    say("|---|---|---|---|---|");
    for side in &SIDES {
        let one = Rig::start(side, 1).await;
        let long = Rig::start(side, DELTAS).await;
        let request = messages(0);
        let (ours, bare) = (one.ours(&request, ROUNDS).await, one.bare(&request, ROUNDS).await);
        let (ours_long, bare_long) = (
            long.ours(&request, ROUNDS).await,
            long.bare(&request, ROUNDS).await,
        );
        let per_delta = |samples: &Samples| samples.median().as_secs_f64() * 1e6 / f64::from(DELTAS);
        say(format!(
            "| {} | {:.2} ms (p90 {:.2}) | {:.2} ms (p90 {:.2}) | {:.2} µs | {:.2} µs |",
            side.id,
            ms(ours.median()),
            ms(ours.quantile(90)),
            ms(bare.median()),
            ms(bare.quantile(90)),
            per_delta(&ours_long),
            per_delta(&bare_long),
        ));
        one.stop().await;
        long.stop().await;
    }
}

async fn many() {
    say("| provider | streams at once | until all are over | bare |");
    say("|---|---|---|---|");
    for side in &SIDES {
        let rig = Rig::answering(side, side.usual()).await;
        let request = messages(0);
        let bare_client = rig.bare_client(&request).await;
        for streams in [100, 1_000] {
            let (mut ours, mut bare) = (Vec::new(), Vec::new());
            for _ in 0..REPEATS {
                let began = Instant::now();
                futures::future::join_all((0..streams).map(|_| rig.stream(&request))).await;
                ours.push(ms(began.elapsed()));
                let began = Instant::now();
                futures::future::join_all((0..streams).map(|_| bare_client.call(|_| ()))).await;
                bare.push(ms(began.elapsed()));
            }
            let (ours, bare) = (median(ours), median(bare));
            say(format!(
                "| {} | {streams} | {ours:.0} ms | {bare:.0} ms |",
                side.id
            ));
        }
        rig.stop().await;
    }
}

/// Behind 100 KB of transcript, for answers that grow: what is linear costs the same for each delta of a long one.
async fn cpu() {
    say("| provider | deltas of an answer | processor time per 1,000 deltas | bare |");
    say("|---|---|---|---|");
    for side in &SIDES {
        for deltas in [DELTAS / 4, DELTAS, DELTAS * 4] {
            let rig = Rig::start(side, deltas).await;
            let request = messages(100_000);
            let rounds = ROUNDS * DELTAS / deltas / 2;
            let per_1000 = |spent: Duration| ms(spent) / f64::from(rounds * deltas) * 1e3;
            let (mut ours, mut bare) = (Vec::new(), Vec::new());
            for _ in 0..REPEATS {
                let before = cpu_time();
                rig.ours(&request, rounds).await;
                let between = cpu_time();
                rig.bare(&request, rounds).await;
                ours.push(per_1000(between.saturating_sub(before)));
                bare.push(per_1000(cpu_time().saturating_sub(between)));
            }
            let (ours, bare) = (median(ours), median(bare));
            say(format!(
                "| {} | {deltas} | {:.2} ms | {:.2} ms |",
                side.id, ours, bare
            ));
            rig.stop().await;
        }
    }
}

/// A conversation of about so many bytes.
fn messages(bytes: usize) -> Value {
    let turn = |n: usize| {
        let role = if n.is_multiple_of(2) { "user" } else { "assistant" };
        json!({"role": role, "content": [{"type": "text", "text": "words ".repeat(160)}], "stop_reason": "end",
            "timestamp": 1})
    };
    let mut messages: Vec<_> = (0..(bytes / 1_000) & !1).map(turn).collect();
    messages.push(json!({"role": "user", "content": [{"type": "text", "text": "go on"}], "timestamp": 1}));
    Value::Array(messages)
}

struct Rig {
    side: &'static Side,
    server: Server,
    url: String,
    bus: Bus,
}

impl Rig {
    /// Answers of so many deltas.
    async fn start(side: &'static Side, deltas: u32) -> Self {
        Self::answering(side, side.pieces(deltas)).await
    }

    async fn answering(side: &'static Side, steps: Vec<Step>) -> Self {
        let server = Server::start(Script::answer(move |_| Reply::raw(steps.clone()))).expect("a server");
        let url = if side.id == "openai" {
            server.url()
        } else {
            server.messages_url()
        };
        let mut config = Config::default();
        config.provider_openai.default_api_url.clone_from(&url);
        config.provider_anthropic.default_api_url.clone_from(&url);
        let keys =
            ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"].map(|key| (key.to_owned(), "not-a-secret".to_owned()));
        let ports = Ports {
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            env: Arc::new(MapEnv(keys.into_iter().collect())),
            config: Arc::new(ArcSwap::from_pointee(config)),
            metrics: Metrics::new(),
        };
        let engine = Embedded::open(EmbeddedOptions::default()).expect("an engine");
        let bus = Bus::new(ports, engine);
        let workers = vec![
            registry::worker(),
            models::worker(),
            providers::anthropic::worker(),
            providers::openai::worker(),
        ];
        bus.host(workers).await.expect("hosted");
        Self {
            side,
            server,
            url,
            bus,
        }
    }

    /// A turn through a channel, as the turn machine reads it.
    async fn stream(&self, messages: &Value) {
        let channel = self.bus.create_channel(ChannelOptions {
            slim: true,
            ..ChannelOptions::default()
        });
        let request = json!({"writer_ref": channel.writer, "model": self.side.model, "system_prompt": "be brief",
            "messages": messages, "tools": []});
        let function = format!("provider::{}::stream", self.side.id);
        let context = CallContext::default();
        let call = self
            .bus
            .invoke(&context, &function, request, CallOptions::default());
        let reading = async {
            let mut reader = self.bus.open_reader(&channel.reader).await.expect("a reader");
            let mut is_done = false;
            while let Some(frame) = reader.next().await {
                if let Frame::Event(event) = frame {
                    is_done |= event
                        .terminal()
                        .is_some_and(|message| message.error_message.is_none());
                }
            }
            assert!(is_done, "the turn failed");
        };
        let (answer, ()) = tokio::join!(call, reading);
        answer.expect("an answer");
    }

    async fn ours(&self, messages: &Value, rounds: u32) -> Samples {
        self.stream(messages).await;
        let mut samples = Samples::default();
        for _ in 0..rounds {
            let began = Instant::now();
            self.stream(messages).await;
            samples.push(began.elapsed());
        }
        samples
    }

    /// Sends what this program sent last.
    async fn bare_client(&self, messages: &Value) -> Bare {
        self.stream(messages).await;
        let sent = self.server.requests().pop().expect("a request");
        Bare::new(self.url.clone(), &sent.body)
    }

    async fn bare(&self, messages: &Value, rounds: u32) -> Samples {
        let bare = self.bare_client(messages).await;
        bare.call(|_| ()).await;
        let mut samples = Samples::default();
        for _ in 0..rounds {
            let began = Instant::now();
            bare.call(|_| ()).await;
            samples.push(began.elapsed());
        }
        samples
    }

    async fn stop(self) {
        self.bus.shutdown(Duration::from_secs(5)).await;
    }
}

/// The pieces of an answer of the Messages protocol.
fn claude_pieces(deltas: u32) -> Vec<Step> {
    let usage = json!({"input_tokens": 500, "output_tokens": 1});
    let mut events = vec![
        json!({"type": "message_start", "message": {"role": "assistant", "content": [], "usage": usage}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    ];
    events.extend((0..deltas).map(|n| {
        let delta = json!({"type": "text_delta", "text": format!(" piece {n:05}")});
        json!({"type": "content_block_delta", "index": 0, "delta": delta})
    }));
    events.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 100}}),
        json!({"type": "message_stop"}),
    ]);
    events
        .iter()
        .map(|event| Step::send(format!("data: {event}\n\n")))
        .collect()
}

//! What a call within the process costs beside calling the handler itself.
//!
//! `cargo bench --bench bus`. The handler does nothing, so all that is left is the bus: look-up, context, span, deadline,
//! counters, and with JSON the reading and writing of it.

#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

#[path = "support/figures.rs"]
mod figures;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::{Bus, CallContext, CallOptions, Cx, Function, Ports, Worker};
use harness::clock::SystemClock;
use harness::config::{Config, MapEnv};
use harness::error::Result;
use harness::ids::RandomIds;
use harness::model::api::Contract;
use harness::telemetry::Metrics;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use figures::{Samples, say, say_load};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Question {
    session_id: String,
    count: u64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Answer {
    count: u64,
}

/// Seen from its caller.
enum Next {}

impl Contract for Next {
    const ID: &'static str = "bench::next";
    type Request = Question;
    type Response = Answer;
}

/// Seen from its worker.
struct NextHandler;

impl Function for NextHandler {
    const ID: &'static str = Next::ID;
    const DESCRIPTION: &'static str = "Count one further.";
    const REQUIRED: &'static [&'static str] = &["session_id"];
    type State = ();
    type Request = Question;
    type Response = Answer;

    async fn call(_: &Cx<()>, question: Question) -> Result<Answer> {
        Ok(Answer {
            count: question.count + 1,
        })
    }
}

const ROUNDS: usize = 60;
const CALLS: u32 = 2_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    say_load("before");
    runtime.block_on(async {
        let bus = bus().await;
        let context = CallContext::default();
        let cx = Cx::new(bus.clone(), Arc::new(()), context.clone());
        let (mut direct, mut typed, mut as_json, mut reading) = <(Samples, Samples, Samples, Samples)>::default();
        for _ in 0..ROUNDS {
            direct.push(
                per_call(async |n| {
                    black_box(NextHandler::call(&cx, question(n)).await).expect("answered");
                })
                .await,
            );
            typed.push(
                per_call(async |n| {
                    black_box(bus.call::<Next>(&context, question(n), CallOptions::default()).await)
                        .expect("answered");
                })
                .await,
            );
            as_json.push(
                per_call(async |n| {
                    let payload = json!(question(n));
                    black_box(bus.invoke(&context, Next::ID, payload, CallOptions::default()).await)
                        .expect("answered");
                })
                .await,
            );
            // What any JSON call pays: its request written and read, its answer written.
            reading.push(
                per_call(async |n| {
                    let question: Question = serde_json::from_value(json!(question(n))).expect("read");
                    let answer = NextHandler::call(&cx, question).await.expect("answered");
                    black_box::<Value>(json!(answer));
                })
                .await,
            );
        }
        let over = |samples: &Samples, base: &Samples| us(samples.median()) - us(base.median());
        say(format!("handler itself             {:6.3} µs", us(direct.median())));
        say(format!(
            "Bus::call, typed           {:6.3} µs   over the handler {:.3} µs",
            us(typed.median()),
            over(&typed, &direct)
        ));
        say(format!("handler with JSON          {:6.3} µs", us(reading.median())));
        say(format!(
            "Bus::invoke, JSON          {:6.3} µs   over the handler with JSON {:.3} µs, over the handler {:.3} µs",
            us(as_json.median()),
            over(&as_json, &reading),
            over(&as_json, &direct)
        ));
        bus.shutdown(Duration::from_secs(5)).await;
    });
    say_load("after");
}

async fn bus() -> Bus {
    let ports = Ports {
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        env: Arc::new(MapEnv(std::collections::HashMap::new())),
        config: Arc::new(ArcSwap::from_pointee(Config::default())),
        metrics: Metrics::new(),
    };
    let bus = Bus::new(
        ports,
        Embedded::open(EmbeddedOptions::default()).expect("an engine"),
    );
    let worker = Worker::new("bench", "Counts.", ())
        .function::<NextHandler>()
        .build();
    let problems = bus.host(vec![worker]).await.expect("hosted");
    assert_eq!(problems, Vec::<String>::new());
    bus
}

fn question(n: u32) -> Question {
    Question {
        session_id: "0b0d5a5e-5c1c-4a55-9f0a-0f2f6c1d7e11".to_owned(),
        count: n.into(),
    }
}

async fn per_call(call: impl AsyncFn(u32)) -> Duration {
    let began = Instant::now();
    for n in 0..CALLS {
        call(n).await;
    }
    began.elapsed() / CALLS
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

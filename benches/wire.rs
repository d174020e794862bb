//! What the wire costs: round trips over the listener and to an engine elsewhere, turns over one connection, memory.
//!
//! `cargo bench --bench wire` (all), `… -- trip`, `… -- turns`, `… -- memory`. Everything shares this process and its cores,
//! except for the engine whose memory is measured. The yardsticks are a bare WebSocket echo, and the same turns on an
//! engine inside the process. Compare ratios, not numbers.

#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

#[path = "support/echo.rs"]
mod echo;
#[path = "support/footprint.rs"]
mod footprint;
#[path = "support/memory.rs"]
mod memory;
mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::future::join_all;
use harness::bus::embedded::listener::ListenOptions;
use harness::bus::embedded::{Embedded, EmbeddedOptions};
use harness::bus::iii::{Iii, IiiOptions};
use harness::bus::{Bus, CallContext, CallOptions, FunctionDef, Ports, Transport};
use harness::clock::SystemClock;
use harness::config::{Config, EngineChoice, MapEnv};
use harness::ids::RandomIds;
use harness::scripted::{Reply, Script};
use harness::telemetry::Metrics;
use iii_sdk::protocol::TriggerRequest;
use iii_sdk::{IIIClient, InitOptions, RegisterFunction, register_worker};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use support::bare::Bare;
use support::figures::{Samples, say, say_load};
use support::model::usual_pieces;
use support::process::{cpu_time, median, ms, wanted};
use support::program::{Durability, Program};

const CALLERS: [usize; 3] = [1, 8, 64];
const CALLS: usize = 4_000;
const TURNS: usize = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    say_load("before");
    if wanted("trip") {
        runtime.block_on(trips());
    }
    if wanted("turns") {
        runtime.block_on(turns());
    }
    if wanted("memory") {
        runtime.block_on(footprint::report());
    }
    say_load("after");
    runtime.shutdown_background();
}

/// An engine without workers that others reach over a socket.
struct Engine {
    bus: Bus,
    address: SocketAddr,
}

impl Engine {
    async fn start(options: EmbeddedOptions) -> Self {
        let options = EmbeddedOptions {
            worker_name: "engine".to_owned(),
            ..options
        };
        let embedded = Embedded::open(options).expect("an engine");
        let bus = bus(Arc::<Embedded>::clone(&embedded) as Arc<dyn Transport>).await;
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = embedded
            .listen(socket, ListenOptions::default())
            .expect("a listener");
        Self { bus, address }
    }

    fn url(&self) -> String {
        format!("ws://{}", self.address)
    }
}

async fn bus(transport: Arc<dyn Transport>) -> Bus {
    let ports = Ports {
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        env: Arc::new(MapEnv(HashMap::new())),
        config: Arc::new(ArcSwap::from_pointee(Config::default())),
        metrics: Metrics::new(),
    };
    let bus = Bus::new(ports, transport);
    assert_eq!(bus.host(Vec::new()).await.expect("started"), Vec::<String>::new());
    bus
}

async fn trips() {
    say(format!("\n## round trip of a trivial function, {CALLS} calls"));
    let echo = echo::Client::connect(echo::serve().await).await;
    let engine = Engine::start(EmbeddedOptions::default()).await;
    serve_echo(&engine.bus, "program::echo");
    let caller = client(&engine.url()).await;
    let host = client(&engine.url()).await;
    host.register_function(
        "host::echo",
        RegisterFunction::new_async(|payload: Value| async move { Ok::<_, iii_sdk::Error>(payload) }),
    );
    let joined = join(&engine, "harness", Duration::from_millis(2)).await;
    let hasty = join(&engine, "hasty", Duration::ZERO).await;
    for function in ["host::echo", "harness::echo", "hasty::echo"] {
        known(&engine.bus, function).await;
    }
    for callers in CALLERS {
        let bare = measure(callers, |n| {
            let echo = echo.clone();
            async move { echo.call(n).await }
        })
        .await;
        say(format!("{callers} caller(s)"));
        bare.say("bare WebSocket echo (yardstick)", &bare);
        for (what, function) in [
            ("SDK client -> function of the program", "program::echo"),
            ("SDK client -> other SDK client", "host::echo"),
            ("SDK client -> harness in connect mode", "harness::echo"),
            ("the same, answers not held back", "hasty::echo"),
        ] {
            measure(callers, |_| triggered(&caller, function))
                .await
                .say(what, &bare);
        }
        measure(callers, |_| invoked(&joined, "program::echo"))
            .await
            .say("harness in connect mode -> function of the engine", &bare);
    }
    caller.shutdown_async().await;
    host.shutdown_async().await;
    for bus in [joined, hasty, engine.bus] {
        bus.shutdown(Duration::from_secs(5)).await;
    }
}

/// A program on the engine, over the socket.
async fn join(engine: &Engine, name: &str, result_holdback: Duration) -> Bus {
    let bus = bus(Iii::new(IiiOptions {
        url: engine.url(),
        worker_name: name.to_owned(),
        result_holdback,
        ..IiiOptions::default()
    }))
    .await;
    serve_echo(&bus, &format!("{name}::echo"));
    bus
}

fn serve_echo(bus: &Bus, id: &str) {
    let echo = FunctionDef::ad_hoc(id, |payload, _| std::future::ready(Ok(payload)));
    bus.register(echo).expect("registered");
}

async fn client(url: &str) -> IIIClient {
    let client = register_worker(url, InitOptions::default());
    client
        .wait_until_registered(Duration::from_secs(10))
        .await
        .expect("registered");
    client
}

async fn known(bus: &Bus, function: &str) {
    let ask = json!({ "function_id": function });
    while bus
        .invoke(
            &CallContext::default(),
            "engine::functions::info",
            ask.clone(),
            CallOptions::default(),
        )
        .await
        .is_err()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn payload() -> Value {
    json!({ "text": "twenty bytes of text" })
}

fn triggered(client: &IIIClient, function: &'static str) -> impl Future<Output = ()> + Send + 'static {
    let client = client.clone();
    async move {
        let answer = client.trigger(TriggerRequest::new(function, payload())).await;
        answer.expect("an answer");
    }
}

fn invoked(bus: &Bus, function: &'static str) -> impl Future<Output = ()> + Send + 'static {
    let bus = bus.clone();
    async move {
        let answer = bus
            .invoke(
                &CallContext::default(),
                function,
                payload(),
                CallOptions::default(),
            )
            .await;
        answer.expect("an answer");
    }
}

/// What some callers saw.
struct Trips {
    samples: Samples,
    per_second: f64,
}

impl Trips {
    fn say(&self, what: &str, bare: &Self) {
        say(format!(
            "  {what:50} p50 {:7.3} ms  p99 {:7.3} ms  {:7.0} /s   {:5.2} times the echo",
            ms(self.samples.median()),
            ms(self.samples.quantile(99)),
            self.per_second,
            ms(self.samples.median()) / ms(bare.samples.median()),
        ));
    }
}

/// So many callers, each with one call after the other.
async fn measure<R>(callers: usize, call: impl Fn(u64) -> R) -> Trips
where
    R: Future<Output = ()> + Send + 'static,
{
    for n in 0..100 {
        call(n).await;
    }
    let each = CALLS / callers;
    let runtime = tokio::runtime::Handle::current();
    let mut numbers = 1_000..;
    let mut calls = (0..callers)
        .map(|_| numbers.by_ref().take(each).map(&call).collect::<Vec<_>>())
        .collect::<Vec<_>>();
    let began = Instant::now();
    let work = calls.drain(..).map(|calls| {
        runtime.spawn(async move {
            let mut samples = Samples::default();
            for call in calls {
                let began = Instant::now();
                call.await;
                samples.push(began.elapsed());
            }
            samples
        })
    });
    let mut samples = Samples::default();
    for done in join_all(work).await {
        samples.0.extend(done.expect("a task that ends well").0);
    }
    let count = f64::from(u32::try_from(samples.0.len()).expect("a small number"));
    Trips {
        per_second: count / began.elapsed().as_secs_f64(),
        samples,
    }
}

/// The same turns on an engine inside the process, and on one behind a single connection; the model calls alone beside.
async fn turns() {
    say(format!(
        "\n## {TURNS} turns at once, instant model, durability Normal"
    ));
    let script = || Script::answer(|_| Reply::raw(usual_pieces()));
    let inside = Program::start(Durability::Normal, script(), |config| {
        config.engine.listen = "127.0.0.1:0".into();
    })
    .await;
    inside.turn("first", "Say it.").await;
    let bare = Bare::new(inside.server.url(), &inside.last_request());
    let mut rates = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        join_all((0..TURNS).map(|_| bare.call(|_| {}))).await;
        rates.push(f64::from(u32::try_from(TURNS).expect("a small number")) / began.elapsed().as_secs_f64());
    }
    say(format!("model calls alone {:8.0} /s (yardstick)", median(rates)));
    let in_process = at_once(inside, "in the process").await;

    let directory = tempfile::tempdir().expect("a temporary directory");
    let engine = Engine::start(EmbeddedOptions {
        data_dir: Some(directory.path().to_owned()),
        durability: harness::bus::embedded::store::Durability::Normal,
        ..EmbeddedOptions::default()
    })
    .await;
    let choice = EngineChoice::Connect {
        url: engine.url(),
        reason: "bench".into(),
    };
    let outside = Program::on(choice, Durability::Normal, script(), |_| {}).await;
    let over_wire = at_once(outside, "over one connection").await;
    say(format!(
        "over one connection: {:.0} % of the rate in the process",
        over_wire / in_process * 100.0
    ));
    engine.bus.shutdown(Duration::from_secs(5)).await;
}

/// Turns per second.
async fn at_once(program: Program, what: &str) -> f64 {
    let program = Arc::new(program);
    program.turn("warm", "Say it.").await;
    let (began, spent) = (Instant::now(), cpu_time());
    let runtime = tokio::runtime::Handle::current();
    let turns = (0..TURNS).map(|n| {
        let program = Arc::clone(&program);
        runtime.spawn(async move {
            let began = Instant::now();
            program.turn(&format!("s-{n}"), "Say it.").await;
            began.elapsed()
        })
    });
    let mut samples = Samples::default();
    for done in join_all(turns).await {
        samples.push(done.expect("a task that ends well"));
    }
    let count = f64::from(u32::try_from(TURNS).expect("a small number"));
    let rate = count / began.elapsed().as_secs_f64();
    say(format!(
        "{what:20} {rate:6.0} /s   a turn p50 {:.0} ms, p99 {:.0} ms   processor time per turn {:.2} ms",
        ms(samples.median()),
        ms(samples.quantile(99)),
        ms(cpu_time().saturating_sub(spent)) / count,
    ));
    Arc::into_inner(program).expect("nobody else").stop().await;
    rate
}

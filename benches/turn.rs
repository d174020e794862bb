//! What a durable turn costs beside a bare client that makes the same model call in the same run.
//!
//! `cargo bench --bench turn` (all), `… -- latency`, `… -- throughput`, `… -- delta`, `… -- crowd`. The scripted model server, the bare
//! client and the program share this process and its cores. Compare ratios, not numbers.

#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

#[path = "support/memory.rs"]
mod memory;
mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use harness::bus::FunctionDef;
use harness::scripted::{Gate, Reply, Script, Step};
use serde_json::{Value, json};

use memory::resident_mb;
use support::bare::Bare;
use support::figures::{Samples, say, say_load};
use support::model::{pieces, usual_pieces};
use support::process::{cpu_time, median, ms, wanted};
use support::program::{Durability, Program};

const SESSIONS: usize = 256;
const CROWD: usize = 1000;
const ROUNDS: usize = 3;

/// How fast the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As fast as the server can write: only overhead is left.
    Instant,
    /// First piece after 100 ms, then one every 10 ms: a fast hosted model.
    Fast,
    /// First piece after 500 ms, then one every 100 ms: a slow one.
    Slow,
}

impl Pace {
    fn name(self) -> &'static str {
        match self {
            Self::Instant => "instant model",
            Self::Fast => "fast model (100 ms to the first piece, then one per 10 ms)",
            Self::Slow => "slow model (500 ms to the first piece, then one per 100 ms)",
        }
    }

    fn reply(self) -> Reply {
        let pieces = usual_pieces();
        match self {
            Self::Instant => Reply::raw(pieces),
            Self::Fast => paced(pieces, Duration::from_millis(100), Duration::from_millis(10)),
            Self::Slow => paced(pieces, Duration::from_millis(500), Duration::from_millis(100)),
        }
    }
}

/// An answer whose pieces come at their times.
fn paced(pieces: Vec<Step>, first: Duration, each: Duration) -> Reply {
    let gate = Gate::new();
    let (opener, count) = (gate.clone(), pieces.len());
    tokio::runtime::Handle::current().spawn(async move {
        let mut at = tokio::time::Instant::now() + first;
        for _ in 0..count {
            tokio::time::sleep_until(at).await;
            opener.release();
            at += each;
        }
    });
    gated(pieces, &gate)
}

/// An answer whose every piece waits for the gate.
fn gated(pieces: Vec<Step>, gate: &Gate) -> Reply {
    Reply::raw(
        pieces
            .into_iter()
            .flat_map(|piece| [Step::Wait(gate.clone()), piece]),
    )
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    say_load("before");
    for durability in [Durability::Full, Durability::Normal] {
        for pace in [Pace::Instant, Pace::Fast] {
            if wanted("latency") || wanted("throughput") {
                runtime.block_on(turns(durability, pace));
            }
        }
    }
    if wanted("crowd") {
        runtime.block_on(crowd());
    }
    if wanted("delta") {
        for streams in [1, 100] {
            runtime.block_on(deltas(streams));
        }
    }
    say_load("after");
}

async fn turns(durability: Durability, pace: Pace) {
    say(format!("\n## durability {durability:?}, {}", pace.name()));
    let program = Arc::new(Program::start(durability, Script::answer(move |_| pace.reply()), |_| {}).await);
    for n in 0..5 {
        program.turn(&format!("warm-{n}"), "Say it.").await;
    }
    let bare = Bare::new(program.server.url(), &program.last_request());
    bare.call(|_| {}).await;
    if wanted("latency") {
        latency(&program, &bare, pace).await;
    }
    if wanted("throughput") {
        throughput(&program, &bare, pace).await;
    }
    Arc::into_inner(program).expect("nobody else").stop().await;
}

/// One after the other, by turns.
async fn latency(program: &Program, bare: &Bare, pace: Pace) {
    let count = match pace {
        Pace::Instant => 100,
        Pace::Fast | Pace::Slow => 15,
    };
    let (mut yardstick, mut ours) = (Samples::default(), Samples::default());
    for n in 0..count {
        let began = Instant::now();
        bare.call(|_| {}).await;
        yardstick.push(began.elapsed());
        let began = Instant::now();
        program.turn(&format!("alone-{n}"), "Say it.").await;
        ours.push(began.elapsed());
    }
    say(format!(
        "1 session:    bare {:8.3} ms   turn {:8.3} ms   ratio {:.2}   added {:.3} ms",
        ms(yardstick.median()),
        ms(ours.median()),
        ms(ours.median()) / ms(yardstick.median()),
        ms(ours.median()) - ms(yardstick.median()),
    ));
}

/// So many at once, round by round.
async fn throughput(program: &Arc<Program>, bare: &Bare, pace: Pace) {
    let each = match pace {
        Pace::Instant => 4,
        Pace::Fast | Pace::Slow => 2,
    };
    let count = f64::from(u32::try_from(SESSIONS * each).expect("a small number"));
    let (mut rates, mut cpu) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for round in 0..ROUNDS {
        let (began, spent) = (Instant::now(), cpu_time());
        together(|_| {
            let bare = bare.clone();
            async move {
                for _ in 0..each {
                    bare.call(|_| {}).await;
                }
            }
        })
        .await;
        rates.0.push(count / began.elapsed().as_secs_f64());
        cpu.0.push(ms(cpu_time().saturating_sub(spent)) / count);
        let (began, spent) = (Instant::now(), cpu_time());
        together(|session| {
            let program = Arc::clone(program);
            async move {
                for n in 0..each {
                    program
                        .turn(&format!("many-{round}-{session}-{n}"), "Say it.")
                        .await;
                }
            }
        })
        .await;
        rates.1.push(count / began.elapsed().as_secs_f64());
        cpu.1.push(ms(cpu_time().saturating_sub(spent)) / count);
    }
    let (yardstick, ours) = (median(rates.0), median(rates.1));
    say(format!(
        "{SESSIONS} sessions: bare {yardstick:6.0} /s        turn {ours:6.0} /s        ratio {:.0} %   \
         processor time per call {:.2} ms and {:.2} ms (model server included)",
        ours / yardstick * 100.0,
        median(cpu.0),
        median(cpu.1),
    ));
}

async fn together<R>(work: impl Fn(usize) -> R)
where
    R: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Handle::current();
    for done in join_all((0..SESSIONS).map(|n| runtime.spawn(work(n)))).await {
        done.expect("a task that ends well");
    }
}

/// So many streaming turns at the same time, beside as many bare calls.
async fn crowd() {
    let pace = Pace::Slow;
    say(format!(
        "\n## {CROWD} streaming turns at once, durability Normal, {}",
        pace.name()
    ));
    let script = Script::answer(move |_| pace.reply());
    let program = Arc::new(Program::start(Durability::Normal, script, |_| {}).await);
    program.turn("warm", "Say it.").await;
    let bare = Bare::new(program.server.url(), &program.last_request());
    let idle = resident_mb(std::process::id());
    for round in 0..ROUNDS {
        let calls = at_once(|_| {
            let bare = bare.clone();
            async move { bare.call(|_| {}).await }
        })
        .await;
        calls.say("bare", idle);
        let turns = at_once(|session| {
            let program = Arc::clone(&program);
            async move { program.turn(&format!("crowd-{round}-{session}"), "Say it.").await }
        })
        .await;
        turns.say("turn", idle);
    }
    Arc::into_inner(program).expect("nobody else").stop().await;
}

/// What a crowd took.
struct Crowd {
    each: Samples,
    all: Duration,
    cpu: Duration,
}

impl Crowd {
    fn say(&self, who: &str, idle_mb: f64) {
        say(format!(
            "{who}: p50 {:7.0} ms   p99 {:7.0} ms   last {:7.0} ms   processor time each {:.2} ms   memory {:+.0} MB \
             (model server included)",
            ms(self.each.median()),
            ms(self.each.quantile(99)),
            ms(self.all),
            ms(self.cpu) / f64::from(u32::try_from(CROWD).expect("a small number")),
            resident_mb(std::process::id()) - idle_mb,
        ));
    }
}

async fn at_once<R>(work: impl Fn(usize) -> R) -> Crowd
where
    R: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Handle::current();
    let (began, spent) = (Instant::now(), cpu_time());
    let tasks: Vec<_> = (0..CROWD)
        .map(|n| {
            let work = work(n);
            runtime.spawn(async move {
                let began = Instant::now();
                work.await;
                began.elapsed()
            })
        })
        .collect();
    let each = join_all(tasks).await.into_iter();
    Crowd {
        each: Samples(each.map(|took| took.expect("a task that ends well")).collect()),
        all: began.elapsed(),
        cpu: cpu_time().saturating_sub(spent),
    }
}

/// One delta per stream in this time.
const BEAT: Duration = Duration::from_millis(20);
const BEATS: usize = 150;

/// When each delta of a stream was released to the socket, and its gate.
struct Stream {
    gate: Gate,
    released: Mutex<Vec<Instant>>,
}

type Streams = Arc<Mutex<HashMap<String, Arc<Stream>>>>;

/// How long a delta takes from its release in the model server to the bare client, and to a subscribed browser.
async fn deltas(streams: usize) {
    say(format!(
        "\n## deltas, {streams} stream(s), one delta per {} ms each, events.coalesce_ms 0",
        BEAT.as_millis()
    ));
    let open: Streams = Arc::default();
    let known = Arc::clone(&open);
    let script = Script::answer(move |request| {
        let name = request.last_user_text();
        let stream = lock(&known).get(&name).cloned();
        match stream {
            Some(stream) => gated(pieces((0..BEATS).map(|n| format!("d{n:05} "))), &stream.gate),
            None => Pace::Instant.reply(),
        }
    });
    let program = Program::start(Durability::Full, script, |config| config.events.coalesce_ms = 0).await;
    program.turn("warm", "Say it.").await;
    let request = program.last_request();
    let seen: Arc<Mutex<Samples>> = Arc::default();
    let (watcher, live) = (Arc::clone(&seen), Arc::clone(&open));
    let push = FunctionDef::ad_hoc("ui::session::event::bench", move |payload: Value, _| {
        let at = Instant::now();
        let delta = payload["event"]["llm_event"]["delta"].as_str().and_then(number);
        let stream = payload["session_id"]
            .as_str()
            .and_then(|name| lock(&live).get(name).cloned());
        if let (Some(n), Some(stream)) = (delta, stream) {
            lock(&watcher).push(at - lock(&stream.released)[n]);
        }
        std::future::ready(Ok(Value::Null))
    });
    program.bus().register(push).expect("a browser");

    let (mut yardstick, mut ours) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        let names: Vec<_> = (0..streams).map(|n| format!("bare-{round}-{n}")).collect();
        let beats = beat(&open, &names);
        let clients = names.iter().map(|name| {
            let mut request = request.clone();
            *request["messages"]
                .as_array_mut()
                .and_then(|rows| rows.last_mut())
                .expect("a row") = json!({"role": "user", "content": name});
            let (bare, stream) = (
                Bare::new(program.server.url(), &request),
                lock(&open)[name].clone(),
            );
            async move {
                let mut samples = Samples::default();
                bare.call(|data| {
                    let at = Instant::now();
                    let delta = data
                        .split_once("\"content\":\"")
                        .and_then(|(_, text)| number(text));
                    if let Some(n) = delta {
                        samples.push(at - lock(&stream.released)[n]);
                    }
                })
                .await;
                samples
            }
        });
        let runtime = tokio::runtime::Handle::current();
        let clients = clients.map(|client| runtime.spawn(client)).collect::<Vec<_>>();
        for samples in join_all(clients).await {
            yardstick.0.append(&mut samples.expect("a client").0);
        }
        beats.await;

        let names: Vec<_> = (0..streams).map(|n| format!("turn-{round}-{n}")).collect();
        for name in &names {
            let request = json!({ "browser_id": "bench", "session_id": name });
            program.call("ui::subscribe", request).await;
        }
        let beats = beat(&open, &names);
        join_all(names.iter().map(|name| program.turn(name, name))).await;
        beats.await;
        ours.0.append(&mut lock(&seen).0);
    }
    assert_eq!(yardstick.0.len(), ours.0.len(), "a delta was lost or merged");
    for (name, share) in [("p50", 50), ("p99", 99)] {
        let (bare, turn) = (ms(yardstick.quantile(share)), ms(ours.quantile(share)));
        say(format!(
            "{name}: bare {bare:7.3} ms   push {turn:7.3} ms   added {:7.3} ms",
            turn - bare
        ));
    }
    program.stop().await;
}

/// Opens streams of these names and releases their deltas beat by beat, spread over the beat.
fn beat(open: &Streams, names: &[String]) -> impl Future<Output = ()> {
    let runtime = tokio::runtime::Handle::current();
    let mut tasks = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let stream = Arc::new(Stream {
            gate: Gate::new(),
            released: Mutex::default(),
        });
        lock(open).insert(name.clone(), Arc::clone(&stream));
        let offset =
            BEAT * u32::try_from(place).unwrap_or_default() / u32::try_from(names.len()).unwrap_or(1);
        tasks.push(runtime.spawn(async move {
            // All connections stand by then.
            tokio::time::sleep(Duration::from_millis(1500) + offset).await;
            // The role, which is no delta.
            stream.gate.release();
            for _ in 0..BEATS {
                tokio::time::sleep(BEAT).await;
                lock(&stream.released).push(Instant::now());
                stream.gate.release();
            }
            // End, usage, goodbye.
            for _ in 0..3 {
                stream.gate.release();
            }
        }));
    }
    async move {
        for task in tasks {
            task.await.expect("a beat");
        }
    }
}

/// The number in a delta such as `d00017 `.
fn number(text: &str) -> Option<usize> {
    text.strip_prefix('d')?.get(..5)?.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What length costs a session, and what the program costs before it does anything.
//!
//! `cargo bench --bench session` (all), `… -- append`, `… -- turn`, `… -- real`, `… -- start`. The yardstick of the first two is the
//! same work at entry 10 in the same run; durability is `normal`, so that no sync hides the difference.

#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

#[path = "support/memory.rs"]
mod memory;
#[path = "session/real_size.rs"]
mod real_size;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::bus::{CallContext, CallOptions};
use harness::model::RawMessage;
use harness::model::api::session::{Append, AppendRequest};
use harness::scripted::{Reply, Script};
use serde_json::json;

use memory::resident_mb;
use support::bare::Bare;
use support::figures::{Samples, say, say_load};
use support::model::usual_pieces;
use support::process::{cpu_time, median, ms, wanted};
use support::program::{Durability, Program};

const LONG: usize = 10_000;
const SHORT: usize = 10;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    say_load("before");
    if wanted("append") || wanted("turn") {
        runtime.block_on(lengths());
    }
    if wanted("real") {
        runtime.block_on(real_size::grow());
    }
    if wanted("start") {
        start();
    }
    say_load("after");
}

async fn lengths() {
    let script = Script::answer(|_| Reply::raw(usual_pieces()));
    let program = Program::start(Durability::Normal, script, |config| {
        config.compaction.auto = false;
    })
    .await;
    let spent = cpu_time();
    fill(&program, "long", LONG).await;
    say(format!(
        "{LONG} appends to one session, each stored before the next: {:.0} µs of processor time each",
        ms(cpu_time().saturating_sub(spent)) * 1e3 / f64::from(u32::try_from(LONG).expect("a small number"))
    ));
    if wanted("append") {
        append_at(&program).await;
    }
    if wanted("turn") {
        turn_at(&program).await;
    }
    program.stop().await;
}

/// Appends to a session of ten entries and to one of ten thousand, by turns.
async fn append_at(program: &Program) {
    let (mut short, mut long) = (Samples::default(), Samples::default());
    for round in 0..200 {
        let session = format!("short-{round}");
        fill(program, &session, SHORT).await;
        for _ in 0..5 {
            short.push(append(program, &session).await);
            long.push(append(program, "long").await);
        }
    }
    report("append", &short, &long);
}

/// A turn on top of both; the long history is compacted, as no model takes it whole. Then the long one as it is, beside
/// the bare client that sends as much.
async fn turn_at(program: &Program) {
    let (mut short, mut long) = (Samples::default(), Samples::default());
    fill(program, "compacted", LONG).await;
    compact(program, "compacted").await;
    for round in 0..40 {
        let session = format!("turn-{round}");
        fill(program, &session, SHORT).await;
        short.push(turn(program, &session).await);
        long.push(turn(program, "compacted").await);
    }
    report("turn, long history compacted", &short, &long);

    let (mut bare, mut whole) = (Samples::default(), Samples::default());
    turn(program, "long").await;
    for _ in 0..10 {
        let client = Bare::new(program.server.url(), &program.last_request());
        client.call(|_| {}).await;
        let began = Instant::now();
        client.call(|_| {}).await;
        bare.push(began.elapsed());
        whole.push(turn(program, "long").await);
    }
    say(format!(
        "turn, whole history of {LONG} sent: bare {:.2} ms   turn {:.2} ms   ratio {:.2}",
        ms(bare.median()),
        ms(whole.median()),
        ms(whole.median()) / ms(bare.median())
    ));
}

fn report(what: &str, short: &Samples, long: &Samples) {
    say(format!(
        "{what}: at entry {SHORT} {:.3} ms   at entry {LONG} {:.3} ms   ratio {:.2}",
        ms(short.median()),
        ms(long.median()),
        ms(long.median()) / ms(short.median())
    ));
}

async fn turn(program: &Program, session: &str) -> Duration {
    let began = Instant::now();
    program.turn(session, "Say it.").await;
    began.elapsed()
}

async fn append(program: &Program, session: &str) -> Duration {
    let began = Instant::now();
    append_one(program, session, "user").await;
    began.elapsed()
}

async fn append_one(program: &Program, session: &str, role: &str) {
    let message = json!({
        "role": role, "timestamp": 0, "content": [{ "type": "text", "text": "About sixty bytes of text, as a person types it." }],
    });
    let request = AppendRequest {
        session_id: session.into(),
        message: RawMessage::new(message).expect("a message"),
        parent_id: None,
        entry_id: None,
    };
    let context = CallContext::default();
    program
        .bus()
        .call::<Append>(&context, request, CallOptions::default())
        .await
        .expect("appended");
}

async fn fill(program: &Program, session: &str, entries: usize) {
    // Pairs of question and answer, in order: the session takes one at a time anyway.
    for n in 0..entries {
        append_one(program, session, if n % 2 == 0 { "user" } else { "assistant" }).await;
    }
}

/// Puts a compaction behind the last entry; the last four stay verbatim.
async fn compact(program: &Program, session: &str) {
    let rows = program
        .call("session-tree::messages", json!({ "session_id": session }))
        .await;
    let rows = rows["messages"].as_array().cloned().unwrap_or_default();
    let id_from_end = |n: usize| rows[rows.len() - n]["entry_id"].clone();
    let entry = json!({
        "type": "compaction", "id": "compaction-1", "parent_id": id_from_end(1),
        "timestamp": program.bus().now_ms() + 20_000, "summary": "What was said before.", "tokens_before": 100_000,
        "tail_start_id": id_from_end(4), "details": {},
    });
    let scope = format!("session_tree:{session}");
    program
        .call(
            "state::set",
            json!({ "scope": scope, "key": "compaction-1", "value": entry }),
        )
        .await;
    // Read again, outside of what is measured.
    program
        .call("session-tree::messages", json!({ "session_id": session }))
        .await;
}

/// Cold start of the program as it is shipped, until `/readyz` says so; memory a second later.
fn start() {
    let mut ready = Samples::default();
    let mut bare = Samples::default();
    let mut resident = Vec::new();
    let directory = tempfile::tempdir().expect("a temporary directory");
    for round in 0..11 {
        let began = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_harness"))
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .expect("the program");
        assert!(status.success(), "{status}");
        bare.push(began.elapsed());

        let began = Instant::now();
        let mut child = serve(directory.path(), &format!("data-{round}"));
        while !is_ready() {
            std::thread::sleep(Duration::from_millis(1));
        }
        ready.push(began.elapsed());
        if round < 3 {
            std::thread::sleep(Duration::from_secs(1));
            resident.push(resident_mb(child.id()));
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    say(format!(
        "cold start: `--version` {:.1} ms   ready {:.1} ms (p90 {:.1})   idle memory {:.1} MB",
        ms(bare.median()),
        ms(ready.median()),
        ms(ready.quantile(90)),
        median(resident)
    ));
}

const ADMIN: &str = "127.0.0.1:49399";

fn serve(directory: &std::path::Path, data: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_harness"))
        .arg("serve")
        .current_dir(directory)
        .env("HARNESS__ENGINE__MODE", "embedded")
        .env("HARNESS__ENGINE__DATA_DIR", data)
        .env("HARNESS__ENGINE__LISTEN", "127.0.0.1:0")
        .env("HARNESS__HTTP__LISTEN", ADMIN)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program")
}

fn is_ready() -> bool {
    let Ok(mut stream) = TcpStream::connect(ADMIN) else {
        return false;
    };
    let mut answer = String::new();
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

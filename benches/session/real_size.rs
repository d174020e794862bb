//! What the operations of a session cost as it grows to 3,200 turns with 10 MB of outputs: time, bytes written to files, and
//! how much more memory the process has.
//!
//! The yardstick is the same operation on the session when it is short, in the same run;
//! durability is `normal`, so that no sync hides the difference. Operations that read or copy all of a session grow with it;
//! they have a bare pass over the same JSON beside them: how long it takes to write all messages out as text and read them.

use std::time::{Duration, Instant};

use harness::scripted::{Reply, Request, Script};
use serde_json::{Value, json};

use crate::memory::resident_mb;
use crate::support::figures::{Samples, say};
use crate::support::model::usual_pieces;
use crate::support::process::ms;
use crate::support::program::{Durability, Program};

/// Turns at which everything is measured.
const SIZES: [usize; 4] = [50, 200, 800, 3_200];
/// Output of each turn's call, so that the longest session has 10 MB of them.
const OUTPUT_BYTES: usize = 3_277;
const SESSION: &str = "real";

pub(crate) async fn grow() {
    let program = Program::start(Durability::Normal, Script::answer(answer), |config| {
        config.compaction.auto = false;
    })
    .await;
    say("| turns | operation | time | bytes written | memory, more |");
    say("|---|---|---|---|---|");
    let mut turns = 0;
    for size in SIZES {
        while turns < size {
            add_turn(&program, SESSION, turns).await;
            turns += 1;
        }
        measure(&program, size).await;
    }
    program.stop().await;
}

/// A summary when one is asked for; text in pieces else.
fn answer(request: &Request) -> Reply {
    if request.body.to_string().contains("<conversation>") {
        return Reply::says("## Goal\n- (none)", 1);
    }
    Reply::raw(usual_pieces())
}

async fn measure(program: &Program, turns: usize) {
    let bare = bare_pass(program).await;
    let report = |operation: &str, cost: &Cost| {
        say(format!(
            "| {turns} | {operation} | {:.2} ms | {:.0} | {:.1} MB |",
            ms(cost.times.median()),
            cost.bytes,
            cost.memory_mb
        ));
    };
    say(format!(
        "| {turns} | all messages written as JSON and read | {:.2} ms | | |",
        ms(bare)
    ));
    let append = json!({ "session_id": SESSION, "message": user("One more.") });
    report(
        "append",
        &cost(program, 50, "session-tree::append", &append).await,
    );
    let reference = json!({ "session_id": SESSION });
    report(
        "messages",
        &cost(program, 5, "session-tree::messages", &reference).await,
    );
    let page = json!({ "session_id": SESSION, "limit": 50 });
    report(
        "messages, the last 50",
        &cost(program, 20, "session-tree::messages", &page).await,
    );
    report("list", &cost(program, 20, "session-tree::list", &json!({})).await);
    report(
        "export_html",
        &cost(program, 3, "session-tree::export_html", &reference).await,
    );

    let path = program.call("session-tree::messages", page).await;
    let tip = path["messages"]
        .as_array()
        .and_then(|rows| rows.last())
        .cloned()
        .unwrap_or_default();
    let fork = json!({ "source_session_id": SESSION, "from_entry_id": tip["entry_id"] });
    report(
        "fork at the tip",
        &cost(program, 3, "session-tree::fork", &fork).await,
    );

    let copy = program.call("session-tree::fork", fork).await["session_id"].clone();
    let copy = copy.as_str().expect("a session").to_owned();
    let compact = json!({ "session_id": copy,
        "model": { "id": "gpt-5", "providerID": "openai", "limit": { "context": 200_000, "input": 200_000, "output": 8_192 } } });
    report(
        "compaction, the first",
        &cost(program, 1, "context-compaction::compact_session", &compact).await,
    );
    report("turn, history compacted", &turn_cost(program, &copy).await);
    for turn in 0..10 {
        add_turn(program, &copy, turn).await;
    }
    report(
        "compaction, 10 turns later",
        &cost(program, 1, "context-compaction::compact_session", &compact).await,
    );
}

/// What an operation costs.
#[derive(Default)]
struct Cost {
    times: Samples,
    /// Per operation.
    bytes: f64,
    /// After all of them, of this process.
    memory_mb: f64,
}

impl Cost {
    async fn of(times: u32, operation: impl AsyncFn()) -> Self {
        let mut cost = Self::default();
        let (memory, bytes) = (resident_mb(std::process::id()), bytes_written());
        for _ in 0..times {
            let began = Instant::now();
            operation().await;
            cost.times.push(began.elapsed());
        }
        cost.bytes = (bytes_written() - bytes) / f64::from(times);
        cost.memory_mb = resident_mb(std::process::id()) - memory;
        cost
    }
}

async fn cost(program: &Program, times: u32, id: &str, request: &Value) -> Cost {
    Cost::of(times, async || {
        let answer = program.call(id, request.clone()).await;
        assert!(
            answer["status"].is_null() || answer["status"] == "ok",
            "{id}: {answer}"
        );
    })
    .await
}

async fn turn_cost(program: &Program, session: &str) -> Cost {
    Cost::of(10, async || program.turn(session, "Say it.").await).await
}

/// Bytes that this process has written with `write` and its kind; what goes out through sockets is not among them.
fn bytes_written() -> f64 {
    let counters = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = counters.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

async fn bare_pass(program: &Program) -> Duration {
    let all = program
        .call("session-tree::messages", json!({ "session_id": SESSION }))
        .await;
    let began = Instant::now();
    let text = all.to_string();
    let read: Value = serde_json::from_str(&text).expect("JSON");
    let passed = began.elapsed();
    drop(read);
    passed
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": [{ "type": "text", "text": text }], "timestamp": 0 })
}

/// A question, a call, its output, an answer.
async fn add_turn(program: &Program, session: &str, number: usize) {
    let assistant = |content: Value, why: &str| json!({ "role": "assistant", "content": content, "stop_reason": why, "model": "gpt-5", "provider": "openai", "timestamp": 0 });
    let id = format!("call-{number}");
    let line = format!(
        "{number}: a line of output as a shell prints it, with a path such as src/workers/mod.rs in it\n"
    );
    let output: String = line.chars().cycle().take(OUTPUT_BYTES).collect();
    let call = json!([{ "type": "function_call", "id": id, "function_id": "shell::exec", "arguments": { "command": "ls" } }]);
    let said = json!([{ "type": "text", "text": "That is what there is. What is to be done with it?" }]);
    let messages = [
        user("What is in the directory, and what does it say about the matter at hand?"),
        assistant(call, "function_call"),
        json!({ "role": "function_result", "function_call_id": id, "function_id": "shell::exec", "details": {}, "is_error": false,
            "content": [{ "type": "text", "text": output }], "timestamp": 0 }),
        assistant(said, "end"),
    ];
    for message in messages {
        let request = json!({ "session_id": session, "message": message });
        program.call("session-tree::append", request).await;
    }
}

//! Bad input for every function of the catalog. A new function is covered as soon as it is registered: its payloads are
//! made from its published schema.
//!
//! What is sent: members missing and of every wrong type, members that are texts of 1 MiB, long texts inside of others,
//! payloads of 16 MiB and of 200 levels, and payloads that are no objects. What must come back: a short refusal in plain
//! words with nothing written, or the answer that the tables below list with its reason.

mod payloads;
mod stage;
mod wire;
mod world;

use futures::{StreamExt, stream};
use harness::bus::FunctionInfo;
use harness::cli::catalog;
use harness::error::{Error, Result};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use payloads::{Attack, Kind};
use world::World;

/// Functions that are attacked at the same time, each in a program of its own.
const AT_ONCE: usize = 4;

/// Longest refusal, in bytes.
const MAX_TEXT: usize = 512;

/// Words that mean something to Rust programmers only.
const RUST_WORDS: [&str; 18] = [
    "struct ",
    "enum ",
    "tuple",
    "sequence",
    " map",
    "unit",
    "Option<",
    "Vec<",
    "Map<",
    "RawMessage",
    "serde",
    "unwrap",
    "u64",
    "i64",
    "f64",
    "usize",
    "harness::model",
    "harness::bus",
];

/// Functions that never refuse, with the answer they give to bad input.
fn steady_answer(id: &str) -> Option<fn(&Value) -> bool> {
    match id {
        // Handlers of triggers: an engine would only log a refusal (03 §2.8, 04 §3.1, §3.2, §5.1, 02 §6.3, 10 §6.3).
        "approval::on_harness_config"
        | "context-compaction::on_agent_event"
        | "harness::fanout::agent_event_handler"
        | "harness::fanout::session_created"
        | "hook-fanout::reply_handler"
        | "turn::on_approval" => Some(Value::is_null),
        // They look at no request (09 B3, 08 §10).
        "harness::provider::list" => Some(|answer| answer["providers"].is_array()),
        id if id.ends_with("::refresh_models") => Some(|answer| answer["registered"].is_array()),
        _ => None,
    }
}

/// Functions that read what is no object as `{}`, and need no member (06 §3, 09 A2).
const NO_OBJECT_IS_EMPTY: [&str; 3] = ["models::list", "session-tree::create", "session-tree::list"];

/// The approval functions that change something answer `{ok: false, error}` instead of an error of the call (03 §2.1, §2.3
/// to §2.7), and so do those that load models (08 §8) and fetch pages (05 §3).
fn refuses_by_answer(id: &str) -> bool {
    (id.starts_with("approval::") && id != "approval::get_settings")
        || id.ends_with("load_model")
        || id == "web::fetch"
}

/// Ids that count as absent when they cannot be one, or that any text may be.
fn id_may_be_ignored(id: &str, what: &str) -> bool {
    // For tracing only, where a bad id is no id (04 §1, 01 §8.8); not kept.
    (id == "harness::trigger" && (what.starts_with("session_id") || what.starts_with("message_id")))
        // Of 1..200 characters, else treated as absent (06 §4.3 (d)).
        || (id == "session-tree::append" && what.starts_with("entry_id"))
        // An entry to look for; nothing is summarised up to one that is not there (10 §6.1).
        || (id == "context-compaction::compact_now" && what.starts_with("last_user_message_id"))
        // Any text is one: what is kept is a hash of it (07 weakness 4).
        || (id == "budget::record" && what.starts_with("record_id"))
}

/// Items of a conversation are not looked at one by one (08 §2); what is no message is for the provider to refuse.
fn is_passed_on(id: &str, what: &str) -> bool {
    id.ends_with("::stream") && what.starts_with("messages = [")
}

/// Messages that a session has already are only compared with those of a snapshot (06 §4.15).
fn is_only_compared(id: &str, what: &str) -> bool {
    id == "session-tree::reconcile" && what.starts_with("state_snapshot = [")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_function_of_the_catalog_withstands_bad_input() {
    let catalog = catalog(&harness::workers::all());
    let runs = stream::iter(&catalog).map(|function| async move {
        let world = World::start().await;
        let mut run = Run {
            world: &world,
            function,
            complaints: Vec::new(),
        };
        let attacks = run.attack().await;
        let complaints = run.complaints;
        world.stop().await;
        (attacks, complaints)
    });
    let runs: Vec<(usize, Vec<String>)> = runs.buffer_unordered(AT_ONCE).collect().await;
    let attacks: usize = runs.iter().map(|(attacks, _)| attacks).sum();
    let mut complaints: Vec<String> = runs.into_iter().flat_map(|(_, complaints)| complaints).collect();
    complaints.sort();
    assert_eq!(complaints, Vec::<String>::new());
    // Too few would mean that the schemas were not understood.
    assert!(attacks > 20 * catalog.len(), "{attacks} attacks");
}

/// All attacks on one function.
struct Run<'a> {
    world: &'a World,
    function: &'a FunctionInfo,
    complaints: Vec<String>,
}

impl Run<'_> {
    async fn attack(&mut self) -> usize {
        let id = self.function.id.as_str();
        self.is_carried_out("at first").await;
        let good = stage::whole(self.world, self.function).await;
        let attacks = payloads::attacks(self.function, &good);
        let count = attacks.len();
        let mut written = self.world.settled().await;
        for attack in attacks {
            let writes = self.world.writes();
            let outcome = self.world.call(id, attack.payload.clone()).await;
            let mut changed = false;
            if self.world.writes() > writes {
                let now = if outcome.is_ok() {
                    self.world.settled().await
                } else {
                    self.world.dump().await
                };
                changed = now != written;
                written = now;
            }
            if let Some(complaint) = judge(id, &attack, &outcome, changed) {
                self.complain(format!("{}: {complaint}", attack.what));
            }
        }
        self.world.proves_to_live().await;
        self.is_carried_out("afterwards").await;
        count
    }

    /// What is right works.
    async fn is_carried_out(&mut self, when: &str) {
        let id = self.function.id.as_str();
        let good = stage::whole(self.world, self.function).await;
        let problem = match self.world.call(id, good.clone()).await {
            Ok(answer) => stage::failure(id, &answer),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            self.complain(format!("the good payload, {when}: {problem}, on {good}"));
        }
    }

    fn complain(&mut self, what: String) {
        let what: String = what.chars().take(300).collect();
        self.complaints.push(format!("{}: {what}", self.function.id));
    }
}

/// What is wrong with an outcome.
fn judge(id: &str, attack: &Attack, outcome: &Result<Value>, changed: bool) -> Option<String> {
    let refusal = match outcome {
        Err(error @ (Error::Panicked { .. } | Error::Timeout { .. } | Error::Stopped)) => {
            return Some(error.to_string());
        }
        Err(error) if refuses_by_answer(id) || steady_answer(id).is_some() => {
            return Some(format!("the call failed instead of an answer: {error}"));
        }
        Err(error) => Some(error.to_string()),
        Ok(answer) if refuses_by_answer(id) && answer["ok"] == false => {
            Some(answer["error"].as_str().unwrap_or_default().to_owned())
        }
        Ok(_) => None,
    };
    if let Some(text) = refusal {
        return refusal_problem(id, &text, changed);
    }
    let answer = outcome.as_ref().ok()?;
    if let Some(fits) = steady_answer(id) {
        return (!fits(answer) || changed).then(|| format!("answered {answer}, changed: {changed}"));
    }
    match attack.kind {
        Kind::Refused
            if !changed && (is_only_compared(id, &attack.what) || is_passed_on(id, &attack.what)) =>
        {
            None
        }
        Kind::Refused => Some(format!("answered {answer}")),
        Kind::NoObject => {
            (!NO_OBJECT_IS_EMPTY.contains(&id)).then(|| format!("read as an empty request: {answer}"))
        }
        Kind::Id => (changed && !id_may_be_ignored(id, &attack.what))
            .then(|| format!("written, and answered {answer}")),
        Kind::Optional | Kind::Empty | Kind::Text => None,
    }
}

fn refusal_problem(id: &str, text: &str, changed: bool) -> Option<String> {
    if changed {
        return Some(format!("refused, but something was written: {text}"));
    }
    if text.is_empty() {
        return Some("refused without a word".to_owned());
    }
    if id == "approval::resolve" && text != "invalid_payload" {
        return Some(format!("the contract's text is invalid_payload, not {text}"));
    }
    if text.len() > MAX_TEXT {
        return Some(format!("refused in {} bytes: {text}", text.len()));
    }
    let word = RUST_WORDS.into_iter().find(|word| text.contains(word))?;
    Some(format!("says {word:?}: {text}"))
}

#[test]
fn the_judge_sees_what_is_wrong() {
    let attack = |kind| Attack {
        kind,
        what: "x".into(),
        payload: json!({}),
    };
    let bad: [(&str, Kind, Result<Value>, bool); 8] = [
        ("a::b", Kind::Refused, Ok(json!({})), false),
        ("a::b", Kind::Refused, Err(Error::invalid("no")), true),
        (
            "a::b",
            Kind::Optional,
            Err(Error::invalid("x".repeat(513))),
            false,
        ),
        (
            "a::b",
            Kind::Optional,
            Err(Error::invalid("expected struct X")),
            false,
        ),
        ("a::b", Kind::Id, Ok(json!({})), true),
        ("a::b", Kind::NoObject, Ok(json!({})), false),
        ("turn::on_approval", Kind::Refused, Ok(json!({})), false),
        (
            "approval::resolve",
            Kind::Refused,
            Ok(json!({"ok": false, "error": "no"})),
            false,
        ),
    ];
    for (id, kind, outcome, changed) in bad {
        assert!(
            judge(id, &attack(kind), &outcome, changed).is_some(),
            "{id} {kind:?} {outcome:?}"
        );
    }
    let good: [(&str, Kind, Result<Value>, bool); 4] = [
        ("a::b", Kind::Refused, Err(Error::invalid("no")), false),
        ("a::b", Kind::Id, Ok(Value::Null), false),
        ("turn::on_approval", Kind::Refused, Ok(Value::Null), false),
        ("session-tree::list", Kind::NoObject, Ok(json!({})), false),
    ];
    for (id, kind, outcome, changed) in good {
        assert_eq!(judge(id, &attack(kind), &outcome, changed), None);
    }
}

//! How often a turn waits for an engine elsewhere (design §9: at most 6 times for a turn without calls).
//!
//! The engine of these tests answers in lock step: it holds every call back until nothing in the program moves any more,
//! then answers all of them at once. That is one *wave*. Calls that are under way together count as one wave, a call that is
//! made because of an answer belongs to a later one. So the number of waves between the call of `run::start` and the moment
//! `agent_end` is shown is the number of round trips the turn waits for, whatever a round trip takes.
//!
//! The model takes longer than all that the engine has to do, as models do: waves while it thinks cost no time and are not
//! counted. The provider is in the program, without settings of its own: those of this program read theirs from the
//! configuration, one wave more for each model call. A commit is what it is on the iii engine: its last write waits for the
//! others. A turn that needs more waves than it did is a failure here, and so is one that needs fewer: then write it down.

mod lock_step;

use pretty_assertions::assert_eq;
use serde_json::json;

use lock_step::Program;

use crate::support::stub::{calls, says};

/// `run::start` of a session that is in memory: the record and the lease.
const LOOK_UP: &str = "state::get turn_state, state::update turn_lease";
/// Then what the record rests on, and the record: the run is accepted.
const ACCEPT: [&str; 2] = [
    "state::set run_request, state::set session_tree:s1, state::set session_tree_meta",
    "state::set turn_state provisioning",
];
/// An answer without calls is stored while the inboxes are looked at; the record ends the run.
const END: [&str; 2] = [
    "state::get inbox, state::get inbox, state::set session_tree:s1, state::set session_tree_meta",
    "state::set turn_state stopped",
];

/// An answer with a call is stored, then the record with the call; the gate reads the session's settings; the call is marked
/// as started.
const ASK_GATE: [&str; 4] = [
    "state::set session_tree:s1, state::set session_tree_meta",
    "state::set turn_state function_execute",
    "state::get approval_settings",
    "state::set turn_state function_execute",
];
/// The result is stored, then the record without the call. The last result of a batch needs no checkpoint of its own.
const TAKE_RESULT: [&str; 2] = [
    "state::set session_tree:s1, state::set session_tree_meta",
    "state::set turn_state steering_check",
];
/// The inboxes are looked at and the model is asked again.
const ASK_AGAIN: [&str; 2] = [
    "state::get inbox, state::get inbox",
    "state::set turn_state assistant_streaming",
];

#[tokio::test]
async fn a_turn_without_calls_waits_five_times() {
    let program = Program::start(|_| says(&["hello"])).await;
    let first = program.turn("s1").await;
    let load = "state::get session_tree_meta, state::get turn_state, state::list session_tree:s1, state::update turn_lease";
    assert_eq!(first, [&[load][..], &ACCEPT, &END].concat());
    let second = program.turn("s1").await;
    assert_eq!(second, [&[LOOK_UP][..], &ACCEPT, &END].concat());
    program.stop().await;
}

#[tokio::test]
async fn a_turn_with_a_call_waits_thirteen_times_and_once_for_an_outside_worker() {
    for (target, outside) in [("inside::f", None), ("outside::f", Some("outside::f"))] {
        let program = Program::start(move |has_result| {
            if has_result {
                says(&["done"])
            } else {
                calls(&[("A", target, json!({}))])
            }
        })
        .await;
        program.load("s1").await;
        let waited = program.turn("s1").await;
        let called = [&ASK_GATE[..], outside.as_slice(), &TAKE_RESULT, &ASK_AGAIN].concat();
        assert_eq!(waited, [&[LOOK_UP][..], &ACCEPT, &called, &END].concat());
        program.stop().await;
    }
}

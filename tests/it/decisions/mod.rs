//! Decisions on parked calls, from the click to the call: which call a decision is for, when it counts, what else may
//! release a call and what never does (contract 03 weaknesses 1 to 6, field lessons section 3).

mod flight;
mod floor;
mod hash;
mod release;
mod times;

use serde_json::{Value, json};

use crate::support::stub::{Out, calls, says};
use crate::turn::{Rig, of_type};

/// A provider that calls these in the first turn of every run, then ends it.
fn asks_each_run(
    list: Vec<(&'static str, &'static str, Value)>,
) -> impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static {
    move |_, request| {
        let last = request["messages"].as_array().unwrap().last().unwrap();
        if last["role"] == "user" {
            calls(&list)
        } else {
            says(&["done"])
        }
    }
}

/// What became of the calls, in the order in which they ended: `allow`, or the decision that refused it.
fn fates(events: &[Value]) -> Vec<String> {
    let ends = of_type(events, "function_execution_end").into_iter();
    ends.map(|end| {
        let decision = end["result"]["details"]["decision"].as_str().unwrap_or("allow");
        format!("{} {decision}", end["function_call_id"].as_str().unwrap())
    })
    .collect()
}

impl Rig {
    /// Starts a run and waits until it is parked; answers the waiting calls.
    async fn parked(&self, session: &str) -> Vec<Value> {
        self.start(session).await;
        self.waiting(session).await
    }

    /// Waits until the session is parked; answers the waiting calls.
    async fn waiting(&self, session: &str) -> Vec<Value> {
        let view = self.t.reaches(session, "function_awaiting_approval").await;
        view["awaiting_approval"].as_array().unwrap().clone()
    }

    /// Allows call `A` of the session, as somebody who saw the call with this hash.
    async fn allow_seen(&self, session: &str, call_hash: &Value) -> Value {
        let request = json!({
            "session_id": session, "function_call_id": "A", "decision": "allow", "call_hash": call_hash,
        });
        self.t.ok("approval::resolve", request).await
    }

    /// Has the session look at its decisions, from its stored record on; by the answer it has.
    async fn look(&self, session: &str) -> Value {
        let request = json!({ "session_id": session });
        self.t
            .eventually(async || {
                let reply = self
                    .t
                    .ok("turn::function_awaiting_approval", request.clone())
                    .await;
                // A look that is under way began before this one was asked for.
                (reply["reason"] != "running").then_some(reply)
            })
            .await
    }
}

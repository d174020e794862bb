//! An engine that stores each row by itself, and a program that dies between any two of them (field lesson B1).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::bus::{CallFuture, Invocation, Transport, Write, commit_apart};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{DAY, Desk, T0};
use crate::support::pass_on::pass_on_to;
use crate::support::spy::{Op, Spy};

/// Stores the rows of a commit one by one, as the transport to an iii engine does.
struct Apart {
    inner: Arc<dyn Transport>,
}

impl Transport for Apart {
    pass_on_to!(inner);

    fn call(&self, invocation: Invocation) -> CallFuture {
        self.inner.call(invocation)
    }

    fn commit(&self, writes: Vec<Write>) -> CallFuture<()> {
        let inner = Arc::clone(&self.inner);
        commit_apart(move |invocation| inner.call(invocation), writes)
    }

    fn is_exclusive(&self) -> bool {
        false
    }
}

/// A desk on such an engine, whose program dies when it is told to.
struct Mortal {
    desk: Desk,
    spy: Spy,
}

/// A workspace, an agent and a session, each with room for 50, of which 1 is set aside as `r1` and 6 are spent.
struct Tree {
    ids: [String; 3],
}

impl Mortal {
    async fn open() -> Self {
        let spy = Spy::default();
        let wrap = spy.wrap();
        let desk = Desk::with(|options| {
            options.wrap = Box::new(move |inner| Arc::new(Apart { inner: wrap(inner) }));
        })
        .await;
        Self { desk, spy }
    }

    async fn tree(&self) -> Tree {
        let desk = &self.desk;
        let mut ids: Vec<String> = Vec::new();
        for _ in 0..3 {
            let request = json!({"ceiling_usd": 50, "period": "day", "parent_id": ids.last()});
            ids.push(desk.create(request).await);
        }
        desk.ok("record", spend(&ids[2], 6.0, "r0")).await;
        desk.ok("check", set_aside(&ids[2], "r1")).await;
        Tree {
            ids: ids.try_into().unwrap(),
        }
    }

    /// Makes a call, and from the write with this number on nothing is stored and nothing read any more. Whether it was over
    /// before; otherwise another life begins, in which somebody asks for the same again.
    async fn survives(&self, write: usize, name: &str, request: &Value) -> bool {
        let (mut writes, dead) = (0, Arc::new(AtomicBool::new(false)));
        let died = Arc::clone(&dead);
        self.spy.fail_when(move |op| {
            if let Op::Call(call) = op
                && matches!(call.function_id.as_str(), "state::set" | "state::delete")
            {
                if writes == write {
                    died.store(true, Ordering::SeqCst);
                }
                writes += 1;
            }
            died.load(Ordering::SeqCst)
        });
        let outcome = self.desk.call(name, request.clone()).await;
        self.spy.heal();
        let died = dead.load(Ordering::SeqCst);
        assert!(died || outcome.is_ok(), "{outcome:?}");
        !died
    }
}

impl Tree {
    fn leaf(&self) -> &str {
        &self.ids[2]
    }

    /// Spent and set aside, from the top down.
    async fn numbers(&self, desk: &Desk) -> Vec<(Value, Value)> {
        let mut found = Vec::new();
        for id in &self.ids {
            let mut budget = desk.get(id).await;
            let held = budget["reservations"].as_array().into_iter().flatten();
            let held: f64 = held.map(|held| held["amount_usd"].as_f64().unwrap()).sum();
            found.push((budget["spent_usd"].take(), json!(held)));
        }
        found
    }
}

fn set_aside(id: &str, reservation: &str) -> Value {
    json!({"budget_id": id, "estimated_cost_usd": 1, "reserve": true, "reservation_id": reservation})
}

fn spend(id: &str, cost: f64, record: &str) -> Value {
    json!({"budget_id": id, "cost_usd": cost, "record_id": record})
}

#[tokio::test]
async fn what_is_set_aside_is_set_aside_once_at_every_level() {
    for write in 0.. {
        let mortal = Mortal::open().await;
        let tree = mortal.tree().await;
        let request = set_aside(tree.leaf(), "r2");
        let lived = mortal.survives(write, "check", &request).await;
        for numbers in tree.numbers(&mortal.desk).await {
            assert!(
                [(json!(6), json!(1.0)), (json!(6), json!(2.0))].contains(&numbers),
                "{numbers:?}"
            );
        }
        mortal.desk.ok("check", request).await;
        assert_eq!(tree.numbers(&mortal.desk).await, vec![(json!(6), json!(2.0)); 3]);
        if lived {
            assert_eq!(write, 3);
            break;
        }
    }
}

#[tokio::test]
async fn a_spend_is_charged_once_at_every_level() {
    for write in 0.. {
        let mortal = Mortal::open().await;
        let desk = &mortal.desk;
        let tree = mortal.tree().await;
        let told = desk.t.record("on::alert", json!(null));
        let alert =
            json!({"budget_id": tree.ids[0], "threshold_pct": 0.13, "callback_function_id": "on::alert"});
        desk.ok("alert_set", alert).await;
        let mut request = spend(tree.leaf(), 0.5, "r1");
        request["reservation_id"] = json!("r1");
        let lived = mortal.survives(write, "record", &request).await;
        for numbers in tree.numbers(desk).await {
            // Neither both nor none of what was set aside and what was spent.
            assert!(
                [(json!(6), json!(1.0)), (json!(6.5), json!(0.0))].contains(&numbers),
                "{numbers:?}"
            );
        }
        desk.ok("record", request).await;
        assert_eq!(tree.numbers(desk).await, vec![(json!(6.5), json!(0.0)); 3]);
        desk.t.eventually(async || (told.count() > 0).then_some(())).await;
        assert_eq!(told.all()[0]["spent_usd"], 6.5);
        if lived {
            // The third level is no different from the others; the last write takes the alert off the list.
            assert!(write >= 3);
            break;
        }
    }
}

#[tokio::test]
async fn record_ids_survive_their_move() {
    for write in 0.. {
        let mortal = Mortal::open().await;
        let desk = &mortal.desk;
        let top = mortal.tree().await.ids[0].clone();
        for number in 0..126 {
            desk.ok("record", spend(&top, 0.01, &format!("n{number}"))).await;
        }
        // With this one they are 128 and move to a row of their own.
        let request = spend(&top, 0.01, "moves");
        let lived = mortal.survives(write, "record", &request).await;
        desk.ok("record", request.clone()).await;
        for known in ["r0", "n0", "n125", "moves"] {
            assert_eq!(
                desk.ok("record", spend(&top, 0.01, known)).await["spent_usd"],
                7.27,
                "{known}"
            );
        }
        let moved = desk.t.state("budgets", &format!("record_ids:{top}:0")).await;
        assert_eq!(moved["record_ids"].as_array().unwrap().len(), 128);
        if lived {
            assert_eq!(write, 2);
            break;
        }
    }
}

/// The archive of a reset, of another period, and of a period's end.
#[tokio::test]
async fn archives_lose_nothing_and_count_nothing_twice() {
    for (name, members, days, writes) in [
        ("reset", json!({}), 0, 3),
        ("update", json!({"patch": {"period": "week"}}), 0, 3),
        ("record", json!({"cost_usd": 0, "record_id": "late"}), 1, 9),
    ] {
        for write in 0.. {
            let mortal = Mortal::open().await;
            let desk = &mortal.desk;
            let tree = mortal.tree().await;
            desk.advance(days * DAY);
            let mut request = members.clone();
            request["budget_id"] = json!(tree.leaf());
            let lived = mortal.survives(write, name, &request).await;
            assert_eq!(desk.spent_ever(tree.leaf()).await, 6, "{name} {write}");
            desk.ok(name, request).await;
            for id in &tree.ids {
                assert_eq!(desk.spent_ever(id).await, 6, "{name} {write}");
            }
            assert_eq!(desk.get(tree.leaf()).await["spent_usd"], 0);
            assert_eq!(
                desk.stored(tree.leaf()).await["ledger"]["unarchived"],
                Value::Null
            );
            let logs = desk.logs().await;
            let leaf = logs.iter().filter(|log| log["budget_id"] == tree.leaf());
            let sum: f64 = leaf.map(|log| log["spent_usd"].as_f64().unwrap()).sum();
            assert_eq!(json!(sum), json!(6.0), "{name} {write}");
            assert!(logs.iter().all(|log| log["period_start"] == T0), "{logs:?}");
            if lived {
                assert_eq!(write, writes, "{name}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_session_pays_its_workspace_when_the_agent_is_deleted() {
    for write in 0.. {
        let mortal = Mortal::open().await;
        let desk = &mortal.desk;
        let tree = mortal.tree().await;
        let request = json!({"budget_id": tree.ids[1]});
        let lived = mortal.survives(write, "delete", &request).await;
        desk.ok("delete", request).await;
        assert_eq!(desk.get(tree.leaf()).await["parent_id"], tree.ids[0]);
        desk.ok("record", spend(tree.leaf(), 1.0, "after")).await;
        for id in [&tree.ids[0], &tree.ids[2]] {
            assert_eq!(desk.get(id).await["spent_usd"], 7);
        }
        if lived {
            assert_eq!(write, 2);
            break;
        }
    }
}

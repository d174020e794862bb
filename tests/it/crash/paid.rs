//! Killed around the money of a run: each call that the model saw is paid once, and nothing stays set aside (contract 07 §4,
//! field lessons B1, B4).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use harness::scripted::{Gate, Reply, Script, Server, Step};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::model::{Does, Model, answer, half};
use super::outcome::check_events;
use super::place::{ALLOWING, Life, Place, SESSION};
use crate::support::outsider::Outsider;
use crate::turn::user;

/// The program knows its price: 1.25 dollars for a million tokens in, 10 for a million out.
const MODEL: &str = "gpt-5";
/// Micro-dollars of a call that ends well: a thousand tokens in, a hundred out.
const COST: u64 = 1_250 + 10 * 100;
/// Calls of a run that nobody disturbs: one makes a call, one answers.
const CALLS: u64 = 2;

/// The replies that the next requests get before all others.
type Special = Arc<Mutex<VecDeque<Reply>>>;

/// A model with a price, and a store with a budget and nothing else.
struct Shop {
    model: Model,
    place: Place,
    budget: String,
    special: Special,
}

/// What a run cost in the end.
#[derive(Debug, PartialEq)]
struct Bill {
    /// Requests that the model saw.
    seen: u64,
    /// Spends that were recorded.
    paid: u64,
    /// Micro-dollars.
    spent: u64,
}

impl Shop {
    async fn open() -> Self {
        let (slow, special) = (Gate::new(), Special::default());
        let (gate, first) = (slow.clone(), Arc::clone(&special));
        let script = Script::answer(move |request| {
            let special = first.lock().unwrap().pop_front();
            let usual = || answer(request, &gate, &[("A", Does::Mark)]).with_usage(1_000, 100, 0);
            special.unwrap_or_else(usual)
        });
        let model = Model {
            server: Server::start(script.with_models(Reply::models([MODEL]))).unwrap(),
            slow,
            marks: vec!["A"],
        };
        let place = Place::new(&model, ALLOWING);
        let t = place.open().await;
        let price = json!({ "provider": "openai", "model_id": MODEL });
        t.eventually(async || {
            let model = t.ok("models::get", price.clone()).await;
            (model["pricing"]["input_per_1m"] == 1.25).then_some(())
        })
        .await;
        let budget = json!({ "ceiling_usd": 50, "period": "month" });
        let mut budget = t.ok("budget::create", budget).await;
        let budget = budget["budget_id"].take().as_str().unwrap().to_owned();
        t.stop().await;
        Self {
            model,
            place,
            budget,
            special,
        }
    }

    /// A life with a paid run that was accepted just now.
    async fn begin(&self) -> (Life, Outsider) {
        let life = self.place.start();
        let outsider = Outsider::join(life.listens().await).await;
        let request = json!({ "session_id": SESSION, "provider": "openai", "model": MODEL,
            "messages": [user("go")], "budget_id": self.budget });
        outsider.call("run::start", request).await.unwrap();
        (life, outsider)
    }

    fn next(&self, reply: Reply) {
        self.special.lock().unwrap().push_back(reply);
    }

    fn seen(&self) -> u64 {
        self.model.asked(MODEL) as u64
    }

    /// The stored budget, read beside whoever works on it.
    fn row(&self) -> Value {
        let sql = format!(
            "SELECT value FROM state WHERE scope = 'budgets' AND key = 'budget:{}'",
            self.budget
        );
        self.place.select(&sql).pop().unwrap()
    }

    /// Another life ends the run; then the books are read.
    async fn settled(&self) -> Bill {
        self.place.finish().await;
        let t = self.place.open().await;
        check_events(&t.ended(SESSION, 1).await);
        let budget = json!({ "budget_id": self.budget });
        let row = t.ok("budget::get", budget.clone()).await["budget"].take();
        assert_eq!(row["reservations"], Value::Null);
        let usage = t.ok("budget::usage", budget).await;
        t.stop().await;
        Bill {
            seen: self.seen(),
            paid: usage["spend_records"].as_u64().unwrap(),
            spent: micros(&row["spent_usd"]),
        }
    }
}

/// Micro-dollars of an amount.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small amounts"
)]
fn micros(amount: &Value) -> u64 {
    (amount.as_f64().unwrap() * 1e6).round() as u64
}

async fn end(life: Life, outsider: Outsider) {
    life.kill();
    outsider.leave().await;
}

/// The request was sent, nothing came: nobody knows what it cost, and all that was set aside is spent.
async fn waiting() {
    let shop = Shop::open().await;
    shop.next(Reply::hangs(Gate::new()));
    let (life, outsider) = shop.begin().await;
    shop.place.eventually(|| (shop.seen() == 1).then_some(())).await;
    let row = shop.row();
    end(life, outsider).await;
    let aside = row["reservations"].as_array().unwrap();
    assert_eq!(aside.len(), 1);
    let bill = Bill {
        seen: 1 + CALLS,
        paid: 1 + CALLS,
        spent: micros(&aside[0]["amount_usd"]) + CALLS * COST,
    };
    assert_eq!(shop.settled().await, bill);
}

/// What was streamed is paid as far as it came.
async fn streaming() {
    let shop = Shop::open().await;
    let text = "forty characters are ten tokens, or so..";
    shop.next(half(text));
    let (life, outsider) = shop.begin().await;
    shop.place.shows_text().await;
    end(life, outsider).await;
    let settled = shop.settled().await;
    let t = shop.place.open().await;
    let rows = t
        .ok("session-tree::messages", json!({ "session_id": SESSION }))
        .await;
    t.stop().await;
    let cut = &rows["messages"][1]["message"];
    assert_eq!(
        (&cut["content"][0]["text"], &cut["usage"]["output"]),
        (&json!(text), &json!(10))
    );
    let input = cut["usage"]["input"].as_u64().unwrap();
    assert!(input > 0);
    let bill = Bill {
        seen: 1 + CALLS,
        paid: 1 + CALLS,
        spent: (input * 5).div_ceil(4) + 10 * 10 + CALLS * COST,
    };
    assert_eq!(settled, bill);
}

/// All is done: the next life asks and pays nothing.
async fn ended() {
    let shop = Shop::open().await;
    let (life, outsider) = shop.begin().await;
    shop.place.ended().await;
    end(life, outsider).await;
    let bill = Bill {
        seen: CALLS,
        paid: CALLS,
        spent: CALLS * COST,
    };
    assert_eq!(shop.settled().await, bill);
}

/// Each request that was seen is paid once; what was set aside for one that was not seen any more may be paid as well.
fn is_sound(bill: &Bill, aside: u64) {
    assert!(bill.paid == bill.seen || bill.paid == bill.seen + 1, "{bill:?}");
    let known = CALLS * COST;
    let others = (bill.paid - CALLS) * aside.max(COST);
    assert!((known..=known + others).contains(&bill.spent), "{bill:?}");
}

/// At moments around the end of the first answer: before it is paid, before it is stored, before its call runs.
async fn settling(moment: u32) {
    let shop = Shop::open().await;
    let gate = Gate::new();
    let said = "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"gpt-5\",\"choices\":[";
    let text = "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"On it.\"},\"finish_reason\":null}]}\n\n";
    let stop = "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1000,\
        \"completion_tokens\":100,\"total_tokens\":1100}}\n\ndata: [DONE]\n\n";
    shop.next(Reply::raw([
        Step::send(format!("{said}{text}")),
        Step::Wait(gate.clone()),
        Step::send(format!("{said}{stop}")),
    ]));
    let (life, outsider) = shop.begin().await;
    shop.place.shows_text().await;
    let aside = micros(&shop.row()["reservations"][0]["amount_usd"]);
    gate.release();
    // The moment of death is what this test varies.
    tokio::time::sleep(Duration::from_micros(700) * moment).await;
    end(life, outsider).await;
    let bill = shop.settled().await;
    if bill.seen == 1 {
        // It had its answer, which was paid and is the last one.
        let paid = Bill {
            seen: 1,
            paid: 1,
            spent: COST,
        };
        return assert_eq!(bill, paid);
    }
    is_sound(&bill, aside);
}

/// At moments spread over a run.
async fn anywhere(moment: u32) {
    let shop = Shop::open().await;
    let (life, outsider) = shop.begin().await;
    tokio::time::sleep(Duration::from_millis(2) * moment).await;
    end(life, outsider).await;
    is_sound(&shop.settled().await, 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_the_model_has_said_nothing() {
    waiting().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_mid_stream() {
    streaming().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_end() {
    ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_around_the_end_of_an_answer() {
    join_all((0..6).map(settling)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_of_a_paid_run() {
    join_all((0..8).map(anywhere)).await;
}

//! Random histories of all functions beside a small sequential model.

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::model::{Book, Model, TTL, Term, usd};
use super::{DAY, Desk};
use crate::support::bus::Recorded;
use crate::support::way::Way;

/// On an engine that takes commits whole.
#[tokio::test]
async fn a_history_is_as_the_model_says() {
    histories(8).await;
}

/// On one that stores each row by itself.
#[tokio::test]
async fn a_history_on_a_shared_engine_is_as_the_model_says() {
    Way::Connect.go(histories(4)).await;
}

const PERIODS: [&str; 3] = ["day", "week", "month"];

/// More budgets are not made.
const MOST: usize = 6;

/// What happens; budgets are named by their place. Amounts in hundredths of a dollar.
#[derive(Debug, Clone)]
enum Step {
    /// Below another one or not, a period, a ceiling.
    Create(Option<Index>, &'static str, i64),
    Get(Index),
    /// An estimate, by somebody or by nobody, set aside or not.
    Check(Index, i64, Option<&'static str>, bool),
    /// Settles an open reservation, at another cost than was set aside.
    Settle(Index, i64),
    /// A record without an id, or under one of a few, so that some are repeats.
    Record(Index, i64, Option<u8>),
    Reset(Index),
    Update(Index, Term),
    /// `enforce` or `pause`.
    Switch(Index, Term),
    Exempt(Index, &'static str),
    Alert(Index, i64),
    Usage(Index),
    Forecast(Index),
    Delete(Index),
    Wait(i64),
}

fn a_step() -> impl Strategy<Value = Step> {
    let which = any::<Index>;
    let period = || prop::sample::select(&PERIODS[..]);
    let who = || prop::sample::select(&["p", "q"][..]);
    prop_oneof![
        2 => (any::<Option<Index>>(), period(), 300..2_000_i64)
            .prop_map(|(parent, period, ceiling)| Step::Create(parent, period, ceiling)),
        1 => which().prop_map(Step::Get),
        8 => (which(), 0..400_i64, prop::option::of(who()), any::<bool>())
            .prop_map(|(which, estimate, who, reserve)| Step::Check(which, estimate, who, reserve)),
        5 => (which(), 0..400_i64).prop_map(|(which, cost)| Step::Settle(which, cost)),
        5 => (which(), 0..300_i64, prop::option::of(0_u8..6))
            .prop_map(|(which, cost, record)| Step::Record(which, cost, record)),
        1 => which().prop_map(Step::Reset),
        1 => (which(), 300..2_000_i64).prop_map(|(which, ceiling)| Step::Update(which, Term::Ceiling(ceiling))),
        1 => (which(), period()).prop_map(|(which, period)| Step::Update(which, Term::Period(period))),
        1 => (which(), any::<bool>()).prop_map(|(which, on)| Step::Switch(which, Term::Enforced(on))),
        1 => (which(), any::<bool>()).prop_map(|(which, on)| Step::Switch(which, Term::Paused(on))),
        1 => (which(), who()).prop_map(|(which, who)| Step::Exempt(which, who)),
        2 => (which(), prop::sample::select(&[10, 50, 75, 100][..]))
            .prop_map(|(which, percent)| Step::Alert(which, percent)),
        2 => which().prop_map(Step::Usage),
        1 => which().prop_map(Step::Forecast),
        1 => which().prop_map(Step::Delete),
        4 => prop_oneof![0..2 * TTL, 0..DAY, 0..4 * DAY].prop_map(Step::Wait),
    ]
}

async fn histories(count: usize) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..count {
        let steps = prop::collection::vec(a_step(), 80);
        let steps = steps.new_tree(&mut runner).unwrap().current();
        let mut play = Play::begin().await;
        for step in steps {
            play.step(step.clone()).await;
            play.is_as_the_model_says(&step).await;
        }
        play.end().await;
    }
}

/// A history under way.
struct Play {
    desk: Desk,
    model: Model,
    told: Recorded,
    /// What was set aside: budget, reservation.
    open: Vec<(String, String)>,
    /// Spent and set aside, by budget, before the step.
    totals: Vec<Value>,
}

impl Play {
    async fn begin() -> Self {
        let desk = Desk::open().await;
        let told = desk.t.record("on::alert", json!(null));
        let mut play = Self {
            desk,
            model: Model::new(),
            told,
            open: Vec::new(),
            totals: Vec::new(),
        };
        play.create(None, "week", 2_000).await;
        let top = play.model.books[0].id.clone();
        play.create(Some(top), "day", 1_200).await;
        play
    }

    async fn create(&mut self, parent: Option<String>, period: &'static str, ceiling: i64) {
        let request = json!({"ceiling_usd": usd(ceiling), "period": period, "parent_id": parent});
        let id = self.desk.create(request).await;
        let book = Book::new(id, parent, period, ceiling, self.model.now);
        self.model.books.push(book);
    }

    /// The id of a budget that is there.
    fn pick(&self, which: Index) -> String {
        which.get(&self.model.books).id.clone()
    }

    async fn step(&mut self, step: Step) {
        if self.model.books.is_empty() && !matches!(step, Step::Create(..)) {
            return;
        }
        match step {
            Step::Create(parent, period, ceiling) if self.model.books.len() < MOST => {
                let parent = parent
                    .filter(|_| !self.model.books.is_empty())
                    .map(|which| self.pick(which));
                self.create(parent, period, ceiling).await;
            }
            Step::Create(..) => {}
            Step::Check(which, estimate, who, reserve) => {
                self.check(&self.pick(which), estimate, who, reserve).await;
            }
            Step::Settle(which, cost) => self.settle(which, cost).await,
            Step::Record(which, cost, record) => {
                let id = self.pick(which);
                let mut request = json!({"budget_id": id, "cost_usd": usd(cost)});
                if let Some(record) = record {
                    request["record_id"] = json!(format!("id {record}"));
                }
                let expected = self.model.record(&id, cost, None, record);
                assert_eq!(self.desk.ok("record", request).await, expected);
            }
            Step::Reset(which) => {
                let id = self.pick(which);
                assert_eq!(self.one("reset", &id).await, self.model.reset(&id));
            }
            Step::Update(which, term) => self.update(&self.pick(which), &term).await,
            Step::Switch(which, term) => self.switch(&self.pick(which), &term).await,
            Step::Exempt(which, who) => {
                let id = self.pick(which);
                let request = json!({"budget_id": id, "principal_id": who, "reason": "r"});
                assert_eq!(self.desk.ok("exempt", request).await, self.model.exempt(&id, who));
            }
            Step::Alert(which, percent) => {
                let id = self.pick(which);
                let request = json!({
                    "budget_id": id, "threshold_pct": usd(percent), "callback_function_id": "on::alert",
                });
                let alert = self.desk.ok("alert_set", request).await["alert_id"].take();
                self.model.alert(&id, alert.as_str().unwrap().to_owned(), percent);
            }
            Step::Get(which) => {
                let id = self.pick(which);
                let budget = self.one("get", &id).await["budget"].take();
                let expected = which.get(&self.model.books).shown();
                assert_eq!(plain(budget, self.model.now), expected);
            }
            Step::Usage(which) => self.usage(&self.pick(which)).await,
            Step::Forecast(which) => {
                let id = self.pick(which);
                let mut forecast = self.one("forecast", &id).await;
                let ours = [
                    "projected_period_usd",
                    "rate_usd_per_day",
                    "burn_rate_usd_per_day",
                    "at_risk",
                ];
                let members = forecast.as_object_mut().unwrap();
                assert!(ours.iter().all(|member| members.remove(*member).is_some()));
                assert_eq!(forecast, self.model.forecast(&id));
            }
            Step::Delete(which) => {
                let id = self.pick(which);
                assert_eq!(
                    self.one("delete", &id).await,
                    json!({"ok": true, "deleted": true})
                );
                self.model.delete(&id);
            }
            Step::Wait(ms) => {
                self.desk.advance(ms);
                self.model.wait(ms);
            }
        }
    }

    /// A function that takes a budget and nothing else.
    async fn one(&self, name: &str, id: &str) -> Value {
        self.desk.ok(name, json!({ "budget_id": id })).await
    }

    async fn check(&mut self, id: &str, estimate: i64, who: Option<&'static str>, reserve: bool) {
        let request = json!({
            "budget_id": id, "estimated_cost_usd": usd(estimate), "principal_id": who, "reserve": reserve,
        });
        let answer = self.desk.ok("check", request).await;
        let (mut expected, limiting) = self.model.check(id, estimate, who);
        if reserve {
            if expected["allowed"] == true && !limiting.is_empty() {
                let reservation = answer["reservation_id"].as_str().unwrap().to_owned();
                self.model.hold(&limiting, &reservation, estimate);
                expected["reservation_id"] = json!(reservation);
                self.open.push((id.to_owned(), reservation));
            }
            expected["reserved_usd"] = self.model.held(id);
        }
        assert_eq!(answer, expected);
    }

    async fn settle(&mut self, which: Index, cost: i64) {
        if self.open.is_empty() {
            return;
        }
        let (id, reservation) = self.open.swap_remove(which.index(self.open.len()));
        let request = json!({"budget_id": id, "cost_usd": usd(cost), "reservation_id": reservation});
        if self.model.chain(&id).is_empty() {
            assert_eq!(
                self.desk.error("record", request).await,
                format!("budget not found: {id}")
            );
        } else {
            let expected = self.model.record(&id, cost, Some(&reservation), None);
            assert_eq!(self.desk.ok("record", request).await, expected);
        }
    }

    async fn update(&mut self, id: &str, term: &Term) {
        let patch = match term {
            Term::Ceiling(ceiling) => json!({"ceiling_usd": usd(*ceiling)}),
            Term::Period(period) => json!({"period": period}),
            Term::Enforced(on) => json!({"enforced": on}),
            Term::Paused(on) => json!({"paused": on}),
        };
        let answer = self
            .desk
            .ok("update", json!({"budget_id": id, "patch": patch}))
            .await["budget"]
            .take();
        self.model.set(id, term);
        let book = self.model.books.iter().find(|book| book.id == id);
        assert_eq!(plain(answer, self.model.now), book.unwrap().shown());
    }

    async fn switch(&mut self, id: &str, term: &Term) {
        let (name, member, on) = match term {
            Term::Enforced(on) => ("enforce", "enforced", on),
            Term::Paused(on) => ("pause", "paused", on),
            Term::Ceiling(_) | Term::Period(_) => panic!("{term:?}"),
        };
        let expected = json!({"budget_id": id, member: on});
        assert_eq!(self.desk.ok(name, expected.clone()).await, expected);
        self.model.set(id, term);
    }

    async fn usage(&self, id: &str) {
        let usage = self.one("usage", id).await;
        let (spent, spends) = self.model.usage(id);
        assert_eq!(
            (&usage["spent_usd"], &usage["spend_records"]),
            (&spent, &json!(spends))
        );
        let rows = usage["by_period"].as_array().unwrap();
        assert_eq!(usage["records_count"], rows.len());
        let cents = |row: &Value| (row["spent"].as_f64().unwrap() * 100.0).round();
        let sum: f64 = rows.iter().map(cents).sum();
        assert_eq!(json!(sum), json!((spent.as_f64().unwrap() * 100.0).round()));
    }

    /// All budgets are as they should be; and a check never fills one above its ceiling.
    async fn is_as_the_model_says(&mut self, step: &Step) {
        let listed = self.desk.ok("list", json!({})).await["budgets"].take();
        let Value::Array(listed) = listed else {
            panic!("{listed}")
        };
        let listed: Vec<Value> = listed.into_iter().map(|row| plain(row, self.model.now)).collect();
        assert_eq!(listed, self.model.list(), "{step:?}");
        let before = std::mem::take(&mut self.totals);
        for row in listed {
            let held = row["reservations"].as_array().into_iter().flatten();
            let held: f64 = held.map(|held| held["amount_usd"].as_f64().unwrap()).sum();
            let total = row["spent_usd"].as_f64().unwrap() + held;
            let total = json!([row["id"], total]);
            if matches!(step, Step::Check(..)) && !before.contains(&total) {
                assert!(total[1].as_f64() <= row["ceiling_usd"].as_f64(), "{row}");
            }
            self.totals.push(total);
        }
    }

    async fn end(self) {
        let mut expected = self.model.calls;
        let all = async || (self.told.count() >= expected.len()).then_some(());
        self.desk.t.eventually(all).await;
        let mut told = self.told.all();
        told.sort_by_key(Value::to_string);
        expected.sort_by_key(Value::to_string);
        assert_eq!(told, expected);
        self.desk.t.stop().await;
    }
}

/// A budget as it is shown, without what the model does not know, and without exemptions that are over.
fn plain(mut budget: Value, now: i64) -> Value {
    let members = budget.as_object_mut().unwrap();
    members.remove("updated_at").unwrap();
    members.remove("spend_records");
    let exemptions = members["exemptions"].as_array_mut().unwrap();
    exemptions.retain(|exemption| exemption["expires_at"].as_i64().unwrap() > now);
    budget
}

use super::super::ledger::Moment;
use super::super::rows::{Row, Rows};
use super::super::stored::Budget;
use super::*;
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use serde_json::json;

const T0: i64 = 1_777_507_200_000;
const DAY: i64 = 86_400_000;

fn usd(micros: i64) -> Usd {
    Usd::from_micros(micros)
}

fn budget(id: &str, parent: Option<&str>, ceiling: i64, period: &str) -> Budget {
    let row = json!({
        "id": id, "ceiling_usd": usd(ceiling), "period": period, "spent_usd": 0, "period_start_at": T0,
        "period_resets_at": T0 + DAY, "created_at": T0, "updated_at": T0, "parent_id": parent,
    });
    Budget::read(row).unwrap().unwrap()
}

/// A workspace, an agent, two sessions.
fn tree(ceilings: [i64; 4]) -> Rows {
    let parents = [("w", None), ("a", Some("w")), ("s", Some("a")), ("t", Some("a"))];
    let rows = parents.into_iter().zip(ceilings).map(|((id, parent), ceiling)| {
        let period = if id == "w" { "week" } else { "day" };
        (id.to_owned(), Row::of(Some(budget(id, parent, ceiling, period))))
    });
    Rows(rows.collect())
}

fn at(now_ms: i64) -> Moment<'static> {
    fn uuid() -> String {
        "u".to_owned()
    }
    Moment { now_ms, uuid: &uuid }
}

fn ask(rows: &mut Rows, id: &str, now_ms: i64, estimate: i64, reservation: Option<&str>) -> CheckResponse {
    let ask = Ask {
        estimate: usd(estimate),
        principal_id: None,
        reserve: reservation.map(|id| Reserve {
            reservation_id: id.to_owned(),
            ttl_ms: 1000,
        }),
    };
    check(&mut Chain::of(rows, id, at(now_ms)).unwrap(), &ask).unwrap()
}

fn spend(rows: &mut Rows, id: &str, now_ms: i64, cost: i64, reservation: Option<&str>, record_id: &str) {
    let spend = Spend {
        cost: usd(cost),
        reservation_id: reservation.map(str::to_owned),
        record: Some(record_id.to_owned()),
    };
    record(&mut Chain::of(rows, id, at(now_ms)).unwrap(), &spend).unwrap();
}

fn numbers(rows: &Rows, id: &str) -> (i64, i64) {
    let budget = rows.0[id].budget.as_ref().unwrap();
    (budget.spent_usd.micros(), budget.reserved(None).micros())
}

#[test]
fn every_level_must_agree_and_pays() {
    let mut rows = tree([10, 6, 8, 8]);
    let denied = ask(&mut rows, "s", T0, 7, Some("r"));
    assert_eq!(
        (
            denied.allowed,
            denied.reason.as_deref(),
            denied.exceeded_budget_id.as_deref()
        ),
        (false, Some("ceiling_exceeded"), Some("a"))
    );
    assert_eq!(denied.remaining_usd, usd(8));
    assert_eq!(["w", "a", "s", "t"].map(|id| numbers(&rows, id)), [(0, 0); 4]);
    assert!(ask(&mut rows, "s", T0, 5, Some("r")).allowed);
    assert_eq!(
        ["w", "a", "s", "t"].map(|id| numbers(&rows, id)),
        [(0, 5), (0, 5), (0, 5), (0, 0)]
    );
    assert!(!ask(&mut rows, "t", T0, 2, None).allowed);
    spend(&mut rows, "s", T0, 3, Some("r"), "1");
    spend(&mut rows, "s", T0, 3, Some("r"), "1");
    assert_eq!(
        ["w", "a", "s", "t"].map(|id| numbers(&rows, id)),
        [(3, 0), (3, 0), (3, 0), (0, 0)]
    );
    assert!(ask(&mut rows, "t", T0, 3, None).allowed);
}

#[test]
fn a_paused_budget_does_not_open_the_one_above_it() {
    let mut rows = tree([10, 6, 8, 8]);
    rows.0.get_mut("s").unwrap().budget.as_mut().unwrap().paused = true;
    let allowed = ask(&mut rows, "s", T0, 6, Some("r"));
    assert_eq!(
        (
            allowed.reason.as_deref(),
            allowed.reservation_id.as_deref(),
            allowed.reserved_usd
        ),
        (Some("paused"), Some("r"), Some(usd(0)))
    );
    assert_eq!(
        ["w", "a", "s"].map(|id| numbers(&rows, id)),
        [(0, 6), (0, 6), (0, 0)]
    );
    let denied = ask(&mut rows, "s", T0, 1, None);
    assert_eq!(denied.exceeded_budget_id.as_deref(), Some("a"));
}

#[test]
fn a_spend_that_some_levels_know_reaches_the_others() {
    let mut rows = tree([10, 6, 8, 8]);
    spend(&mut rows, "s", T0, 3, None, "1");
    // As after a crash between the rows of an engine without transactions.
    rows.0
        .insert("w".into(), Row::of(Some(budget("w", None, 10, "week"))));
    spend(&mut rows, "s", T0, 3, None, "1");
    assert_eq!(["w", "a", "s"].map(|id| numbers(&rows, id)), [(3, 0); 3]);
}

#[test]
fn a_spend_that_is_known_is_no_error_at_the_largest_amount() {
    let mut rows = tree([10, 6, 8, 8]);
    spend(&mut rows, "s", T0, Usd::MAX.micros(), None, "1");
    spend(&mut rows, "s", T0, Usd::MAX.micros(), None, "1");
    let more = Spend {
        cost: usd(1),
        reservation_id: None,
        record: Some("2".to_owned()),
    };
    let refused = record(&mut Chain::of(&mut rows, "t", at(T0)).unwrap(), &more).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cost_usd: more than 1000000000 US dollars in a period"
    );
    // Refused above, it is charged nowhere.
    assert_eq!(
        ["w", "s", "t"].map(|id| numbers(&rows, id).0),
        [Usd::MAX.micros(), Usd::MAX.micros(), 0]
    );
}

#[test]
fn a_chain_ends_where_its_parent_is_gone_and_has_no_circle() {
    let mut rows = tree([10, 6, 8, 8]);
    rows.0.insert("w".into(), Row::of(None));
    assert_eq!(rows.chain_ids("s").unwrap(), ["s", "a"]);
    rows.0
        .insert("w".into(), Row::of(Some(budget("w", Some("s"), 10, "week"))));
    assert_eq!(
        rows.chain_ids("s").unwrap_err().to_string(),
        "budget s has more than 7 budgets above it"
    );
}

#[derive(Debug, Clone)]
enum Step {
    /// Which leaf, how much.
    Reserve(bool, i64),
    /// Which open reservation, what part of it in percent, and whether it is told twice.
    Settle(prop::sample::Index, i64, bool),
    Wait(i64),
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (any::<bool>(), 0_i64..60).prop_map(|(leaf, amount)| Step::Reserve(leaf, amount)),
        4 => (any::<prop::sample::Index>(), 0_i64..=100, any::<bool>())
            .prop_map(|(which, part, twice)| Step::Settle(which, part, twice)),
        1 => prop_oneof![0..1200_i64, 0..3 * DAY].prop_map(Step::Wait),
    ]
}

proptest! {
    /// At every step, for every level: what was spent and what is set aside stay under the ceiling, as long as calls cost
    /// no more than was set aside for them and are settled in time.
    #[test]
    fn spent_and_reserved_stay_under_the_ceiling(
        steps in prop::collection::vec(a_step(), 0..60),
        ceilings in prop::array::uniform4(1_i64..150),
    ) {
        let mut rows = tree(ceilings);
        let mut now_ms = T0;
        let mut open: Vec<(String, &str, i64, i64)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Reserve(leaf, amount) => {
                    let leaf = if leaf { "s" } else { "t" };
                    let id = number.to_string();
                    if ask(&mut rows, leaf, now_ms, amount, Some(&id)).allowed {
                        open.push((id, leaf, amount, now_ms + 1000));
                    }
                }
                Step::Settle(which, part, twice) if !open.is_empty() => {
                    let (id, leaf, amount, _) = open.swap_remove(which.index(open.len()));
                    for _ in 0..=i32::from(twice) {
                        spend(&mut rows, leaf, now_ms, amount * part / 100, Some(&id), &id);
                    }
                }
                Step::Settle(..) => {}
                Step::Wait(ms) => now_ms += ms,
            }
            open.retain(|(_, _, _, until)| *until > now_ms);
            for id in ["w", "a", "s", "t"] {
                let (spent, reserved) = numbers(&rows, id);
                let ceiling = rows.0[id].budget.as_ref().unwrap().ceiling_usd.micros();
                prop_assert!(spent + reserved <= ceiling, "{}: {} + {} > {}", id, spent, reserved, ceiling);
            }
        }
    }
}

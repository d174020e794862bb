use super::*;
use pretty_assertions::assert_eq;
use proptest::prelude::*;

const DAY: i64 = periods::DAY_MS;
/// 2026-04-30, a Thursday.
const T0: i64 = 1_777_507_200_000;

fn uuid() -> String {
    "u".to_owned()
}

fn at(now_ms: i64) -> Moment<'static> {
    Moment { now_ms, uuid: &uuid }
}

fn budget(period: Period, now_ms: i64) -> Budget {
    let bounds = period.around(now_ms, &periods::zone(None).unwrap()).unwrap();
    let row = json!({
        "id": "b", "ceiling_usd": 10, "period": period, "spent_usd": 0, "period_start_at": bounds.start,
        "period_resets_at": bounds.end, "created_at": now_ms, "updated_at": now_ms,
    });
    Budget::read(row).unwrap().unwrap()
}

fn spent(mut budget: Budget, dollars: i64) -> Budget {
    budget.spent_usd = Usd::from_micros(dollars * 1_000_000);
    budget.spend_records = 1;
    budget
}

#[test]
fn a_missed_job_ends_one_period_and_skips_the_empty_ones() {
    let mut budget = spent(budget(Period::Day, T0), 4);
    budget.roll(at(T0 + 400 * DAY + 5)).unwrap();
    assert_eq!(
        (budget.period_start_at, budget.period_resets_at, budget.spent_usd),
        (T0 + 400 * DAY, T0 + 401 * DAY, Usd::ZERO)
    );
    let logs = &budget.ledger.unarchived;
    assert_eq!(
        (logs.len(), logs[0].period_start, logs[0].period_end),
        (1, T0, T0 + DAY)
    );
    // A clock that goes back changes nothing.
    let before = budget.clone();
    budget.roll(at(T0)).unwrap();
    assert_eq!(budget, before);
}

#[test]
fn a_period_that_others_set_is_left_at_its_end() {
    let mut budget = spent(budget(Period::Day, T0), 4);
    budget.period_resets_at = T0 + DAY + 7;
    budget.roll(at(T0 + DAY + 6)).unwrap();
    assert_eq!(budget.period_start_at, T0);
    budget.roll(at(T0 + DAY + 7)).unwrap();
    assert_eq!(
        (budget.period_start_at, budget.period_resets_at),
        (T0 + DAY + 7, T0 + 2 * DAY)
    );
}

#[test]
fn log_keys_are_told_apart() {
    let mut budget = spent(budget(Period::Day, T0), 1);
    budget.count_by(Period::Week, at(T0 + 1)).unwrap();
    budget = spent(budget, 2);
    budget.count_by(Period::Day, at(T0 + 1)).unwrap();
    budget = spent(budget, 4);
    budget.reset(at(T0 + 1)).unwrap();
    budget = spent(budget, 8);
    budget.roll(at(T0 + DAY)).unwrap();
    let monday = T0 - 3 * DAY;
    let keys: Vec<String> = budget.ledger.unarchived.iter().map(SpendLog::key).collect();
    assert_eq!(
        keys,
        [
            format!("spend_log:b:{T0}"),
            format!("spend_log:b:{monday}:change-{}-u", T0 + 1),
            format!("spend_log:b:{T0}:reset-{}-u", T0 + 1),
            format!("spend_log:b:{T0}:rollover-{}-u", T0 + DAY),
        ]
    );
}

#[test]
fn a_reservation_is_void_at_its_end() {
    let mut budget = budget(Period::Day, T0);
    let reservation = |id: &str, dollars: i64| Reservation {
        id: id.into(),
        amount_usd: Usd::from_micros(dollars * 1_000_000),
        expires_at: T0 + 10,
    };
    budget.reserve(reservation("a", 1), T0);
    budget.reserve(reservation("b", 2), T0);
    budget.reserve(reservation("a", 5), T0);
    assert_eq!(budget.reserved(None), Usd::from_micros(7_000_000));
    assert_eq!(budget.reserved(Some("a")), Usd::from_micros(2_000_000));
    budget.roll(at(T0 + 9)).unwrap();
    assert_eq!(budget.reservations.len(), 2);
    budget.roll(at(T0 + 10)).unwrap();
    assert_eq!(budget.reservations, []);
}

#[test]
fn an_alert_fires_at_its_share_to_the_micro_dollar() {
    let mut budget = budget(Period::Day, T0);
    budget.ceiling_usd = Usd::from_micros(3_000_000);
    budget.alerts.push(Alert {
        id: "a".into(),
        threshold_pct: 0.1,
        callback_function_id: "f".into(),
        callback_payload: None,
        last_fired_period_start: None,
    });
    budget.spent_usd = Usd::from_micros(299_999);
    budget.fire(at(T0));
    assert_eq!(budget.ledger.deliveries, []);
    // As dollars 0.3 / 3 is less than 0.1.
    budget.spent_usd = Usd::from_micros(300_000);
    budget.fire(at(T0));
    budget.fire(at(T0));
    assert_eq!(
        budget.ledger.deliveries,
        [Delivery {
            id: "u".into(),
            alert_id: "a".into(),
            function_id: "f".into(),
            payload: json!({"alert_id": "a", "budget_id": "b", "spent_usd": 0.3, "ceiling_usd": 3, "threshold_pct": 0.1}),
        }]
    );
}

#[derive(Debug, Clone)]
enum Step {
    Spend(i64),
    Wait(i64),
    Reset,
    CountBy(Period),
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_i64..1_000_000_000).prop_map(Step::Spend),
        3 => prop_oneof![0..DAY, 0..40 * DAY].prop_map(Step::Wait),
        1 => Just(Step::Reset),
        2 => prop_oneof![Just(Period::Day), Just(Period::Week), Just(Period::Month)].prop_map(Step::CountBy),
    ]
}

proptest! {
    /// Whatever happens, each micro-dollar is in the running period or in a log, and no two logs share a key.
    #[test]
    fn no_spend_is_lost(steps in prop::collection::vec(a_step(), 0..40)) {
        let counter = std::sync::atomic::AtomicU64::new(0);
        let uuid = move || counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
        let mut now_ms = T0;
        let mut budget = budget(Period::Day, now_ms);
        let (mut total, mut records) = (Usd::ZERO, 0);
        for step in steps {
            if let Step::Wait(ms) = step {
                now_ms += ms;
            }
            let at = Moment { now_ms, uuid: &uuid };
            budget.roll(at).unwrap();
            match step {
                Step::Spend(micros) => {
                    budget.spent_usd = budget.spent_usd + Usd::from_micros(micros);
                    budget.spend_records += 1;
                    total = total + Usd::from_micros(micros);
                    records += 1;
                }
                Step::Reset => {
                    budget.reset(at).unwrap();
                }
                Step::CountBy(period) if period != budget.period => budget.count_by(period, at).unwrap(),
                Step::CountBy(_) | Step::Wait(_) => {}
            }
            prop_assert!(budget.period_start_at <= now_ms && now_ms < budget.period_resets_at);
            let logs = &budget.ledger.unarchived;
            let sum: Usd = logs.iter().map(|log| log.spent_usd).sum();
            prop_assert_eq!(sum + budget.spent_usd, total);
            let counted: u64 = logs.iter().map(|log| log.spend_records).sum();
            prop_assert_eq!(counted + budget.spend_records, records);
            let keys: std::collections::HashSet<String> = logs.iter().map(SpendLog::key).collect();
            prop_assert_eq!(keys.len(), logs.len());
        }
    }
}

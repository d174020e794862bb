//! The row by itself: every reply is that of the engine's own update operations.

use pretty_assertions::assert_eq;

use super::*;
use crate::bus::embedded::ops::{Op, apply};

const NOW: i64 = 1_780_000_000_000;
const TTL: i64 = 30_000;

/// Performs operations on a row as `state::update` does.
pub(crate) fn update(row: &mut Option<Value>, ops: Value) -> Value {
    let ops: Vec<Op> = serde_json::from_value(ops).unwrap();
    let old = row.clone();
    let applied = apply(row.clone(), &ops);
    assert_eq!(applied.errors, Vec::<Value>::new());
    *row = Some(applied.value.clone());
    json!({ "old_value": old, "new_value": applied.value })
}

fn who(nonce: &str) -> Claimant {
    Claimant {
        nonce: nonce.into(),
        by: None,
    }
}

fn take(row: &mut Option<Value>, nonce: &str, first: u64, now: i64) -> Taken {
    let who = who(nonce);
    let mut taking = Taking::new(&who, first);
    loop {
        let reply = update(row, taking.ops(now));
        if let Some(taken) = taking
            .answered(&reply, |holder| holder.is_alive(now, TTL))
            .unwrap()
        {
            return taken;
        }
    }
}

fn holder(epoch: u64, nonce: &str, seen_ms: i64) -> Holder {
    Holder {
        epoch,
        nonce: nonce.into(),
        by: None,
        seen_ms,
        is_released: false,
    }
}

#[test]
fn c01_case_25_old_leases_are_taken_over_and_living_ones_are_not() {
    let mut row = None;
    assert_eq!(take(&mut row, "a", 1, NOW), Taken::Ours(1));
    let theirs = Taken::Theirs(holder(1, "a", NOW));
    assert_eq!(take(&mut row, "b", 1, NOW + TTL - 1), theirs);
    assert_eq!(take(&mut row, "c", 1, NOW + TTL), Taken::Ours(2));
    assert_eq!(
        take(&mut row, "b", 1, NOW + TTL),
        Taken::Theirs(holder(2, "c", NOW + TTL))
    );
}

#[test]
fn c01_case_25_a_release_that_comes_late_gives_away_nothing() {
    let mut row = None;
    take(&mut row, "a", 1, NOW);
    take(&mut row, "b", 2, NOW + TTL);
    update(&mut row, release(1));
    assert_eq!(
        take(&mut row, "c", 1, NOW + TTL),
        Taken::Theirs(holder(2, "b", NOW + TTL))
    );
    update(&mut row, release(2));
    assert_eq!(take(&mut row, "c", 3, NOW + TTL), Taken::Ours(3));
}

#[test]
fn a_renewal_keeps_it_and_finds_out_who_has_it_now() {
    let mut row = None;
    take(&mut row, "a", 1, NOW);
    let reply = update(&mut row, renewal(1, NOW + 20_000));
    assert_eq!(renewed(&who("a"), 1, &reply), Renewed::Ours);
    let theirs = holder(1, "a", NOW + 20_000);
    assert_eq!(take(&mut row, "b", 1, NOW + TTL), Taken::Theirs(theirs));
    assert_eq!(take(&mut row, "b", 1, NOW + 20_000 + TTL), Taken::Ours(2));
    let reply = update(&mut row, renewal(1, NOW + 60_000));
    let theirs = holder(2, "b", NOW + 20_000 + TTL);
    assert_eq!(renewed(&who("a"), 1, &reply), Renewed::Theirs(theirs));
    // An engine that has lost the row.
    let reply = update(&mut None, renewal(2, NOW));
    assert_eq!(renewed(&who("b"), 2, &reply), Renewed::Forgotten);
}

#[test]
fn a_claim_too_far_ahead_does_not_displace_a_living_holder() {
    let mut row = None;
    take(&mut row, "a", 1, NOW);
    let theirs = holder(1, "a", NOW);
    assert_eq!(take(&mut row, "b", 8, NOW), Taken::Theirs(theirs));
    let reply = update(&mut row, renewal(1, NOW + 10));
    assert_eq!(renewed(&who("a"), 1, &reply), Renewed::Ours);
    assert_eq!(take(&mut row, "c", 1, NOW + 10 + TTL), Taken::Ours(9));
}

#[test]
fn rows_of_the_protocol_before_count() {
    let mut row = Some(json!({ "nonce": "old", "ts": NOW }));
    let theirs = holder(0, "old", NOW);
    assert_eq!(take(&mut row, "a", 1, NOW + 1), Taken::Theirs(theirs));
    assert_eq!(take(&mut row, "a", 1, NOW + TTL), Taken::Ours(2));
    for given_back in [Some(Value::Null), None] {
        assert_eq!(take(&mut given_back.clone(), "a", 1, NOW), Taken::Ours(1));
    }
}

#[test]
fn a_row_stays_short() {
    let mut row = None;
    for epoch in 1..=1_000 {
        assert_eq!(
            take(&mut row, &format!("n{epoch}"), epoch, NOW),
            Taken::Ours(epoch)
        );
        take(&mut row, "loser", 1, NOW);
        update(&mut row, release(epoch));
    }
    let kept: Vec<String> = row.unwrap().as_object().unwrap().keys().cloned().collect();
    assert_eq!(kept, ["1000"]);
}

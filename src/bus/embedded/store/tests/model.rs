//! Any sequence of batches does what it does to a map.

use std::collections::{BTreeMap, HashMap};

use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;

/// A model of one collection: keys in order of first insertion.
type Model = HashMap<Place, Vec<(String, Value)>>;

#[derive(Debug, Clone)]
enum Step {
    Set(Address, Value),
    Increment(Address),
    Delete(Address),
}

fn any_step() -> impl Strategy<Value = Step> {
    let address = (0..2, 0..3, 0..4).prop_map(|(kind, place, key)| match kind {
        0 => Address::state(format!("p{place}"), format!("k{key}")),
        _ => Address::stream("s", format!("p{place}"), format!("k{key}")),
    });
    prop_oneof![
        3 => (address.clone(), 0..100).prop_map(|(at, n)| Step::Set(at, json!({"n": n}))),
        1 => address.clone().prop_map(Step::Increment),
        2 => address.prop_map(Step::Delete),
    ]
}

const MODEL_LIMIT: usize = 3;

fn step_on_model(model: &mut Model, step: &Step) -> Seen {
    let (Step::Set(address, _) | Step::Increment(address) | Step::Delete(address)) = step;
    let rows = model.entry(address.place.clone()).or_default();
    let place = rows.iter().position(|(key, _)| *key == address.key);
    let old = place.map(|place| rows[place].1.clone());
    let new = match step {
        Step::Set(_, value) => Some(value.clone()),
        Step::Increment(_) => {
            let n = old.as_ref().map_or(0, |old| old["n"].as_i64().unwrap());
            Some(json!({"n": n + 1}))
        }
        Step::Delete(_) => None,
    };
    match (place, &new) {
        (Some(place), Some(new)) => rows[place].1 = new.clone(),
        (Some(place), None) => drop(rows.remove(place)),
        (None, Some(new)) => rows.push((address.key.clone(), new.clone())),
        (None, None) => {}
    }
    if address.place.is_stream() && rows.len() > MODEL_LIMIT {
        rows.remove(0);
    }
    Seen {
        existed: old.is_some(),
        old,
        new,
        errors: 0,
    }
}

fn step_to_write(step: &Step) -> Write {
    match step.clone() {
        Step::Set(address, value) => set(address, value),
        Step::Increment(address) => update(address, &[json!({"type":"increment","path":"n","by":1})]),
        Step::Delete(address) => delete(address),
    }
}

fn check(store: &Store, model: &Model) {
    let mut scopes = Vec::new();
    let mut groups = BTreeMap::<String, Vec<String>>::new();
    for (place, rows) in model {
        let values: Vec<_> = rows.iter().map(|(_, value)| value.clone()).collect();
        assert_eq!(wait(store.list(place.clone())).unwrap(), values);
        for (key, value) in rows {
            let address = Address {
                place: place.clone(),
                key: key.clone(),
            };
            assert_eq!(value_at(store, address), Some(value.clone()));
        }
        match (rows.is_empty(), place.is_stream()) {
            (true, _) => {}
            (false, true) => groups
                .entry(place.name().to_owned())
                .or_default()
                .push(place.group().to_owned()),
            (false, false) => scopes.push(place.name().to_owned()),
        }
    }
    scopes.sort();
    for groups in groups.values_mut() {
        groups.sort();
    }
    assert_eq!(wait(store.state_scopes()).unwrap(), scopes);
    assert_eq!(
        wait(store.streams()).unwrap(),
        groups.into_iter().collect::<Vec<_>>()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_map(
        batches in prop::collection::vec((prop::collection::vec(any_step(), 1..6), any::<bool>(), 0..8), 1..20),
        on_disk in any::<bool>(),
    ) {
        let options = StoreOptions { stream_items_per_group: MODEL_LIMIT as u64, ..directory_options() };
        let directory = TempDir::new().unwrap();
        let open = || if on_disk { Store::open(directory.path(), &options) } else { Store::in_memory(&options) };
        let mut store = open().unwrap();
        let mut model = Model::new();
        for (steps, fails, chance) in batches {
            let mut writes: Vec<_> = steps.iter().map(step_to_write).collect();
            if fails && chance < 3 {
                // A batch that fails in the end leaves nothing.
                writes.push(update(
                    Address::state("p0", "k0"),
                    &[json!({"type":"set","path":"","value":too_deep()})],
                ));
                prop_assert!(wait(store.write(writes)).is_err());
            } else {
                let expected: Vec<_> = steps.iter().map(|step| step_on_model(&mut model, step)).collect();
                let written = wait(store.write(writes)).unwrap();
                prop_assert_eq!(written.iter().map(seen).collect::<Vec<_>>(), expected);
            }
            if on_disk && chance == 7 {
                drop(store);
                store = open().unwrap();
            }
        }
        check(&store, &model);
    }
}

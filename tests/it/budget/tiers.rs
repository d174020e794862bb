//! Prices by the length of the prompt (field lesson B9).

use pretty_assertions::assert_eq;
use serde_json::json;

use super::runs::{budget, costs, numbers, rig, start};
use crate::support::stub::{Door, Out};

#[tokio::test]
async fn a_long_prompt_is_set_aside_and_paid_at_the_price_of_its_tier() {
    for (above, aside, spent) in [(5, json!(2), json!(1)), (1_000_000, json!(1), json!(0.5))] {
        let door = Door::closed();
        let held = door.clone();
        // Seven tokens in, five hundred out.
        let answer = move |_, _: &_| [vec![Out::Wait(held.clone())], costs(500)].concat();
        let rig = rig(|_| {}, answer).await;
        let model = json!({"id": "m", "provider": "stub", "max_output_tokens": 1000, "pricing": {
            "input_per_1m": 0, "output_per_1m": 1000,
            "tiers": [{"above_tokens": above, "input_per_1m": 0, "output_per_1m": 2000}],
        }});
        rig.t.ok("models::register", model).await;
        let id = budget(&rig, 2.0).await;
        start(&rig, "s", &id).await;
        rig.stub.asked(&rig.t, 1).await;
        assert_eq!(numbers(&rig, &id).await, (json!(0), vec![aside]));
        door.open();
        rig.t.ended("s", 1).await;
        assert_eq!(numbers(&rig, &id).await, (spent, vec![]));
    }
}

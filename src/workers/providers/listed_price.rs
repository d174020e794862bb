//! Prices that a model listing names itself: routers tell US dollars per token, as text (contract 09 weakness 10). Pure.

use serde_json::{Map, Value};

/// Members of a listed price that a record has a place for.
const PLACES: [(&str, &str); 4] = [
    ("prompt", "input_per_1m"),
    ("completion", "output_per_1m"),
    ("input_cache_read", "cache_read_per_1m"),
    ("input_cache_write", "cache_write_per_1m"),
];

/// Services that no request of ours asks for.
const UNUSED: &[&str] = &["web_search"];

const TOKENS: f64 = 1e6;
/// Dollars per million tokens are rounded to this part of one.
const STEPS: f64 = 1e6;

/// Whether a listing names a price at all.
pub(super) fn is_named(entry: &Value) -> bool {
    entry.get("pricing").is_some_and(Value::is_object)
}

/// The member `pricing` of a record. None also for a price that a record cannot say as it is, such as a fee per request: a wrong
/// price is worse for a budget than none.
pub(super) fn of(entry: &Value) -> Option<Value> {
    let listed = entry.get("pricing")?.as_object()?;
    let mut pricing = Map::new();
    for (name, value) in listed {
        if UNUSED.contains(&name.as_str()) {
            continue;
        }
        let price = dollars(value)?;
        match PLACES.iter().find(|(listed, _)| listed == name) {
            Some((_, member)) => {
                let per_million = (price * TOKENS * STEPS).round() / STEPS;
                pricing.insert((*member).to_owned(), per_million.into());
            }
            None if price > 0.0 => return None,
            None => {}
        }
    }
    let is_whole = ["input_per_1m", "output_per_1m"]
        .iter()
        .all(|member| pricing.contains_key(*member));
    is_whole.then_some(Value::Object(pricing))
}

fn dollars(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    (0.0..1.0).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn entry(listed: &Value) -> Value {
        json!({ "id": "m", "pricing": listed })
    }

    #[test]
    fn a_router_tells_dollars_per_token() {
        let listed = json!({"prompt": "0.00000125", "completion": "0.00001", "input_cache_read": "0.000000125",
            "input_cache_write": 0.000_001_562_5, "request": "0", "web_search": "0.01"});
        let pricing = json!({"input_per_1m": 1.25, "output_per_1m": 10.0, "cache_read_per_1m": 0.125,
            "cache_write_per_1m": 1.5625});
        assert_eq!(of(&entry(&listed)), Some(pricing));
        let free = json!({"input_per_1m": 0.0, "output_per_1m": 0.0});
        assert_eq!(of(&entry(&json!({"prompt": "0", "completion": 0}))), Some(free));
    }

    #[test]
    fn b10_what_a_record_cannot_say_is_no_price() {
        for odd in [
            json!({}),
            json!({"prompt": "0.1"}),
            // It depends on what is routed to.
            json!({"prompt": "-1", "completion": "-1"}),
            json!({"prompt": "0.000001", "completion": "0.000002", "request": "0.01"}),
            json!({"prompt": "0.000001", "completion": "0.000002", "overrides": [{"prompt": "0.000002"}]}),
            json!({"prompt": "cheap", "completion": "0.000002"}),
            json!({"prompt": "NaN", "completion": "inf"}),
            // Another unit: nobody asks for a dollar per token.
            json!({"prompt": 2.5, "completion": 10}),
        ] {
            assert_eq!(of(&entry(&odd)), None, "{odd}");
            assert!(is_named(&entry(&odd)), "{odd}");
        }
        for none in [json!({"id": "m"}), entry(&Value::Null), entry(&json!("free"))] {
            assert_eq!((is_named(&none), of(&none)), (false, None), "{none}");
        }
    }
}

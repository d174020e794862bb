//! What a model record must look like to be registered (contract 09 A3, A5, weakness 12).

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::catalog;
use crate::model::text::MAX_ID_BYTES;

/// Which record a registration is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) provider: String,
    pub(super) id: String,
    /// The record is to be removed.
    pub(super) removed: bool,
}

impl Target {
    /// Its state key.
    pub(super) fn key(&self) -> String {
        catalog::key(&self.provider, &self.id)
    }
}

/// Checks a record.
pub(super) fn check(record: &Value) -> Result<Target> {
    let name = |member: &str| record.get(member)?.as_str().filter(|text| !text.is_empty());
    let (Some(object), Some(provider), Some(id)) = (record.as_object(), name("provider"), name("id")) else {
        return Err(Error::invalid(
            "invalid Model payload: provider and id are required",
        ));
    };
    for (member, text) in [("provider", provider), ("id", id)] {
        if text.len() > MAX_ID_BYTES {
            return Err(Error::invalid(format!(
                "invalid Model payload: {member} is longer than {MAX_ID_BYTES} bytes"
            )));
        }
    }
    let removed = object.get("removed") == Some(&Value::Bool(true));
    if !removed && let Some(complaint) = complaint(object) {
        return Err(Error::invalid(format!("invalid Model payload: {complaint}")));
    }
    Ok(Target {
        provider: provider.to_owned(),
        id: id.to_owned(),
        removed,
    })
}

/// The first member of a wrong type. Null counts as absent everywhere.
fn complaint(record: &Map<String, Value>) -> Option<String> {
    let wrong = |member: &str, fits: fn(&Value) -> bool, kind: &str| {
        let value = record.get(member)?;
        (!value.is_null() && !fits(value)).then(|| format!("{member} must be {kind}"))
    };
    for member in ["api", "display_name", "default_cache_retention"] {
        if let Some(complaint) = wrong(member, Value::is_string, "a string") {
            return Some(complaint);
        }
    }
    for member in ["context_window", "max_output_tokens"] {
        if let Some(complaint) = wrong(member, Value::is_number, "a number") {
            return Some(complaint);
        }
    }
    for member in [
        "supports_thinking",
        "supports_xhigh",
        "supports_tools",
        "supports_vision",
        "supports_cache",
    ] {
        if let Some(complaint) = wrong(member, Value::is_boolean, "true or false") {
            return Some(complaint);
        }
    }
    wrong("transports", is_texts, "an array of strings")
        .or_else(|| {
            let budgets = record.get("thinking_budgets")?;
            numbers(
                budgets,
                "thinking_budgets",
                &[],
                &["minimal", "low", "medium", "high"],
            )
        })
        .or_else(|| pricing(record.get("pricing")?))
}

fn is_texts(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|items| items.iter().all(Value::is_string))
}

/// Prices, and those of longer prompts.
fn pricing(pricing: &Value) -> Option<String> {
    const CACHED: &[&str] = &["cache_read_per_1m", "cache_write_per_1m"];
    let rates = &["input_per_1m", "output_per_1m"];
    if let Some(complaint) = numbers(pricing, "pricing", rates, CACHED) {
        return Some(complaint);
    }
    let tiers = pricing.get("tiers").filter(|tiers| !tiers.is_null())?;
    let Some(tiers) = tiers.as_array() else {
        return Some("pricing.tiers must be an array".to_owned());
    };
    tiers.iter().enumerate().find_map(|(n, tier)| {
        let name = format!("pricing.tiers[{n}]");
        if tier.is_null() {
            return Some(format!("{name} must be an object"));
        }
        numbers(
            tier,
            &name,
            &["above_tokens", "input_per_1m", "output_per_1m"],
            CACHED,
        )
    })
}

/// An object of numbers, or null.
fn numbers(value: &Value, name: &str, required: &[&str], optional: &[&str]) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let Some(object) = value.as_object() else {
        return Some(format!("{name} must be an object"));
    };
    let is_wrong = |member: &&&str, may_be_absent: bool| match object.get(**member) {
        Some(Value::Number(_)) => false,
        None | Some(Value::Null) => !may_be_absent,
        Some(_) => true,
    };
    required
        .iter()
        .find(|member| is_wrong(member, false))
        .or_else(|| optional.iter().find(|member| is_wrong(member, true)))
        .map(|member| format!("{name}.{member} must be a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn error(record: &Value) -> String {
        check(record).unwrap_err().to_string()
    }

    #[test]
    fn c09_case_16_22_good_records() {
        for (record, key) in [
            (
                json!({"id": "m1", "provider": "p1", "api": "x", "display_name": "M", "context_window": 1000,
                       "supports_tools": true, "custom": 1}),
                "models:p1:m1",
            ),
            (
                json!({"id": "qwen/qwen3:4b", "provider": "lmstudio", "pricing": {"input_per_1m": 0, "output_per_1m": 0.5,
                       "tiers": [{"above_tokens": 9, "input_per_1m": 1, "output_per_1m": 1, "cache_read_per_1m": null}]},
                       "transports": ["sse"], "thinking_budgets": {"low": 1024}, "supports_vision": null}),
                "models:lmstudio:qwen/qwen3:4b",
            ),
        ] {
            let target = check(&record).unwrap();
            assert_eq!((target.key().as_str(), target.removed), (key, false));
        }
        let removal = json!({"id": "m1", "provider": "p1", "removed": true, "context_window": "odd"});
        let expected = Target {
            provider: "p1".into(),
            id: "m1".into(),
            removed: true,
        };
        assert_eq!(check(&removal), Ok(expected));
    }

    #[test]
    fn c09_case_17_records_without_a_name() {
        for record in [
            json!({"provider": "p1"}),
            json!({"id": "m"}),
            json!({"provider": "", "id": "m"}),
            json!({"provider": "p", "id": 7}),
            json!({}),
            json!(null),
            json!("x"),
            json!([{"provider": "p", "id": "m"}]),
        ] {
            assert_eq!(
                error(&record),
                "invalid Model payload: provider and id are required"
            );
        }
    }

    #[test]
    fn a_member_of_a_wrong_type_is_named() {
        for (member, value, expected) in [
            ("context_window", json!("8192"), "context_window must be a number"),
            (
                "max_output_tokens",
                json!([]),
                "max_output_tokens must be a number",
            ),
            ("display_name", json!(1), "display_name must be a string"),
            (
                "supports_vision",
                json!("no"),
                "supports_vision must be true or false",
            ),
            (
                "transports",
                json!(["sse", 1]),
                "transports must be an array of strings",
            ),
            (
                "thinking_budgets",
                json!({"low": "1"}),
                "thinking_budgets.low must be a number",
            ),
            ("pricing", json!([1, 2]), "pricing must be an object"),
            (
                "pricing",
                json!({"input_per_1m": 1}),
                "pricing.output_per_1m must be a number",
            ),
            (
                "pricing",
                json!({"input_per_1m": 1, "output_per_1m": 1, "cache_read_per_1m": true}),
                "pricing.cache_read_per_1m must be a number",
            ),
            (
                "pricing",
                json!({"input_per_1m": 1, "output_per_1m": 1, "tiers": {}}),
                "pricing.tiers must be an array",
            ),
            (
                "pricing",
                json!({"input_per_1m": 1, "output_per_1m": 1, "tiers": [null]}),
                "pricing.tiers[0] must be an object",
            ),
            (
                "pricing",
                json!({"input_per_1m": 1, "output_per_1m": 1, "tiers": [
                    {"above_tokens": 9, "input_per_1m": 1, "output_per_1m": 1}, {"input_per_1m": 1, "output_per_1m": 1}]}),
                "pricing.tiers[1].above_tokens must be a number",
            ),
        ] {
            let mut record = json!({"id": "m", "provider": "p"});
            record[member] = value;
            assert_eq!(error(&record), format!("invalid Model payload: {expected}"));
        }
    }
}

//! The configuration entry `harness` as far as approvals and model discovery need it (contract 03 §5, 09 §B1, §B5).

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use serde_json::Value;

use super::settings::read_mode;
use crate::model::api::approval::Mode;

/// Id of the entry.
pub(super) const ID: &str = "harness";

/// Fingerprints of the providers that have an API key or URL of their own, by id; nothing when there is no entry. The
/// secrets themselves are not kept.
pub(super) type Providers = Option<BTreeMap<String, u64>>;

/// What the entry says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The default mode, when it names one of the three.
    pub(super) mode: Option<Mode>,
    pub(super) providers: Providers,
}

impl Entry {
    /// Reads the entry's value; null stands for no entry.
    pub(super) fn read(value: &Value, hasher: &impl BuildHasher) -> Self {
        let mode = value
            .pointer("/permissions/default_mode")
            .and_then(Value::as_str)
            .and_then(read_mode);
        let providers = (!value.is_null()).then(|| {
            let slices = value.get("providers").and_then(Value::as_object);
            slices
                .into_iter()
                .flatten()
                .filter_map(|(id, slice)| Some((id.clone(), fingerprint(slice, hasher)?)))
                .collect()
        });
        Self { mode, providers }
    }
}

/// Where and as whom a provider is asked for its models; nothing when the slice says neither.
fn fingerprint(slice: &Value, hasher: &impl BuildHasher) -> Option<u64> {
    let text = |name| slice.get(name).and_then(Value::as_str).unwrap_or_default();
    let place = (text("api_key"), text("api_url"));
    (place != ("", "")).then(|| hasher.hash_one(place))
}

/// Providers whose models must be asked for again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    /// Every one that lists models.
    All,
    /// These, sorted; perhaps none.
    Some(Vec<String>),
}

impl Changed {
    /// What changed between two looks. Told of a change without an entry before or after, nobody knows: all of them.
    pub(super) fn between(before: &Providers, after: &Providers) -> Self {
        let none = BTreeMap::new();
        let (before, after) = match (before, after) {
            (None, None) => return Self::All,
            (before, after) => (before.as_ref().unwrap_or(&none), after.as_ref().unwrap_or(&none)),
        };
        let mut ids: Vec<_> = before.keys().chain(after.keys()).collect();
        ids.sort();
        ids.dedup();
        ids.retain(|id| before.get(*id) != after.get(*id));
        Self::Some(ids.into_iter().cloned().collect())
    }

    /// Whether the provider is among them.
    pub(super) fn has(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(ids) => ids.iter().any(|changed| changed == id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;
    use std::hash::RandomState;

    #[test]
    fn only_the_three_modes_count() {
        let hasher = RandomState::new();
        for (value, mode) in [
            (json!({"permissions": {"default_mode": "full"}}), Some(Mode::Full)),
            (json!({"permissions": {"default_mode": "yolo"}}), None),
            (json!({"permissions": {"default_mode": 1}}), None),
            (json!({"permissions": []}), None),
            (json!(null), None),
            (json!("text"), None),
        ] {
            assert_eq!(Entry::read(&value, &hasher).mode, mode, "{value}");
        }
    }

    #[test]
    fn providers_differ_by_key_and_url_only() {
        let hasher = RandomState::new();
        let providers = |value| Entry::read(&json!({ "providers": value }), &hasher).providers;
        let before =
            providers(json!({"a": {"api_key": "1"}, "b": {"api_url": "u"}, "c": {"max_tokens": 1}, "d": 7}));
        for (after, changed) in [
            (
                json!({"a": {"api_key": "1", "max_tokens": 9}, "b": {"api_url": "u"}, "d": null}),
                vec![],
            ),
            (
                json!({"a": {"api_key": "2"}, "b": {"api_url": "u", "api_key": 5}}),
                vec!["a"],
            ),
            (
                json!({"c": {"api_key": "k"}, "b": {"api_key": "u"}}),
                vec!["a", "b", "c"],
            ),
            (json!([]), vec!["a", "b"]),
        ] {
            let changed = changed.into_iter().map(String::from).collect();
            assert_eq!(
                Changed::between(&before, &providers(after)),
                Changed::Some(changed)
            );
        }
        assert_eq!(Changed::between(&None, &None), Changed::All);
        assert_eq!(
            Changed::between(&before, &None),
            Changed::Some(vec!["a".into(), "b".into()])
        );
        let empty = Entry::read(&json!({}), &hasher).providers;
        assert_eq!(Changed::between(&None, &empty), Changed::Some(vec![]));
    }
}

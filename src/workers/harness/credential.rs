//! From a stored slice, a declaration and the environment to credential and settings (contract 09 B3). Pure.

use serde_json::{Map, Value};

use crate::model::api::provider::{Credential, Declaration, Resolved};

/// A variable of the environment; `None` when it is not set.
type Var<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What an operator stored for one provider. A member that is unusable counts as absent, so that it does not take the
/// others with it.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Slice {
    api_key: Option<String>,
    api_url: Option<String>,
    max_tokens: Option<f64>,
}

impl Slice {
    /// Reads a slice whose templates the configuration worker has expanded.
    pub(super) fn expanded(slice: &Map<String, Value>) -> Self {
        Self {
            api_key: slice.get("api_key").and_then(text),
            api_url: slice.get("api_url").filter(|url| url.is_string()).and_then(text),
            max_tokens: slice
                .get("max_tokens")
                .and_then(Value::as_f64)
                .filter(|tokens| usable(*tokens)),
        }
    }

    /// Reads a slice as it is stored and expands the templates here. A member with a variable that is not set and has no
    /// default counts as absent.
    pub(super) fn raw(slice: &Map<String, Value>, var: Var<'_>) -> Self {
        let expand = |member: &Value| match member {
            Value::String(template) => expand(template, var).map(Value::String),
            other => Some(other.clone()),
        };
        let slice: Map<String, Value> = slice
            .iter()
            .filter_map(|(name, member)| Some((name.clone(), expand(member)?)))
            .collect();
        let mut read = Self::expanded(&slice);
        // A template stays text here, where the configuration worker would have made it a number.
        read.max_tokens = read.max_tokens.or_else(|| {
            let text = slice.get("max_tokens")?.as_str()?.trim();
            text.parse().ok().filter(|tokens| usable(*tokens))
        });
        read
    }

    /// Joins what is stored with what was declared and what the environment offers.
    pub(super) fn resolve(self, declaration: Option<&Declaration>, var: Var<'_>) -> Resolved {
        let from_environment = || {
            let value = var(declaration?.credential_env_var.as_deref()?)?;
            Some(value.trim().to_owned()).filter(|key| !key.is_empty())
        };
        let (key, source) = match self.api_key {
            Some(key) => (Some(key), Some("stored")),
            None => match from_environment() {
                Some(key) => (Some(key), Some("environment")),
                None => (None, None),
            },
        };
        let defaults = declaration
            .and_then(|declaration| declaration.defaults.clone())
            .unwrap_or_default();
        Resolved {
            configured: key.is_some(),
            source: source.map(str::to_owned),
            credential: key.map(|key| Credential::ApiKey { key }),
            api_url: self.api_url.or(defaults.api_url),
            max_tokens: self.max_tokens.or(defaults.max_tokens),
            max_tokens_stored: self.max_tokens.is_some(),
        }
    }
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slice(redacted)")
    }
}

/// Whether the configuration worker made something else of the text of the key: one of digits becomes a number and loses its
/// leading zeros, `true` and `null` are no text either.
pub(super) fn key_was_retyped(slice: &Map<String, Value>) -> bool {
    slice.get("api_key").is_some_and(|key| !key.is_string())
}

fn usable(tokens: f64) -> bool {
    tokens > 0.0 && tokens.is_finite()
}

/// Trimmed text, not empty; a number is its decimal text.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

/// Replaces `${VAR}` and `${VAR:default}` as the configuration worker does; `None` when a variable is not set and has no
/// default. What has no name of a variable in it stays text.
fn expand(template: &str, var: Var<'_>) -> Option<String> {
    let mut expanded = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let Some((name, default, tail)) = placeholder(after) else {
            expanded.push_str("${");
            rest = after;
            continue;
        };
        match var(name) {
            Some(value) => expanded.push_str(&value),
            None => expanded.push_str(default?),
        }
        rest = tail;
    }
    expanded.push_str(rest);
    Some(expanded)
}

/// Name, default and what follows, of text behind `${`.
fn placeholder(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let (inner, tail) = text.split_once('}')?;
    let (name, default) = match inner.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((name, default, tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn foo() -> Declaration {
        serde_json::from_value(json!({"id": "foo", "credential_env_var": "FOO_KEY",
                                      "defaults": {"api_url": "http://foo/v1", "max_tokens": 1234}}))
        .unwrap()
    }

    fn var(name: &str) -> Option<String> {
        match name {
            "FOO_KEY" => Some(" from env\n".into()),
            "SET" => Some("007".into()),
            "BLANK" => Some("  ".into()),
            _ => None,
        }
    }

    fn unset(_: &str) -> Option<String> {
        None
    }

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other}"),
        }
    }

    fn wire(resolved: Resolved) -> Value {
        serde_json::to_value(resolved).unwrap()
    }

    #[test]
    fn c09_case_04_stored_values_win() {
        let stored =
            object(json!({"api_key": " sk-1 ", "api_url": " http://h/v1/messages\n", "max_tokens": 5000}));
        assert_eq!(
            wire(Slice::expanded(&stored).resolve(Some(&foo()), &var)),
            json!({"configured": true, "source": "stored", "credential": {"type": "api_key", "key": "sk-1"},
                   "api_url": "http://h/v1/messages", "max_tokens": 5000, "max_tokens_stored": true})
        );
    }

    #[test]
    fn c09_case_05_06_07_environment_and_defaults() {
        let from_env = json!({"configured": true, "source": "environment",
                              "credential": {"type": "api_key", "key": "from env"},
                              "api_url": "http://foo/v1", "max_tokens": 1234, "max_tokens_stored": false});
        for stored in [
            json!({}),
            json!({"api_key": "", "api_url": "", "max_tokens": 0}),
            json!({"api_key": "  ", "api_url": 5, "max_tokens": -1}),
            json!({"api_key": {}, "api_url": [], "max_tokens": "many"}),
        ] {
            assert_eq!(
                wire(Slice::expanded(&object(stored)).resolve(Some(&foo()), &var)),
                from_env
            );
        }
        assert_eq!(
            wire(Slice::default().resolve(Some(&foo()), &unset)),
            json!({"configured": false, "source": null, "credential": null, "api_url": "http://foo/v1",
                   "max_tokens": 1234, "max_tokens_stored": false})
        );
    }

    #[test]
    fn c09_case_08_an_undeclared_provider_has_what_is_stored() {
        assert_eq!(
            wire(Slice::default().resolve(None, &var)),
            json!({"configured": false, "source": null, "credential": null, "api_url": null, "max_tokens": null,
                   "max_tokens_stored": false})
        );
        let stored = Slice::expanded(&object(json!({"api_key": 42})));
        assert_eq!(
            wire(stored.resolve(None, &var))["credential"],
            json!({"type": "api_key", "key": "42"})
        );
    }

    #[test]
    fn c09_case_12_templates_are_expanded_member_by_member() {
        let raw = |value: Value| Slice::raw(&object(value), &var);
        assert!(raw(json!({"api_key": "${HKEY:fallback}"})).api_key == Some("fallback".into()));
        assert!(raw(json!({"api_key": "${SET}"})).api_key == Some("007".into()));
        assert!(raw(json!({"api_key": "a${SET}-${NONE:}b"})).api_key == Some("a007-b".into()));
        let partly = raw(
            json!({"api_key": "${NONE}", "api_url": "${NONE:http://h:1/x}", "max_tokens": "${NONE:4000}"}),
        );
        assert!(
            partly
                == Slice {
                    api_key: None,
                    api_url: Some("http://h:1/x".into()),
                    max_tokens: Some(4000.0)
                }
        );
        for odd in [
            "${",
            "$",
            "${NONE",
            "}{$",
            "${}",
            "${:x}",
            "${1A}",
            "a${no name}b",
            "${SÉT}",
            "${SET-}",
        ] {
            assert!(raw(json!({ "api_key": odd })).api_key == Some(odd.into()));
        }
        assert!(raw(json!({"api_key": "${no ${SET}}"})).api_key == Some("${no 007}".into()));
        assert!(raw(json!({"api_key": "${BLANK}"})).api_key.is_none());
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let slice = Slice::expanded(&object(json!({"api_key": "sk-secret"})));
        let shown = format!("{slice:?} {:?}", slice.clone().resolve(None, &unset));
        assert!(!shown.contains("sk-secret"), "{shown}");
    }
}

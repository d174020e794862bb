//! `${VAR:default}` in configuration values (contract 00 §7).

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::config::Env;
use crate::yaml;

static PLACEHOLDER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}").ok());

/// A value with its placeholders replaced, as far as possible.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expanded {
    /// The value; a string with an unset variable is left as it is.
    pub(super) value: Value,
    /// JSON pointers of the strings that were left, each with the variable that is missing.
    pub(super) missing: Vec<(String, String)>,
}

/// Replaces the placeholders of all strings. A string that is nothing but one placeholder takes the type that its text has
/// as a YAML scalar; an empty text stays an empty string. Member names are left alone.
pub(super) fn expand(value: &Value, env: &dyn Env) -> Expanded {
    let mut missing = Vec::new();
    let value = walk(value, env, &mut String::new(), &mut missing);
    Expanded { value, missing }
}

fn walk(value: &Value, env: &dyn Env, path: &mut String, missing: &mut Vec<(String, String)>) -> Value {
    match value {
        Value::String(text) => string(text, env).unwrap_or_else(|variable| {
            missing.push((path.clone(), variable));
            value.clone()
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| under(&index.to_string(), path, |path| walk(item, env, path, missing)))
            .collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| {
                let step = name.replace('~', "~0").replace('/', "~1");
                (
                    name.clone(),
                    under(&step, path, |path| walk(member, env, path, missing)),
                )
            })
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn under<T>(step: &str, path: &mut String, work: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    path.push('/');
    path.push_str(step);
    let done = work(path);
    path.truncate(length);
    done
}

/// A string with its placeholders replaced, or the first variable that is neither set nor has a default.
fn string(text: &str, env: &dyn Env) -> Result<Value, String> {
    let Some(placeholder) = PLACEHOLDER.as_ref() else {
        return Ok(Value::String(text.to_owned()));
    };
    let mut expanded = String::with_capacity(text.len());
    let mut rest_from = 0;
    let mut lone = false;
    for captures in placeholder.captures_iter(text) {
        let Some(whole) = captures.get(0) else { continue };
        lone = whole.as_str().len() == text.len();
        expanded.push_str(text.get(rest_from..whole.start()).unwrap_or_default());
        expanded.push_str(&resolve(&captures, env)?);
        rest_from = whole.end();
    }
    expanded.push_str(text.get(rest_from..).unwrap_or_default());
    Ok(if lone {
        scalar(expanded)
    } else {
        Value::String(expanded)
    })
}

fn resolve(captures: &Captures<'_>, env: &dyn Env) -> Result<String, String> {
    let name = captures.get(1).map_or("", |name| name.as_str());
    match (env.var(name), captures.get(2)) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.as_str().to_owned()),
        (None, None) => Err(name.to_owned()),
    }
}

fn scalar(text: String) -> Value {
    let word = text.trim();
    // YAML reads "#x" as nothing and "7 #x" as 7; a password may look like that.
    if word.is_empty() || word.contains(|c: char| c == '#' || c.is_whitespace()) {
        return Value::String(text);
    }
    match yaml::parse(word) {
        Ok(scalar @ (Value::Bool(_) | Value::Number(_))) => scalar,
        // `---` is an empty document, not a null.
        Ok(Value::Null) if matches!(word, "null" | "Null" | "NULL" | "~") => Value::Null,
        // Lists, maps, quoted text and what is no YAML at all stay what they were: text.
        Ok(_) | Err(_) => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MapEnv;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn env() -> MapEnv {
        MapEnv::from([
            ("PORT", "8080"),
            ("ON", "true"),
            ("NAME", "box"),
            ("TRICK", "${PORT}"),
            ("EMPTY", ""),
        ])
    }

    fn value(raw: &Value) -> Value {
        let expanded = expand(raw, &env());
        assert_eq!(expanded.missing, []);
        expanded.value
    }

    #[test]
    fn a_lone_placeholder_takes_the_type_of_its_text() {
        let raw = json!({"a": "${PORT}", "b": "${ON}", "c": "${NAME}", "d": "${X:1.5}", "e": "${X:}", "f": "${X:null}",
            "g": "${X:[1]}", "h": "${X: 7 }", "i": "${X:a:b}", "j": "${X:#p}", "k": "${X:7 #p}", "l": "${X:.inf}", "m": "${EMPTY:9}"});
        assert_eq!(
            value(&raw),
            json!({"a": 8080, "b": true, "c": "box", "d": 1.5, "e": "", "f": null, "g": "[1]", "h": 7, "i": "a:b",
                "j": "#p", "k": "7 #p", "l": ".inf", "m": 9})
        );
    }

    #[test]
    fn inside_a_text_it_stays_text() {
        let raw = json!([
            "http://${NAME}:${PORT}/",
            "${PORT}${PORT}",
            "plain",
            "$PORT ${} ${1}",
            3,
            "ü${NAME}é"
        ]);
        assert_eq!(
            value(&raw),
            json!([
                "http://box:8080/",
                "80808080",
                "plain",
                "$PORT ${} ${1}",
                3,
                "üboxé"
            ])
        );
    }

    #[test]
    fn a_value_is_not_expanded_twice_and_names_are_left_alone() {
        assert_eq!(
            value(&json!({"${PORT}": "${TRICK}"})),
            json!({"${PORT}": "${PORT}"})
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        let expanded = expand(&json!({"a/b": [1, "x${NOPE}${PORT}"], "p": "${PORT}"}), &env());
        assert_eq!(
            expanded,
            Expanded {
                value: json!({"a/b": [1, "x${NOPE}${PORT}"], "p": 8080}),
                missing: vec![("/a~1b/1".into(), "NOPE".into())],
            }
        );
    }
}

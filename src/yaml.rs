//! The one door to the YAML crate: text in, JSON value or an error with its line out.

use serde_json::{Map, Number, Value};
use serde_yaml::Value as Yaml;
use thiserror::Error as ThisError;

/// Why a text is not usable YAML.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("{}{message}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct YamlError {
    /// Line, counted from 1, where known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl YamlError {
    fn without_line(message: impl Into<String>) -> Self {
        Self {
            line: None,
            message: message.into(),
        }
    }
}

/// Reads one YAML document. An empty one is `null`. Anchors are resolved; keys that are numbers or truth values become
/// text; duplicate keys, tags and numbers that JSON cannot hold are errors.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed: Yaml = serde_yaml::from_str(text).map_err(|error| YamlError {
        line: error.location().map(|place| place.line()),
        message: without_place(&error),
    })?;
    into_json(parsed)
}

/// The crate appends ` at line 3 column 4`; the line is a field of its own here.
fn without_place(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => text,
    }
}

fn into_json(yaml: Yaml) -> Result<Value, YamlError> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => Value::Bool(flag),
        Yaml::Number(number) => Value::Number(into_number(&number)?),
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(into_json).collect::<Result<_, _>>()?),
        Yaml::Mapping(entries) => Value::Object(into_object(entries)?),
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            return Err(YamlError::without_line(format!(
                "`{tag}` is a tag here; quote texts that begin with `!`"
            )));
        }
    })
}

fn into_number(number: &serde_yaml::Number) -> Result<Number, YamlError> {
    if let Some(whole) = number.as_u64() {
        return Ok(whole.into());
    }
    if let Some(whole) = number.as_i64() {
        return Ok(whole.into());
    }
    number
        .as_f64()
        .and_then(Number::from_f64)
        .ok_or_else(|| YamlError::without_line(format!("the number {number} cannot be used")))
}

fn into_object(entries: serde_yaml::Mapping) -> Result<Map<String, Value>, YamlError> {
    let mut object = Map::with_capacity(entries.len());
    for (key, value) in entries {
        let name = match into_json(key)? {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(YamlError::without_line("a key must be a text"));
            }
        };
        if object.insert(name.clone(), into_json(value)?).is_some() {
            return Err(YamlError::without_line(format!("duplicate key `{name}`")));
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_json() {
        let text = "\u{feff}a: 1\nb: [x, true, null, 1.5, -2]\n7: {c: '!d'}\n";
        assert_eq!(
            parse(text),
            Ok(json!({"a": 1, "b": ["x", true, null, 1.5, -2], "7": {"c": "!d"}}))
        );
        assert_eq!(parse(""), Ok(Value::Null));
        assert_eq!(parse("# only a comment\n"), Ok(Value::Null));
    }

    #[test]
    fn errors_have_a_line() {
        let error = parse("a: 1\nb: [1\nc: 2\n").unwrap_err();
        assert!(error.line.is_some(), "{error:?}");
        assert!(error.to_string().starts_with("line "), "{error}");
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        assert!(parse("a: .nan").is_err());
        assert!(parse("a: 1\na: 2").is_err());
        assert!(parse("1: a\n'1': b").is_err());
        assert!(
            parse("- !state::set")
                .unwrap_err()
                .message
                .contains("quote texts")
        );
        assert!(parse("a: 1\n---\nb: 2").is_err());
    }
}

//! The one door to the YAML crate: text in, JSON value or an error with its line out.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
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

/// Reads one YAML document. An empty one is `null`. Anchors are resolved; keys that are numbers or truth values become
/// text; duplicate keys, tags and numbers that JSON cannot hold are errors.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    let text = without_mark(text);
    let parsed: Yaml = serde_yaml::from_str(text).map_err(|error| YamlError {
        line: error.location().map(|place| place.line()),
        message: without_place(&error),
    })?;
    into_json(parsed).map_err(|wrong| wrong.located_in(text))
}

fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// One step down into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list, counted from 0.
    Item(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(place: usize) -> Self {
        Self::Item(place)
    }
}

/// The line, counted from 1, on which the value at the end of the path begins. A path that leaves the document leads to the
/// last value on it.
///
/// The crate tells places with errors only, so the walk ends in one. It reads the document again: for findings, which are
/// few.
pub fn line_of(text: &str, path: &[Step]) -> Option<usize> {
    let document = serde_yaml::Deserializer::from_str(without_mark(text));
    let arrived = Walk(path).deserialize(document).err()?;
    arrived.location().map(|place| place.line())
}

/// What is left of a path.
struct Walk<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

/// Values that are neither list nor mapping are "wrong" by default, and that error has their place.
impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of the path")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if let Some((Step::Item(place), rest)) = self.0.split_first() {
            let mut at = 0;
            while at < *place && items.next_element::<IgnoredAny>()?.is_some() {
                at += 1;
            }
            items.next_element_seed(Walk(rest))?;
        }
        Err(A::Error::custom("arrived"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        if let Some((Step::Key(wanted), rest)) = self.0.split_first() {
            while let Some(key) = entries.next_key::<Yaml>()? {
                if into_json(key)
                    .and_then(into_name)
                    .is_ok_and(|name| name == *wanted)
                {
                    entries.next_value_seed(Walk(rest))?;
                }
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Err(A::Error::custom("arrived"))
    }
}

/// The crate appends ` at line 3 column 4`; the line is a field of its own here.
fn without_place(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => text,
    }
}

/// A value that JSON does not have.
enum Wrong {
    Tag(String),
    Number(String),
    Key,
    Duplicate(String),
}

impl Wrong {
    /// The parsed tree has no places any more; a tag is looked up in the text, outside quotes.
    fn located_in(self, text: &str) -> YamlError {
        let line = match &self {
            Self::Tag(tag) => text
                .lines()
                .position(|line| has_bare(line, tag))
                .map(|index| index + 1),
            Self::Number(_) | Self::Key | Self::Duplicate(_) => None,
        };
        let message = match self {
            Self::Tag(tag) => format!("`{tag}` is a tag here; quote texts that begin with `!`"),
            Self::Number(number) => format!("the number {number} cannot be used"),
            Self::Key => "a key must be a text".to_owned(),
            Self::Duplicate(name) => format!("duplicate key `{name}`"),
        };
        YamlError { line, message }
    }
}

fn has_bare(line: &str, tag: &str) -> bool {
    line.match_indices(tag).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|c| c.is_whitespace() || matches!(c, '[' | '{' | ','))
    })
}

fn into_json(yaml: Yaml) -> Result<Value, Wrong> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => Value::Bool(flag),
        Yaml::Number(number) => Value::Number(into_number(&number)?),
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(into_json).collect::<Result<_, _>>()?),
        Yaml::Mapping(entries) => Value::Object(into_object(entries)?),
        Yaml::Tagged(tagged) => return Err(Wrong::Tag(tagged.tag.to_string())),
    })
}

fn into_number(number: &serde_yaml::Number) -> Result<Number, Wrong> {
    if let Some(whole) = number.as_u64() {
        return Ok(whole.into());
    }
    if let Some(whole) = number.as_i64() {
        return Ok(whole.into());
    }
    number
        .as_f64()
        .and_then(Number::from_f64)
        .ok_or_else(|| Wrong::Number(number.to_string()))
}

fn into_object(entries: serde_yaml::Mapping) -> Result<Map<String, Value>, Wrong> {
    let mut object = Map::with_capacity(entries.len());
    for (key, value) in entries {
        let name = into_name(into_json(key)?)?;
        if object.insert(name.clone(), into_json(value)?).is_some() {
            return Err(Wrong::Duplicate(name));
        }
    }
    Ok(object)
}

fn into_name(key: Value) -> Result<String, Wrong> {
    match key {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(Wrong::Key),
    }
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
    fn values_are_found_by_their_path() {
        let text = "\u{feff}# first\na: 1\nb:\n  - x\n  - {c: 2,\n     d: [3,\n 4]}\n7:\n  true:\n    - e\n";
        for (path, line) in [
            (&[][..], 2),
            (&["a".into()], 2),
            (&["b".into()], 4),
            (&["b".into(), 1.into()], 5),
            (&["b".into(), 1.into(), "c".into()], 5),
            (&["b".into(), 1.into(), "d".into()], 6),
            (&["b".into(), 1.into(), "d".into(), 1.into()], 7),
            (&["7".into(), "true".into(), 0.into()], 10),
            // Off the document: the last value on the way.
            (&["b".into(), 1.into(), "none".into(), "c".into()], 5),
            (&["b".into(), 9.into()], 4),
            (&["a".into(), "b".into()], 2),
        ] {
            assert_eq!(line_of(text, path), Some(line), "{path:?}");
        }
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

//! The update operations of `state::update` and `stream::update` (contract 00 §4.1), as a pure function.
//!
//! Operations are decoded once ([`parse`], a malformed one refuses the whole request) and then applied in order
//! ([`apply`]). An operation that cannot be applied is skipped and reported; the others still apply.

use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

const MAX_PATH_DEPTH: usize = 32;
const MAX_SEGMENT_BYTES: usize = 256;
const MAX_MERGE_DEPTH: usize = 16;
const MAX_MERGE_KEYS: usize = 1024;
const FORBIDDEN_KEYS: [&str; 3] = ["__proto__", "constructor", "prototype"];
const DOC_URL: &str = "https://iii.dev/docs/workers/iii-state#error-codes";

/// One update operation. Dots in a path separate nothing: `"a.b"` is one key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Op {
    /// Overwrites one first-level key; path `""` is the whole value.
    Set {
        /// The key.
        path: String,
        /// New value; absent means null.
        #[serde(default)]
        value: Value,
    },
    /// Shallow merge of an object, at the root or at a nested path that is created on the way.
    Merge {
        /// Where; absent is the root.
        #[serde(default)]
        path: Option<Path>,
        /// What; must be an object.
        value: Value,
    },
    /// Adds to a number; a missing field starts at 0.
    Increment {
        /// The key.
        path: String,
        /// How much.
        by: i64,
    },
    /// Subtracts from a number; a missing field starts at 0.
    Decrement {
        /// The key.
        path: String,
        /// How much.
        by: i64,
    },
    /// Pushes to an array, or concatenates strings.
    Append {
        /// Where; absent is the root.
        #[serde(default)]
        path: Option<Path>,
        /// What; `null` is a value like any other.
        value: Value,
    },
    /// Deletes a key; path `""` sets the whole value to null.
    Remove {
        /// The key.
        path: String,
    },
}

/// A path of `merge` and `append`: one key, or literal nested segments. `""` and `[]` are the root.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Path {
    /// One key.
    Key(String),
    /// Nested segments.
    Segments(Vec<String>),
}

/// What [`apply`] made.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The value to store.
    pub value: Value,
    /// One entry per skipped operation: `{op_index, code, message, doc_url}`.
    pub errors: Vec<Value>,
}

/// Why an operation was skipped: the code without its operation, and a text.
struct Refusal {
    code: String,
    message: String,
}

type Outcome = Result<(), Refusal>;

/// Decodes operations from the wire; the error text names the first one that does not fit.
pub fn parse(ops: &[Value]) -> Result<Vec<Op>, String> {
    ops.iter()
        .enumerate()
        .map(|(index, op)| Op::deserialize(op).map_err(|error| format!("ops[{index}]: {error}")))
        .collect()
}

/// Applies the operations in order to the current value; absent counts as `{}`.
pub fn apply(current: Option<Value>, ops: &[Op]) -> Applied {
    let mut value = current.unwrap_or_else(|| Value::Object(Map::new()));
    let mut errors = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        if let Err(refusal) = apply_one(&mut value, op) {
            errors.push(json!({
                "op_index": index,
                "code": refusal.code,
                "message": refusal.message,
                "doc_url": DOC_URL,
            }));
        }
    }
    Applied { value, errors }
}

fn apply_one(root: &mut Value, op: &Op) -> Outcome {
    match op {
        Op::Set { path, value } => set(root, path, value),
        Op::Merge { path, value } => merge(root, path.as_ref(), value),
        Op::Increment { path, by } => add(root, path, i128::from(*by), "increment"),
        Op::Decrement { path, by } => add(root, path, -i128::from(*by), "decrement"),
        Op::Append { path, value } => append(root, path.as_ref(), value),
        Op::Remove { path } => remove(root, path),
    }
}

fn set(root: &mut Value, path: &str, value: &Value) -> Outcome {
    if path.is_empty() {
        *root = value.clone();
        return Ok(());
    }
    check_segment("set", path)?;
    fields(root, "set")?.insert(path.to_owned(), value.clone());
    Ok(())
}

fn remove(root: &mut Value, path: &str) -> Outcome {
    if path.is_empty() {
        *root = Value::Null;
        return Ok(());
    }
    check_segment("remove", path)?;
    // Not `remove`: it would move the last key into the gap.
    fields(root, "remove")?.shift_remove(path);
    Ok(())
}

fn add(root: &mut Value, path: &str, by: i128, op: &str) -> Outcome {
    check_segment(op, path)?;
    let fields = fields(root, op)?;
    let sum = match fields.get(path) {
        None => i64::try_from(by).ok().map(Number::from),
        Some(Value::Number(number)) => sum(number, by),
        Some(_) => None,
    };
    let Some(sum) = sum else {
        return Err(refuse(
            op,
            "not_number",
            format!("the value at '{path}' is not a number, or would overflow"),
        ));
    };
    fields.insert(path.to_owned(), Value::Number(sum));
    Ok(())
}

/// Keeps the kind of number; `None` on overflow.
fn sum(number: &Number, by: i128) -> Option<Number> {
    if let Some(signed) = number.as_i64() {
        return i64::try_from(i128::from(signed) + by).ok().map(Number::from);
    }
    if let Some(unsigned) = number.as_u64() {
        return u64::try_from(i128::from(unsigned) + by).ok().map(Number::from);
    }
    #[expect(clippy::cast_precision_loss, reason = "the target is a float already")]
    number
        .as_f64()
        .and_then(|float| Number::from_f64(float + by as f64))
}

fn merge(root: &mut Value, path: Option<&Path>, value: &Value) -> Outcome {
    let segments = segments("merge", path)?;
    let Value::Object(additions) = value else {
        return Err(refuse(
            "merge",
            "value.not_an_object",
            "the value to merge must be an object".to_owned(),
        ));
    };
    check_merge_value(additions)?;
    if segments.is_empty() {
        // Into anything but an object: silently ignored (contract 00 §4.1).
        if let Value::Object(fields) = root {
            extend(fields, additions);
        }
        return Ok(());
    }
    let mut target = as_object(root);
    for segment in segments {
        target = as_object(target.entry(segment.to_owned()).or_insert(Value::Null));
    }
    extend(target, additions);
    Ok(())
}

fn extend(fields: &mut Map<String, Value>, additions: &Map<String, Value>) {
    for (key, value) in additions {
        fields.insert(key.clone(), value.clone());
    }
}

/// The object in this place, which replaces anything else.
fn as_object(place: &mut Value) -> &mut Map<String, Value> {
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    match place {
        Value::Object(fields) => fields,
        _ => unreachable!("made an object above"),
    }
}

fn check_merge_value(additions: &Map<String, Value>) -> Outcome {
    if additions.len() > MAX_MERGE_KEYS {
        let text = format!(
            "the value has {} keys, at most {MAX_MERGE_KEYS} are allowed",
            additions.len()
        );
        return Err(refuse("merge", "value.too_many_keys", text));
    }
    for (key, value) in additions {
        check_merge_key(key)?;
        check_nested(value, 2)?;
    }
    Ok(())
}

/// `depth` counts the objects and arrays down to this value, itself included.
fn check_nested(value: &Value, depth: usize) -> Outcome {
    if !matches!(value, Value::Object(_) | Value::Array(_)) {
        return Ok(());
    }
    if depth > MAX_MERGE_DEPTH {
        let text = format!("the value is nested deeper than {MAX_MERGE_DEPTH} levels");
        return Err(refuse("merge", "value.too_deep", text));
    }
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            check_merge_key(key)?;
            check_nested(value, depth + 1)
        }),
        Value::Array(items) => items.iter().try_for_each(|item| check_nested(item, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn check_merge_key(key: &str) -> Outcome {
    if FORBIDDEN_KEYS.contains(&key) {
        return Err(refuse(
            "merge",
            "value.proto_polluted",
            format!("the key '{key}' is not allowed"),
        ));
    }
    Ok(())
}

fn append(root: &mut Value, path: Option<&Path>, value: &Value) -> Outcome {
    let segments = segments("append", path)?;
    let Some((leaf, parents)) = segments.split_last() else {
        return push(root, value, true);
    };
    let mut target = fields(root, "append")?;
    for parent in parents {
        let place = target.entry((*parent).to_owned()).or_insert(Value::Null);
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        target = fields(place, "append")?;
    }
    if let Some(place) = target.get_mut(*leaf) {
        return push(place, value, parents.is_empty());
    }
    let mut place = Value::Null;
    push(&mut place, value, parents.is_empty())?;
    target.insert((*leaf).to_owned(), place);
    Ok(())
}

/// A string that meets nothing stays a string only where `keep_string` says so; elsewhere it opens an array.
fn push(place: &mut Value, value: &Value, keep_string: bool) -> Outcome {
    match (&mut *place, value) {
        (Value::Array(items), _) => items.push(value.clone()),
        (Value::String(text), Value::String(more)) => text.push_str(more),
        (Value::Null, Value::String(_)) if keep_string => *place = value.clone(),
        (Value::Null, _) => *place = Value::Array(vec![value.clone()]),
        (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_), _) => {
            let text = format!("cannot append {} to {}", kind(value), kind(place));
            return Err(refuse("append", "type_mismatch", text));
        }
    }
    Ok(())
}

/// The segments of a path, checked; empty is the root.
fn segments<'a>(op: &str, path: Option<&'a Path>) -> Result<Vec<&'a str>, Refusal> {
    let segments = match path {
        None => Vec::new(),
        Some(Path::Key(key)) if key.is_empty() => Vec::new(),
        Some(Path::Key(key)) => vec![key.as_str()],
        Some(Path::Segments(segments)) => segments.iter().map(String::as_str).collect(),
    };
    if segments.len() > MAX_PATH_DEPTH {
        let text = format!(
            "the path has {} segments, at most {MAX_PATH_DEPTH} are allowed",
            segments.len()
        );
        return Err(refuse(op, "path.too_deep", text));
    }
    segments
        .iter()
        .try_for_each(|segment| check_segment(op, segment))?;
    Ok(segments)
}

fn check_segment(op: &str, segment: &str) -> Outcome {
    if segment.is_empty() {
        return Err(refuse(
            op,
            "path.empty_segment",
            "a path segment must not be empty".to_owned(),
        ));
    }
    if segment.len() > MAX_SEGMENT_BYTES {
        let text = format!(
            "a path segment has {} bytes, at most {MAX_SEGMENT_BYTES} are allowed",
            segment.len()
        );
        return Err(refuse(op, "path.segment_too_long", text));
    }
    if FORBIDDEN_KEYS.contains(&segment) {
        return Err(refuse(
            op,
            "path.proto_polluted",
            format!("the path segment '{segment}' is not allowed"),
        ));
    }
    Ok(())
}

fn fields<'a>(place: &'a mut Value, op: &str) -> Result<&'a mut Map<String, Value>, Refusal> {
    match place {
        Value::Object(fields) => Ok(fields),
        other => Err(refuse(
            op,
            "target_not_object",
            format!("the target is {}, not an object", kind(other)),
        )),
    }
}

fn refuse(op: &str, code: &str, message: String) -> Refusal {
    Refusal {
        code: format!("{op}.{code}"),
        message,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;

//! Payloads made from a published schema: one that fits it, and everything that is wrong with a good one.

use harness::bus::FunctionInfo;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// What an attack is, and so what may come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Wrong beyond repair: refused, nothing written.
    Refused,
    /// No object at all.
    NoObject,
    /// An object without members, for a function that needs none.
    Empty,
    /// Wrong in a place that may be empty: refused, or read as if it were.
    Optional,
    /// An id that cannot be one: refused, or answered as unknown with nothing written.
    Id,
    /// A long text that may be one.
    Text,
}

/// One bad payload.
pub(super) struct Attack {
    pub(super) kind: Kind,
    pub(super) what: String,
    pub(super) payload: Value,
}

const MIB: usize = 1024 * 1024;

/// A long text inside a member.
const LONG: usize = 64 * 1024;

/// A value that fits a schema, with all members there may be.
pub(super) fn sample(schema: &Value) -> Value {
    value(schema, schema, 0)
}

fn value(root: &Value, schema: &Value, depth: usize) -> Value {
    if depth > 20 {
        return Value::Null;
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let pointer = target.trim_start_matches('#');
        return value(root, root.pointer(pointer).unwrap(), depth + 1);
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values[0].clone();
    }
    for choice in ["allOf", "anyOf", "oneOf"] {
        let choices = schema.get(choice).and_then(Value::as_array);
        if let Some(first) = choices.and_then(|choices| choices.iter().find(|one| one["type"] != "null")) {
            let mut chosen = value(root, first, depth + 1);
            if let (Some(object), true) = (chosen.as_object_mut(), schema.get("properties").is_some()) {
                object.extend(members(root, schema, depth));
            }
            return chosen;
        }
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds[0].as_str(),
        Some(kind) => kind.as_str(),
        None => None,
    };
    match kind {
        Some("string") => json!("x1"),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("array") => match schema.get("items") {
            Some(items) => json!([value(root, items, depth + 1)]),
            None => json!([]),
        },
        Some("object") => Value::Object(members(root, schema, depth)),
        _ => json!({}),
    }
}

fn members(root: &Value, schema: &Value, depth: usize) -> Map<String, Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| (name.clone(), value(root, schema, depth + 1)))
        .collect()
}

/// One value of each JSON type.
pub(super) fn one_of_each() -> [Value; 7] {
    [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5),
        json!("odd"),
        json!(["odd"]),
        json!({ "odd": 1 }),
    ]
}

/// Everything that is wrong with a payload.
pub(super) fn attacks(function: &FunctionInfo, good: &Value) -> Vec<Attack> {
    let schema = function.request_schema.clone().unwrap_or_default();
    let required = schema.get("required").and_then(Value::as_array);
    let required = required
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned));
    let mut list = List {
        good,
        validator: jsonschema::validator_for(&schema).unwrap(),
        required: required.collect(),
        attacks: Vec::new(),
    };
    list.whole();
    if good.is_object() {
        list.members();
        for path in paths(good) {
            list.value(&path);
        }
        list.sizes();
    }
    list.attacks
}

struct List<'a> {
    good: &'a Value,
    validator: Validator,
    required: Vec<String>,
    attacks: Vec<Attack>,
}

impl List<'_> {
    fn add(&mut self, kind: Kind, what: impl Into<String>, payload: Value) {
        let what = what.into();
        self.attacks.push(Attack { kind, what, payload });
    }

    /// Instead of the whole payload.
    fn whole(&mut self) {
        let needs_something = !self.required.is_empty();
        let or_refused = |kind| if needs_something { Kind::Refused } else { kind };
        // Null counts as an object without members.
        for payload in [Value::Null, json!({})] {
            self.add(or_refused(Kind::Empty), payload.to_string(), payload);
        }
        for payload in [
            json!(true),
            json!(5),
            json!("text"),
            json!([]),
            json!([self.good]),
        ] {
            let what: String = payload.to_string().chars().take(20).collect();
            self.add(or_refused(Kind::NoObject), what, payload);
        }
    }

    /// Members that are missing, or of a type that the schema does not have.
    fn members(&mut self) {
        for name in self.good.as_object().unwrap().keys() {
            let kind = if self.required.contains(name) {
                let mut payload = self.good.clone();
                payload.as_object_mut().unwrap().remove(name);
                self.add(Kind::Refused, format!("no {name}"), payload);
                Kind::Refused
            } else {
                Kind::Optional
            };
            for wrong in one_of_each() {
                let what = format!("{name} = {wrong}");
                let payload = with(self.good, std::slice::from_ref(name), wrong);
                if !self.validator.is_valid(&payload) {
                    self.add(kind, what, payload);
                }
            }
        }
    }

    /// One value, at any depth, replaced by others.
    fn value(&mut self, path: &[String]) {
        let shown = path.join(".");
        let is_nested = path.len() > 1;
        if is_nested {
            for wrong in one_of_each() {
                self.add(
                    Kind::Optional,
                    format!("{shown} = {wrong}"),
                    with(self.good, path, wrong),
                );
            }
        }
        let length = if is_nested { LONG } else { MIB };
        let long = with(self.good, path, json!("x".repeat(length)));
        let kind = match (self.validator.is_valid(&long), is_id(path)) {
            (true, true) => Kind::Id,
            (true, false) => Kind::Text,
            (false, _) if !is_nested && self.required.contains(&path[0]) => Kind::Refused,
            (false, _) => Kind::Optional,
        };
        self.add(kind, format!("{shown} of {length} bytes"), long);
        let deep = with(self.good, path, nested(json!("x")));
        self.add(Kind::Refused, format!("{shown} of 200 levels"), deep);
    }

    /// What is too deep or too large as a whole, though nobody would read it.
    fn sizes(&mut self) {
        let unknown = ["unknown".to_owned()];
        let deep = with(self.good, &unknown, nested(self.good.clone()));
        self.add(Kind::Refused, "an unknown member of 200 levels", deep);
        let large = with(self.good, &unknown, json!("x".repeat(16 * MIB)));
        self.add(Kind::Refused, "an unknown member of 16 MiB", large);
    }
}

fn nested(mut value: Value) -> Value {
    for _ in 0..200 {
        value = json!([value]);
    }
    value
}

/// Whether a member is an id, or a name that is used like one.
fn is_id(path: &[String]) -> bool {
    let name = path.last().unwrap().as_str();
    path.len() == 1 && (name.ends_with("_id") || ["id", "name", "provider", "model"].contains(&name))
}

/// The paths of all members and items.
fn paths(value: &Value) -> Vec<Vec<String>> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(n, value)| (n.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    let mut all = Vec::new();
    for (name, child) in children {
        all.push(vec![name.clone()]);
        all.extend(
            paths(child)
                .into_iter()
                .map(|path| [vec![name.clone()], path].concat()),
        );
    }
    all
}

/// The payload with another value at a path.
pub(super) fn with(payload: &Value, path: &[String], value: Value) -> Value {
    let mut payload = payload.clone();
    let mut at = &mut payload;
    for name in path {
        at = match at {
            Value::Array(items) => &mut items[name.parse::<usize>().unwrap()],
            at => &mut at[name.as_str()],
        };
    }
    *at = value;
    payload
}

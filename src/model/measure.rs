//! Size and depth of JSON, for limits of memory and for what may be stored.

use serde_json::{Map, Value};

/// Size and depth of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Bytes of text and structure, roughly.
    pub bytes: usize,
    /// Levels of nesting; 1 for a bare value.
    pub depth: usize,
}

/// Measures a JSON object, without recursion.
pub fn measure_object(object: &Map<String, Value>) -> Measure {
    let mut total = Measure { bytes: 2, depth: 1 };
    for (name, value) in object {
        let member = measure(value);
        total.bytes += name.len() + 4 + member.bytes;
        total.depth = total.depth.max(member.depth + 1);
    }
    total
}

/// Measures a JSON value, without recursion.
pub fn measure(value: &Value) -> Measure {
    let mut total = Measure { bytes: 0, depth: 0 };
    let mut open = vec![(value, 1)];
    while let Some((value, depth)) = open.pop() {
        total.depth = total.depth.max(depth);
        total.bytes += match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 4,
            Value::String(text) => text.len() + 2,
            Value::Array(items) => {
                open.extend(items.iter().map(|item| (item, depth + 1)));
                items.len() + 2
            }
            Value::Object(members) => {
                open.extend(members.values().map(|member| (member, depth + 1)));
                members.keys().map(|name| name.len() + 4).sum::<usize>() + 2
            }
        };
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn measuring_a_very_deep_value_needs_no_stack() {
        let mut deep = json!(1);
        for _ in 0..100_000 {
            deep = Value::Array(vec![deep]);
        }
        assert_eq!(measure(&deep).depth, 100_001);
        // Its drop would recurse.
        std::mem::forget(deep);
    }
}

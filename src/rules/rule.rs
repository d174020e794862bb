//! One rule and its constraints (contract 03 §3.2).

use serde_json::{Map, Number, Value};

use super::args::Args;
use super::glob::IdPattern;
use super::pattern::{Found, Pattern};
use crate::model::api::approval::{Constraint, Verdict};

/// What a rule that matches says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Deny,
}

/// One entry of the rule file.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) id: Box<str>,
    pub(super) function: IdPattern,
    pub(super) action: Action,
    /// In the order of their fields.
    pub(super) tests: Vec<FieldTest>,
    /// How many examples it has, all of which hold.
    pub(super) examples: usize,
}

/// A constraint on one top-level argument.
#[derive(Debug, Clone)]
pub(super) struct FieldTest {
    pub(super) field: Box<str>,
    pub(super) test: Test,
}

/// What is asked of an argument.
#[derive(Debug, Clone)]
pub(super) enum Test {
    Equals(Value),
    Matches(Pattern),
}

impl Rule {
    /// Whether all constraints hold. What cannot be told, within the limits or because the arguments do not show it, counts
    /// for a denial and against a permission.
    pub(super) fn holds(&self, args: Args<'_>) -> bool {
        let denies = self.action == Action::Deny;
        (denies && args.is_opaque)
            || self.tests.iter().all(|test| match test.find(args.members) {
                Found::Yes => true,
                Found::No => false,
                Found::Unknown => denies,
            })
    }

    /// The first constraint that does not surely hold.
    pub(super) fn first_unlike<'a>(&'a self, args: &'a Map<String, Value>) -> Option<Unlike<'a>> {
        self.tests.iter().find_map(|test| match test.find(args) {
            Found::Yes => None,
            found @ (Found::No | Found::Unknown) => Some(Unlike {
                test,
                value: args.get(&*test.field),
                found,
            }),
        })
    }

    /// What the rule says of a call that it matches. It names no constraint that nobody could look at.
    pub(super) fn verdict(&self, args: Args<'_>) -> Verdict {
        let rule_id = self.id.clone().into_string();
        match self.action {
            Action::Allow => Verdict::Allow { rule_id },
            Action::Deny => Verdict::Deny {
                rule_id,
                rule_action: "deny".into(),
                matched_constraint: self
                    .tests
                    .first()
                    .filter(|_| !args.is_opaque)
                    .map(FieldTest::constraint),
            },
        }
    }
}

/// A constraint that does not hold, and what it met.
#[derive(Debug)]
pub(super) struct Unlike<'a> {
    test: &'a FieldTest,
    value: Option<&'a Value>,
    /// `No` or `Unknown`.
    pub(super) found: Found,
}

impl Unlike<'_> {
    /// In words, without the value: it may be long or secret.
    pub(super) fn why(&self) -> String {
        let field = &self.test.field;
        match (&self.test.test, self.value) {
            (_, None) => format!("argument `{field}` is missing"),
            (Test::Equals(expected), Some(_)) => format!("argument `{field}` is not {expected}"),
            (Test::Matches(pattern), Some(Value::String(_))) if self.found == Found::Unknown => {
                format!(
                    "argument `{field}` takes too much work to search for `{}`",
                    pattern.source()
                )
            }
            (Test::Matches(pattern), Some(Value::String(_))) => {
                format!("argument `{field}` does not match `{}`", pattern.source())
            }
            (Test::Matches(_), Some(_)) => format!("argument `{field}` is no text"),
        }
    }
}

impl FieldTest {
    fn find(&self, args: &Map<String, Value>) -> Found {
        match (&self.test, args.get(&*self.field)) {
            (Test::Equals(expected), Some(value)) if equal(expected, value) => Found::Yes,
            (Test::Matches(pattern), Some(Value::String(text))) => pattern.search(text),
            _ => Found::No,
        }
    }

    fn constraint(&self) -> Constraint {
        let (operator, value) = match &self.test {
            Test::Equals(expected) => ("equals", expected.clone()),
            Test::Matches(pattern) => ("matches", pattern.source().into()),
        };
        Constraint {
            field: self.field.clone().into_string(),
            operator: operator.into(),
            value,
        }
    }
}

/// Deep equality, numbers by value, members in any order. Recurses no deeper than the expected side, which comes from a
/// file whose parser limits the nesting.
fn equal(expected: &Value, value: &Value) -> bool {
    match (expected, value) {
        (Value::Number(a), Value::Number(b)) => equal_numbers(a, b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        _ => false,
    }
}

/// Whole numbers exactly; as soon as one side is a fraction or an exponent, as doubles.
fn equal_numbers(a: &Number, b: &Number) -> bool {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a == b,
        _ => a.as_f64() == b.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equality_is_deep_and_strict() {
        for (a, b, same) in [
            (json!(1), json!(1.0), true),
            (json!(0), json!(-0.0), true),
            (json!(0), json!("0"), false),
            (json!(0), json!(false), false),
            (json!(null), json!(null), true),
            (json!(u64::MAX), json!(-1), false),
            (
                json!(9_007_199_254_740_993_u64),
                json!(9_007_199_254_740_992_u64),
                false,
            ),
            (
                json!({"a": 1, "b": [1, {"c": 2}]}),
                json!({"b": [1.0, {"c": 2}], "a": 1}),
                true,
            ),
            (json!([1, 2]), json!([2, 1]), false),
            (json!([1]), json!([1, 1]), false),
            (json!({"a": null}), json!({}), false),
            (json!({"a": 1}), json!({"a": 1, "b": 1}), false),
        ] {
            assert_eq!((equal(&a, &b), equal(&b, &a)), (same, same), "{a} {b}");
        }
    }
}

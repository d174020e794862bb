//! Checks of configuration values against their owner's JSON Schema (contract 00 §7).

use std::sync::Arc;

use jsonschema::Validator;
use serde_json::Value;

use super::template::Expanded;
use crate::error::{Error, Result};

/// Most faults named in one error.
const MAX_FAULTS: usize = 20;

/// A schema that can be checked against; cheap to clone.
#[derive(Clone)]
pub(super) struct Schema {
    raw: Arc<Value>,
    validator: Arc<Validator>,
}

impl Schema {
    /// Compiles a schema. References to other documents are not followed.
    ///
    /// # Errors
    /// `SCHEMA_INVALID` when it is no JSON Schema.
    pub(super) fn compile(raw: Value) -> Result<Self> {
        if !raw.is_object() && !raw.is_boolean() {
            return Err(invalid("the schema is neither an object nor a boolean"));
        }
        let validator = jsonschema::validator_for(&raw)
            .map_err(|error| invalid(&format!("not a JSON Schema: {error}")))?;
        Ok(Self {
            raw: Arc::new(raw),
            validator: Arc::new(validator),
        })
    }

    /// The schema as it was registered.
    pub(super) fn raw(&self) -> &Arc<Value> {
        &self.raw
    }

    /// Checks a value. Strings whose variable is not set have no value yet: faults at their places do not count.
    ///
    /// # Errors
    /// `SCHEMA_INVALID`, `schema validation failed: a; b`.
    pub(super) fn check(&self, expanded: &Expanded) -> Result<()> {
        let faults: Vec<String> = self
            .validator
            .iter_errors(&expanded.value)
            .filter(|fault| {
                let place = fault.instance_path().as_str();
                expanded.missing.iter().all(|(missing, _)| missing != place)
            })
            .take(MAX_FAULTS)
            .map(|fault| match fault.instance_path().as_str() {
                "" => fault.to_string(),
                place => format!("{place}: {fault}"),
            })
            .collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(invalid(&faults.join("; ")))
        }
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Schema").field(&self.raw).finish()
    }
}

fn invalid(why: &str) -> Error {
    Error::coded("SCHEMA_INVALID", format!("schema validation failed: {why}"))
}

/// Whether an id may name a configuration: `[a-z0-9_-]{1,64}`.
pub(super) fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn plain(value: Value) -> Expanded {
        Expanded {
            value,
            missing: Vec::new(),
        }
    }

    fn port() -> Schema {
        Schema::compile(json!({"type": "object", "required": ["port"], "properties": {
            "port": {"type": "integer"}, "name": {"type": "string", "minLength": 2}}}))
        .unwrap()
    }

    #[test]
    fn c00_case_21_faults_are_named_together() {
        port().check(&plain(json!({"port": 1}))).unwrap();
        let error = port()
            .check(&plain(json!({"port": "x", "name": "n"})))
            .unwrap_err();
        assert_eq!(error.wire_code(), "SCHEMA_INVALID");
        assert_eq!(
            error.to_string(),
            "schema validation failed: /port: \"x\" is not of type \"integer\"; /name: \"n\" is shorter than 2 characters"
        );
    }

    #[test]
    fn an_unset_variable_is_no_fault_but_its_neighbours_are() {
        let missing = vec![("/port".to_owned(), "PORT".to_owned())];
        let expanded = |name: &str| Expanded {
            value: json!({"port": "${PORT}", "name": name}),
            missing: missing.clone(),
        };
        port().check(&expanded("nn")).unwrap();
        assert_eq!(
            port().check(&expanded("n")).unwrap_err().to_string(),
            "schema validation failed: /name: \"n\" is shorter than 2 characters"
        );
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for raw in [
            json!({"type": 7}),
            json!("x"),
            json!(null),
            json!({"$ref": "http://127.0.0.1:9/x.json"}),
        ] {
            assert_eq!(Schema::compile(raw).unwrap_err().wire_code(), "SCHEMA_INVALID");
        }
    }

    #[test]
    fn c00_case_22_ids() {
        let longest = "a".repeat(64);
        for id in ["a", "my-id_9", &longest] {
            assert!(is_id(id), "{id}");
        }
        let too_long = "a".repeat(65);
        for id in ["", "Bad Id", "A", "a.b", "ä", "a/b", &too_long] {
            assert!(!is_id(id), "{id}");
        }
    }
}

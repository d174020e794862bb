//! The `harness` entry of the configuration worker: its schema, its seed, and how its value is read (contract 09 B1).

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::model::api::provider::{Declaration, Defaults};

/// Id of the entry, and its name.
pub(super) const ID: &str = "harness";
/// Shown by consoles.
pub(super) const DESCRIPTION: &str =
    "Agent harness: the default permission mode, and the credentials and settings of each model provider.";

const MOST_OUTPUT_TOKENS: u64 = 1_048_576;

/// Value of a new entry.
pub(super) fn seed() -> Value {
    json!({ "permissions": { "default_mode": "manual" }, "providers": {} })
}

/// The JSON Schema (draft 07) of the entry. Providers that are stored but not declared stay allowed, so that one that
/// was removed cannot make the whole entry invalid.
pub(super) fn schema<'a>(declared: &[Declaration], stored: impl IntoIterator<Item = &'a str>) -> Value {
    let mut slices: Map<String, Value> = declared
        .iter()
        .map(|declaration| (declaration.id.to_string(), slice_schema(declaration)))
        .collect();
    for id in stored {
        slices
            .entry(id)
            .or_insert_with(|| json!({ "type": "object", "title": id }));
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "title": "harness",
        "required": ["permissions", "providers"],
        "additionalProperties": false,
        "properties": {
            "permissions": {
                "type": "object",
                "title": "permissions",
                "required": ["default_mode"],
                "additionalProperties": false,
                "properties": {
                    "default_mode": {
                        "type": "string",
                        "title": "default mode",
                        "description": "Permission mode of sessions that have not chosen one: manual asks before each \
                                        call, auto lets the rules decide, full allows everything not denied.",
                        "enum": ["manual", "auto", "full"],
                        "default": "manual"
                    }
                }
            },
            "providers": {
                "type": "object",
                "title": "providers",
                "description": "Credential and settings of each model provider.",
                "additionalProperties": false,
                "properties": slices
            }
        }
    })
}

fn slice_schema(declaration: &Declaration) -> Value {
    if let Some(own) = &declaration.config_schema {
        return Value::Object(own.clone());
    }
    let defaults = declaration.defaults.clone().unwrap_or_default();
    let mut api_url = json!({
        "type": "string",
        "title": "api url",
        "description": "Full address of the provider's chat endpoint."
    });
    let mut max_tokens = json!({
        "type": "integer",
        "title": "max tokens",
        "description": "Output limit of one model call, tokens.",
        "minimum": 1,
        "maximum": MOST_OUTPUT_TOKENS
    });
    for (property, name) in [(&mut api_url, "api_url"), (&mut max_tokens, "max_tokens")] {
        if let Some(default) = default_of(&defaults, name) {
            property["default"] = default;
        }
    }
    json!({
        "type": "object",
        "title": declaration.display_name.as_deref().unwrap_or(&declaration.id),
        "additionalProperties": false,
        "properties": {
            "api_key": {
                "type": "string",
                "title": "api key",
                "description": "Secret; may be a template such as ${OPENAI_API_KEY}.",
                "format": "password",
                "writeOnly": true
            },
            "api_url": api_url,
            "max_tokens": max_tokens
        }
    })
}

fn default_of(defaults: &Defaults, name: &str) -> Option<Value> {
    serde_json::to_value(defaults)
        .ok()?
        .get_mut(name)
        .map(Value::take)
}

/// Checks what a provider says about itself; the schema is checked as a part of the whole, where it will be used.
pub(super) fn check(declaration: &Declaration) -> Result<()> {
    let id = declaration.id.as_str();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if id.is_empty() || id.len() > 64 || !id.chars().all(plain) {
        return Err(Error::invalid(
            "invalid provider declaration: id must match [a-z0-9_-]{1,64}",
        ));
    }
    let max_tokens = declaration
        .defaults
        .as_ref()
        .and_then(|defaults| defaults.max_tokens);
    if max_tokens.is_some_and(|tokens| tokens <= 0.0) {
        return Err(Error::invalid(
            "invalid provider declaration: defaults.max_tokens must be greater than 0",
        ));
    }
    if let Some(own) = &declaration.config_schema {
        let own = Value::Object(own.clone());
        let whole = schema(std::slice::from_ref(declaration), []);
        let verdict = jsonschema::draft7::meta::validate(&own)
            .map_err(|error| error.to_string())
            .and_then(|()| {
                jsonschema::draft7::new(&whole)
                    .map(|_| ())
                    .map_err(|error| error.to_string())
            });
        if let Err(why) = verdict {
            return Err(Error::invalid(format!(
                "invalid provider declaration: config_schema is not a JSON Schema: {why}"
            )));
        }
    }
    Ok(())
}

/// The slice of a provider in a value of the entry; `None` when it holds none.
pub(super) fn slice<'a>(value: &'a Value, provider: &str) -> Option<&'a Map<String, Value>> {
    value.get("providers")?.get(provider)?.as_object()
}

/// Ids of the providers that a value of the entry holds settings for.
pub(super) fn stored_ids(value: &Value) -> impl Iterator<Item = &str> {
    value
        .get("providers")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|slices| slices.keys().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::super::builtin::BUILTIN;
    use super::*;
    use crate::config::Config;
    use pretty_assertions::assert_eq;

    fn builtin() -> Vec<Declaration> {
        let config = Config::default();
        BUILTIN.iter().map(|one| one.declaration(&config)).collect()
    }

    fn declaration(value: Value) -> Declaration {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn c09_case_02_schema_of_the_five() {
        let schema = schema(&builtin(), []);
        let slices = schema.pointer("/properties/providers/properties").unwrap();
        let ids: Vec<&String> = slices.as_object().unwrap().keys().collect();
        assert_eq!(ids, ["anthropic", "openai", "kimi", "lmstudio", "llamacpp"]);
        assert_eq!(
            schema.pointer("/properties/permissions/properties/default_mode/enum"),
            Some(&json!(["manual", "auto", "full"]))
        );
        assert_eq!(
            slices.pointer("/anthropic/properties/api_url/default"),
            Some(&json!("https://api.anthropic.com/v1/messages"))
        );
        assert_eq!(slices.pointer("/lmstudio/properties/api_url/default"), None);
        assert_eq!(
            slices.pointer("/kimi/properties/max_tokens"),
            Some(&json!({"type": "integer", "title": "max tokens",
                         "description": "Output limit of one model call, tokens.",
                         "minimum": 1, "maximum": 1_048_576, "default": 8192}))
        );
        assert_eq!(slices.pointer("/kimi/title"), Some(&json!("kimi (moonshot)")));
        assert!(jsonschema::draft7::new(&schema).is_ok());
    }

    #[test]
    fn c09_case_03_what_the_schema_refuses() {
        let schema = jsonschema::draft7::new(&schema(&builtin(), ["old"])).unwrap();
        let with = |providers: Value, mode: &str| json!({"permissions": {"default_mode": mode}, "providers": providers});
        for good in [
            seed(),
            with(
                json!({"anthropic": {"api_key": "${KEY:none}", "max_tokens": 1}}),
                "full",
            ),
            with(json!({"old": {"anything": [1]}}), "auto"),
        ] {
            assert!(schema.is_valid(&good), "{good}");
        }
        for bad in [
            with(json!({"anthropic": {"max_tokens": 0}}), "manual"),
            with(json!({"anthropic": {"max_tokens": 1_048_577}}), "manual"),
            with(json!({"anthropic": {"other": 1}}), "manual"),
            with(json!({"nosuch": {}}), "manual"),
            with(json!({}), "yolo"),
            json!({"providers": {}}),
            json!({"permissions": {"default_mode": "auto"}, "providers": {}, "more": 1}),
            json!(null),
        ] {
            assert!(!schema.is_valid(&bad), "{bad}");
        }
    }

    #[test]
    fn c09_case_10_a_schema_of_ones_own_is_taken_as_it_is() {
        let own = json!({"type": "object", "properties": {"region": {"type": "string"}}, "additionalProperties": true});
        let foo = declaration(json!({"id": "foo", "config_schema": own}));
        assert!(check(&foo).is_ok());
        assert_eq!(
            schema(&[foo], []).pointer("/properties/providers/properties/foo"),
            Some(&own)
        );
    }

    #[test]
    fn hostile_declarations() {
        let long = "x".repeat(65);
        for id in ["", "Bad Id", "a/b", "ä", "a\n", long.as_str()] {
            assert_eq!(
                check(&declaration(json!({ "id": id }))).unwrap_err().to_string(),
                "invalid provider declaration: id must match [a-z0-9_-]{1,64}",
                "{id:?}"
            );
        }
        for own in [
            json!({"type": "nonsense"}),
            json!({"type": 5}),
            json!({"properties": []}),
            json!({"pattern": "("}),
            json!({"$ref": "#/definitions/here", "definitions": {"here": {"type": "object"}}}),
            json!({"$ref": "http://127.0.0.1:9/schema.json"}),
            json!({"minimum": "1"}),
        ] {
            let error = check(&declaration(json!({"id": "foo", "config_schema": own}))).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("invalid provider declaration: config_schema is not a JSON Schema: "),
                "{own}: {error}"
            );
        }
        for tokens in [0, -5] {
            assert!(
                check(&declaration(
                    json!({"id": "foo", "defaults": {"max_tokens": tokens}})
                ))
                .is_err()
            );
        }
    }

    #[test]
    fn slices_of_odd_values() {
        for value in [
            json!(null),
            json!([]),
            json!({"providers": []}),
            json!({"providers": {"a": "x"}}),
        ] {
            assert_eq!(slice(&value, "a"), None);
        }
        let value = json!({"providers": {"a": {"k": 1}, "b": 2}});
        assert_eq!(slice(&value, "a").map(Map::len), Some(1));
        assert_eq!(stored_ids(&value).collect::<Vec<_>>(), ["a", "b"]);
    }
}

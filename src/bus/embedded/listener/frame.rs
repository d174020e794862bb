//! The messages of a worker (contract 00 §1.3), each a JSON object told apart by its `type`.
//!
//! The type is read first and the message then from the same text, so that a large `data` is parsed once, straight to
//! where it goes. Members that are not named here are ignored: newer clients send more.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use uuid::Uuid;

use crate::model::lenient;

/// What a worker sends.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    /// Takes the place of an earlier connection of the same worker.
    Reattach(Reattach),
    /// Hosts a function.
    RegisterFunction(RegisterFunction),
    /// Hosts it no more.
    UnregisterFunction(ById),
    /// Provides a trigger type.
    RegisterTriggerType(RegisterTriggerType),
    /// Binds a function to an event source.
    RegisterTrigger(RegisterTrigger),
    /// A provider's word on a binding of its type.
    TriggerRegistrationResult(TriggerRegistrationResult),
    /// Takes a binding away.
    UnregisterTrigger(ById),
    /// Calls a function.
    InvokeFunction(InvokeFunction),
    /// Answers a call.
    InvocationResult(InvocationResult),
    /// Asks for a `pong`.
    Ping,
    /// Known and without effect here.
    Ignored,
}

/// `reattach`.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Reattach {
    pub(super) previous_worker_id: String,
    #[serde(default, deserialize_with = "lenient::optional")]
    pub(super) reattach_token: Option<String>,
}

/// `registerfunction`.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct RegisterFunction {
    pub(super) id: String,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) request_format: Option<Value>,
    #[serde(default)]
    pub(super) response_format: Option<Value>,
    #[serde(default)]
    pub(super) metadata: Option<Value>,
    /// The engine is to call a URL instead of the worker.
    #[serde(default)]
    pub(super) invocation: Option<Value>,
}

/// The `namespace` that newer clients send. This engine has one, `default`; a member that is absent, null, empty or no
/// string means that one too.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Namespace(#[serde(deserialize_with = "lenient::optional")] Option<String>);

impl Namespace {
    /// Its name, when it is one that this engine does not have.
    pub(super) fn foreign(&self) -> Option<&str> {
        let name = self.0.as_deref()?;
        (!name.is_empty() && name != "default").then_some(name)
    }
}

/// A message that only names something.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct ById {
    pub(super) id: String,
}

/// `registertriggertype`.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct RegisterTriggerType {
    pub(super) id: String,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) trigger_request_format: Option<Value>,
    #[serde(default)]
    pub(super) call_request_format: Option<Value>,
    #[serde(default)]
    pub(super) namespace: Namespace,
}

/// `registertrigger`, in both directions.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RegisterTrigger {
    pub(super) id: String,
    pub(super) trigger_type: String,
    pub(super) function_id: String,
    #[serde(default)]
    pub(super) config: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Value>,
    /// Where the function is.
    #[serde(default, skip_serializing)]
    pub(super) namespace: Namespace,
    /// Where the type is.
    #[serde(default, skip_serializing)]
    pub(super) trigger_namespace: Namespace,
}

/// `triggerregistrationresult`, in both directions; without `error` the binding is accepted.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TriggerRegistrationResult {
    pub(super) id: String,
    pub(super) trigger_type: String,
    pub(super) function_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ErrorBody>,
}

/// `invokefunction` as a worker sends it.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct InvokeFunction {
    #[serde(default, deserialize_with = "optional_uuid")]
    pub(super) invocation_id: Option<Uuid>,
    pub(super) function_id: String,
    pub(super) data: Value,
    #[serde(default)]
    pub(super) traceparent: Option<String>,
    #[serde(default)]
    pub(super) baggage: Option<String>,
    #[serde(default)]
    pub(super) action: Option<Action>,
    #[serde(default)]
    pub(super) metadata: Option<Value>,
    #[serde(default)]
    pub(super) namespace: Namespace,
}

/// How a call is made that is not awaited.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Action {
    /// Nobody waits.
    Void,
    /// A job on a queue.
    Enqueue {
        /// Its name.
        queue: String,
    },
}

/// `invocationresult`, in both directions. Without `result` and `error` it is a success without a value.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct InvocationResult {
    #[serde(deserialize_with = "uuid", serialize_with = "uuid_text")]
    pub(super) invocation_id: Uuid,
    pub(super) function_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ErrorBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) baggage: Option<String>,
}

/// Why something failed. A stack trace that a worker sends is not passed on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(default = "failed")]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

fn failed() -> String {
    "invocation_failed".to_owned()
}

/// Reads a message.
///
/// # Errors
/// What is wrong with it, for the log: no JSON object, no type, an unknown type, a member that does not fit.
pub(super) fn read(text: &str) -> Result<Incoming, String> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    // An array would be read by position.
    if !text.trim_start().starts_with('{') {
        return Err("no JSON object".to_owned());
    }
    let Head { kind } = parse(text)?;
    Ok(match kind.as_ref() {
        "reattach" => Incoming::Reattach(parse(text)?),
        "registerfunction" => Incoming::RegisterFunction(parse(text)?),
        "unregisterfunction" => Incoming::UnregisterFunction(parse(text)?),
        "registertriggertype" => Incoming::RegisterTriggerType(parse(text)?),
        "registertrigger" => Incoming::RegisterTrigger(parse(text)?),
        "triggerregistrationresult" => Incoming::TriggerRegistrationResult(parse(text)?),
        "unregistertrigger" => Incoming::UnregisterTrigger(parse(text)?),
        "invokefunction" => Incoming::InvokeFunction(parse(text)?),
        "invocationresult" => Incoming::InvocationResult(parse(text)?),
        "ping" => Incoming::Ping,
        "pong" | "registerservice" | "unregistertriggertype" => Incoming::Ignored,
        other => {
            let shown: String = other.chars().take(64).collect();
            return Err(format!("unknown message type {shown:?}"));
        }
    })
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    Uuid::parse_str(&text).map_err(de::Error::custom)
}

fn optional_uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    let text = Option::<Cow<str>>::deserialize(deserializer)?;
    text.map(|text| Uuid::parse_str(&text).map_err(de::Error::custom))
        .transpose()
}

fn uuid_text<S: serde::Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    const ID: &str = "6a1f9d53-4a8e-4b6e-9a3f-0f2f6c1d7e11";

    fn id() -> Uuid {
        Uuid::parse_str(ID).unwrap()
    }

    #[test]
    fn an_invocation_with_everything() {
        let text = json!({
            "type": "invokefunction", "invocation_id": ID, "function_id": "a::b", "data": {"type": "x"},
            "traceparent": "tp", "baggage": "k=v", "action": {"type": "enqueue", "queue": "q"}, "metadata": {"m": 1},
            "namespace": "default",
        });
        assert_eq!(
            read(&text.to_string()),
            Ok(Incoming::InvokeFunction(InvokeFunction {
                invocation_id: Some(id()),
                function_id: "a::b".into(),
                data: json!({"type": "x"}),
                traceparent: Some("tp".into()),
                baggage: Some("k=v".into()),
                action: Some(Action::Enqueue { queue: "q".into() }),
                metadata: Some(json!({"m": 1})),
                namespace: Namespace(Some("default".into())),
            }))
        );
    }

    #[test]
    fn the_least_of_each_message() {
        let bare = InvokeFunction {
            invocation_id: None,
            function_id: "f".into(),
            data: Value::Null,
            traceparent: None,
            baggage: None,
            action: Some(Action::Void),
            metadata: None,
            namespace: Namespace::default(),
        };
        let void = r#"{"type":"invokefunction","invocation_id":null,"function_id":"f","data":null,"action":{"type":"void"}}"#;
        assert_eq!(read(void), Ok(Incoming::InvokeFunction(bare)));
        let function = RegisterFunction {
            id: "f".into(),
            description: None,
            request_format: None,
            response_format: None,
            metadata: None,
            invocation: None,
        };
        let text = r#"{"request_format":null,"type":"registerfunction","id":"f"}"#;
        assert_eq!(read(text), Ok(Incoming::RegisterFunction(function)));
        for ignored in ["pong", "registerservice", "unregistertriggertype"] {
            assert_eq!(
                read(&json!({"type": ignored, "id": 1}).to_string()),
                Ok(Incoming::Ignored)
            );
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (text, why) in [
            ("", "no JSON object"),
            ("nonsense", "no JSON object"),
            (r#"["ping"]"#, "no JSON object"),
            ("{}", "missing field `type`"),
            (r#"{"type":7}"#, "invalid type: integer `7`"),
            (
                r#"{"type":"registrerfunction"}"#,
                "unknown message type \"registrerfunction\"",
            ),
            (
                r#"{"type":"registerfunction","id":7}"#,
                "invalid type: integer `7`",
            ),
            (
                r#"{"type":"invokefunction","function_id":"f"}"#,
                "missing field `data`",
            ),
            (
                r#"{"type":"invokefunction","invocation_id":"not-a-uuid","function_id":"f","data":1}"#,
                "invalid character",
            ),
            (
                r#"{"type":"invokefunction","function_id":"f","data":1,"action":{"type":"later"}}"#,
                "unknown variant `later`",
            ),
            (
                r#"{"type":"invocationresult","function_id":"f"}"#,
                "missing field `invocation_id`",
            ),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
    }

    #[test]
    fn there_is_one_namespace() {
        for (given, foreign) in [
            (json!(null), None),
            (json!(""), None),
            (json!("default"), None),
            (json!(7), None),
            (json!("other"), Some("other")),
        ] {
            let namespace: Namespace = serde_json::from_value(given).unwrap();
            assert_eq!(namespace.foreign(), foreign);
        }
    }
}

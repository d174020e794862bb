//! `provider::lmstudio::load_model`: loads a model into the server's memory (contract 08 §8).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::memory;
use crate::bus::{self, Cx, Function};
use crate::error::Result;
use crate::workers::providers::{Host, access};

/// Options that are passed on as they are; others are left out.
const OPTIONS: &[&str] = &[
    "context_length",
    "eval_batch_size",
    "num_experts",
    "flash_attention",
    "offload_kv_cache_to_gpu",
    "echo_load_config",
];

/// `provider::lmstudio::load_model`. Never fails: what goes wrong is `{ok: false, error}`. Takes up to 120 s, so callers must raise
/// their own limit.
#[derive(Debug)]
pub(super) struct LoadModel;

/// What it takes. The shape is for readers of the schema; a payload that differs is told so in the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Request(#[schemars(with = "Shape")] Value);

/// Request of `provider::lmstudio::load_model`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Shape {
    /// Upstream model id.
    model: String,
    /// Window, tokens.
    context_length: Option<u64>,
    /// Tokens read at a time.
    eval_batch_size: Option<u64>,
    /// Experts in use, for models that have several.
    num_experts: Option<u64>,
    /// Whether flash attention is used.
    flash_attention: Option<bool>,
    /// Whether the cache of keys and values is on the graphics card.
    offload_kv_cache_to_gpu: Option<bool>,
    /// Whether the answer repeats the settings in force.
    echo_load_config: Option<bool>,
}

/// What the server says, such as `{type, instance_id, load_time_seconds, status}`; or `{ok: false, error}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Response(Value);

impl Response {
    /// Success as it is, a failure as `{ok: false, error}`.
    pub(super) fn of(outcome: Result<Value, String>) -> Self {
        Self(outcome.unwrap_or_else(|error| json!({ "ok": false, "error": error })))
    }
}

impl Function for LoadModel {
    const ID: &'static str = "provider::lmstudio::load_model";
    const DESCRIPTION: &'static str =
        "Load an LM Studio model into memory via POST /api/v1/models/load. Blocks until ready (up to 120s).";
    type State = Host;
    type Request = Request;
    type Response = Response;

    fn decode(payload: Value) -> Result<Request> {
        Ok(Request(readable(payload)))
    }

    async fn call(cx: &Cx<Host>, request: Request) -> Result<Response> {
        let load = async {
            let body = body(&request.0)?;
            memory::load(access::door(cx).await?, body).await
        };
        Ok(Response::of(load.await))
    }
}

/// An object as it is; of anything else, and of what is too deep or too large, a text that says so: a bad payload is answered,
/// not refused.
pub(super) fn readable(payload: Value) -> Value {
    if payload.is_object() {
        return bus::decode(payload, &[], false).unwrap_or_else(|error| error.to_string().into());
    }
    bus::dismantle(payload);
    "must be a JSON object".into()
}

fn body(payload: &Value) -> Result<Value, String> {
    let model = text(payload, "model")?;
    let mut body = Map::from_iter([("model".to_owned(), Value::from(model))]);
    let options = OPTIONS
        .iter()
        .filter_map(|name| payload.get(*name).map(|value| (*name, value)));
    for (name, value) in options.filter(|(_, value)| !value.is_null()) {
        body.insert(name.to_owned(), value.clone());
    }
    Ok(Value::Object(body))
}

/// A required text of a [`readable`] payload.
pub(super) fn text<'a>(payload: &'a Value, member: &str) -> Result<&'a str, String> {
    if let Value::String(why) = payload {
        return Err(format!("invalid payload: {why}"));
    }
    payload
        .get(member)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| format!("invalid payload: missing required string field: {member}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn c08_case_35_what_is_sent_and_what_is_refused() {
        let payload = json!({"model": "m", "context_length": 8192, "flash_attention": null, "echo_load_config": "odd",
            "other": 1});
        assert_eq!(
            body(&payload),
            Ok(json!({"model": "m", "context_length": 8192, "echo_load_config": "odd"}))
        );
        for odd in [json!({}), json!({"model": ""}), json!({"model": 5})] {
            assert_eq!(
                body(&odd).unwrap_err(),
                "invalid payload: missing required string field: model"
            );
        }
        for odd in [json!(null), json!("m"), json!([{"model": "m"}])] {
            let why = body(&readable(odd)).unwrap_err();
            assert_eq!(why, "invalid payload: must be a JSON object");
        }
    }
}

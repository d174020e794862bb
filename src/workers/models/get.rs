//! `models::get`: one record, or null (contract 09 A5).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::catalog::Catalog;
use crate::bus::{self, Cx, Function};
use crate::error::Result;
use crate::model::api::models::GetRequest;
use crate::model::catalog::Model;

/// `models::get`.
#[derive(Debug)]
pub(super) struct Get;

/// The record exactly as it was registered, or null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Response(#[schemars(with = "Option<Model>")] Value);

impl Function for Get {
    const ID: &'static str = "models::get";
    const DESCRIPTION: &'static str =
        "Look up a single model by (provider, model_id). Returns null when no provider has registered it.";
    const REQUIRED: &'static [&'static str] = &["provider", "model_id"];
    type State = Catalog;
    type Request = GetRequest;
    type Response = Response;

    fn decode(payload: Value) -> Result<GetRequest> {
        bus::decode(with_model_id(payload), Self::REQUIRED, false)
    }

    async fn call(cx: &Cx<Catalog>, request: GetRequest) -> Result<Response> {
        let record = Catalog::get(cx, &request.provider, &request.model_id).await;
        Ok(Response(
            record.map_or(Value::Null, |record| Value::clone(&record)),
        ))
    }
}

/// Later callers say `id` for `model_id`.
pub(super) fn with_model_id(payload: Value) -> Value {
    let mut object = as_object(payload);
    if let Some(id) = object.remove("id") {
        object.entry("model_id").or_insert(id);
    }
    Value::Object(object)
}

/// The members of a payload; what is no object has none. serde would read a list as the members of a struct in their
/// order.
pub(super) fn as_object(payload: Value) -> Map<String, Value> {
    match payload {
        Value::Object(object) => object,
        other => {
            bus::dismantle(other);
            Map::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn c09_case_18_required_members_in_order() {
        let expected = GetRequest {
            provider: "p1".into(),
            model_id: "m1".into(),
        };
        for payload in [
            json!({"provider": "p1", "model_id": "m1"}),
            json!({"provider": "p1", "id": "m1"}),
            json!({"provider": "p1", "id": "other", "model_id": "m1"}),
        ] {
            assert_eq!(Get::decode(payload), Ok(expected.clone()));
        }
        for (payload, member) in [
            (json!({}), "provider"),
            (json!(null), "provider"),
            (json!("p1"), "provider"),
            (json!(["p1", "m1"]), "provider"),
            (json!({"provider": "", "model_id": "m"}), "provider"),
            (json!({"provider": 1, "model_id": "m"}), "provider"),
            (json!({"provider": "p1"}), "model_id"),
            (json!({"provider": "p1", "model_id": ["m"]}), "model_id"),
        ] {
            assert_eq!(
                Get::decode(payload).unwrap_err().to_string(),
                format!("missing required string field: {member}")
            );
        }
    }
}

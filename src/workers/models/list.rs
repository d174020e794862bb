//! `models::list`: the records, filtered (contract 09 A5).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::capability::{has, member};
use super::catalog::Catalog;
use super::get::as_object;
use crate::bus::{self, Cx, Function};
use crate::error::Result;
use crate::model::catalog::Model;
use crate::model::lenient;

/// `models::list`.
#[derive(Debug)]
pub(super) struct List;

/// Request of `models::list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// Only this provider.
    #[serde(default, deserialize_with = "lenient::optional")]
    provider: Option<String>,
    /// Only models with this capability; an unknown one filters nothing.
    #[serde(default, deserialize_with = "lenient::optional")]
    capability: Option<String>,
}

/// Response of `models::list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// Records exactly as they were registered, sorted by provider and id.
    #[schemars(with = "Vec<Model>")]
    models: Vec<Value>,
}

impl Function for List {
    const ID: &'static str = "models::list";
    const DESCRIPTION: &'static str = "List models, optionally filtered by provider or capability. Returns only models registered by providers (no embedded seed).";
    const CLIENT: bool = true;
    type State = Catalog;
    type Request = Request;
    type Response = Response;

    fn decode(payload: Value) -> Result<Request> {
        bus::decode(Value::Object(as_object(payload)), &[], false)
    }

    async fn call(cx: &Cx<Catalog>, request: Request) -> Result<Response> {
        let wanted = request.capability.as_deref().and_then(member);
        let models = Catalog::all(cx)
            .await
            .iter()
            .filter(|record| {
                request
                    .provider
                    .as_deref()
                    .is_none_or(|provider| record.get("provider").and_then(Value::as_str) == Some(provider))
            })
            .filter(|record| wanted.is_none_or(|wanted| has(record, wanted)))
            .map(|record| Value::clone(record))
            .collect();
        Ok(Response { models })
    }
}

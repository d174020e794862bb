//! `models::supports`: has a model a capability? (contract 09 A5)

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::capability::{has, member};
use super::catalog::Catalog;
use super::get::with_model_id;
use crate::bus::{self, Cx, Function};
use crate::error::{Error, Result};

/// `models::supports`.
#[derive(Debug)]
pub(super) struct Supports;

/// Request of `models::supports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Request {
    /// Provider.
    provider: String,
    /// Upstream id.
    model_id: String,
    /// One of the capability strings of contract 09 A4.
    capability: String,
}

/// Response of `models::supports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Response {
    /// False also for a model that nobody registered.
    supported: bool,
}

impl Function for Supports {
    const ID: &'static str = "models::supports";
    const DESCRIPTION: &'static str =
        "Check whether a provider-registered model supports a capability (false when unknown).";
    const REQUIRED: &'static [&'static str] = &["provider", "model_id", "capability"];
    type State = Catalog;
    type Request = Request;
    type Response = Response;

    fn decode(payload: Value) -> Result<Request> {
        bus::decode(with_model_id(payload), Self::REQUIRED, false)
    }

    async fn call(cx: &Cx<Catalog>, request: Request) -> Result<Response> {
        let Some(member) = member(&request.capability) else {
            return Err(Error::invalid("missing or unknown capability"));
        };
        let record = Catalog::get(cx, &request.provider, &request.model_id).await;
        Ok(Response {
            supported: record.is_some_and(|record| has(&record, member)),
        })
    }
}

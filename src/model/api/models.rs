//! `models::*` as the other workers use them (contract 09 part A).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contract;
use crate::model::ProviderId;
use crate::model::catalog::Model;

contract!(
    /// `models::get` (09 A5).
    Get = "models::get", GetRequest => Option<Model>);
contract!(
    /// `models::register` (09 A5). The request is the record itself, verbatim.
    Register = "models::register", Value => RegisterResponse);

/// Request of `models::get`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GetRequest {
    /// Provider.
    pub provider: ProviderId,
    /// Upstream id; later callers say `id`.
    #[serde(alias = "id")]
    pub model_id: String,
}

/// Response of `models::register`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegisterResponse {
    /// State key of the record.
    pub key: String,
    /// False after a removal.
    pub registered: bool,
}

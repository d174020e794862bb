//! `models::register`: writes or removes one record (contract 09 A5).

use serde_json::Value;

use super::catalog::Catalog;
use super::check::check;
use crate::bus::{self, Cx, Function};
use crate::error::Result;
use crate::model::api::models::RegisterResponse;

/// `models::register`.
#[derive(Debug)]
pub(super) struct Register;

impl Function for Register {
    const ID: &'static str = "models::register";
    const DESCRIPTION: &'static str = "Write a model to iii state under models:<provider>:<id>.";
    type State = Catalog;
    type Request = Value;
    type Response = RegisterResponse;

    fn decode(payload: Value) -> Result<Value> {
        bus::decode(payload, &[], false)
    }

    async fn call(cx: &Cx<Catalog>, record: Value) -> Result<RegisterResponse> {
        let target = check(&record)?;
        let response = RegisterResponse {
            key: target.key(),
            registered: !target.removed,
        };
        Catalog::write(cx, target, record).await?;
        Ok(response)
    }
}

//! `harness::provider::register`: a provider declares itself (contract 09 B3).

use serde_json::Value;

use super::{Harness, entry, registry};
use crate::bus::{self, Cx, Function};
use crate::error::{Error, Result};
use crate::model::api::provider::{Ack, Declaration};

/// `harness::provider::register`.
#[derive(Debug)]
pub(super) struct Register;

impl Function for Register {
    const ID: &'static str = "harness::provider::register";
    const DESCRIPTION: &'static str =
        "Self-declare an LLM provider (id, config schema, defaults) into the dynamic harness configuration schema.";
    const REQUIRED: &'static [&'static str] = &["id"];
    type State = Harness;
    type Request = Declaration;
    type Response = Ack;

    fn decode(payload: Value) -> Result<Declaration> {
        bus::decode(payload, Self::REQUIRED, Self::UNWRAP_BODY).map_err(|error| match error {
            Error::Invalid(why) => Error::Invalid(format!("invalid provider declaration: {why}")),
            other => other,
        })
    }

    async fn call(cx: &Cx<Harness>, declaration: Declaration) -> Result<Ack> {
        entry::check(&declaration)?;
        let registry = &cx.state().registry;
        registry.declare(declaration, &cx.config());
        if let Err(error) = registry::publish(cx).await {
            tracing::warn!(%error, "provider declared, but its settings are not in the configuration yet");
            registry.retry_later();
        }
        Ok(Ack { ok: true })
    }
}

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
    const DESCRIPTION: &'static str = "Self-declare an LLM provider (id, config schema, defaults) into the dynamic harness configuration schema.";
    const REQUIRED: &'static [&'static str] = &["id"];
    type State = Harness;
    type Request = Declaration;
    type Response = Ack;

    fn decode(payload: Value) -> Result<Declaration> {
        let payload: Value = bus::decode(payload, &[], false)?;
        // serde would read a list as the members of a struct in their order.
        let is_list = |value: Option<&Value>| value.is_some_and(Value::is_array);
        if is_list(Some(&payload)) || is_list(payload.get("defaults")) {
            return Err(invalid("it and its defaults must be objects"));
        }
        bus::decode(payload, Self::REQUIRED, Self::UNWRAP_BODY).map_err(|error| match error {
            Error::Invalid(why) => invalid(&why),
            other => other,
        })
    }

    async fn call(cx: &Cx<Harness>, declaration: Declaration) -> Result<Ack> {
        entry::check(&declaration)?;
        cx.state().registry.declare(declaration, &cx.config());
        registry::publish_soon(cx).await;
        Ok(Ack { ok: true })
    }
}

fn invalid(why: &str) -> Error {
    Error::invalid(format!("invalid provider declaration: {why}"))
}

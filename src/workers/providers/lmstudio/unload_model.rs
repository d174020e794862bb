//! `provider::lmstudio::unload_model`: takes a model out of the server's memory (contract 08 §8).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::load_model::{Response, readable, text};
use super::memory;
use crate::bus::{Cx, Function};
use crate::error::Result;
use crate::workers::providers::{Host, access};

/// `provider::lmstudio::unload_model`. Answers `{instance_id}`; never fails: what goes wrong is `{ok: false, error}`.
#[derive(Debug)]
pub(super) struct UnloadModel;

/// What it takes; a payload that differs is told so in the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Request(#[schemars(with = "Shape")] Value);

/// Request of `provider::lmstudio::unload_model`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Shape {
    /// The instance, as `load_model` answered it.
    instance_id: String,
}

impl Function for UnloadModel {
    const ID: &'static str = "provider::lmstudio::unload_model";
    const DESCRIPTION: &'static str = "Unload an LM Studio model instance via POST /api/v1/models/unload.";
    type State = Host;
    type Request = Request;
    type Response = Response;

    fn decode(payload: Value) -> Result<Request> {
        Ok(Request(readable(payload)))
    }

    async fn call(cx: &Cx<Host>, request: Request) -> Result<Response> {
        let unload = async {
            let instance = text(&request.0, "instance_id")?;
            memory::unload(access::door(cx).await?, instance).await
        };
        Ok(Response::of(unload.await))
    }
}

//! `provider::<id>::stream`, `::complete` and `::refresh_models`: one implementation for every provider, registered
//! under each one's ids (contract 08 §2, §3, §10).

use serde_json::Value;

use super::protocol::Call;
use super::{Host, discovery, driver};
use crate::bus::{self, Cx, Function};
use crate::error::{Error, Result};
use crate::model::AgentMessage;
use crate::model::api::provider::{
    CompleteRequest, Direction, RefreshResponse, StreamRequest, StreamResponse,
};

/// `provider::<id>::stream`: one turn into the caller's channel.
///
/// Answers `{ok: true}` once the channel is closed, also for a failed turn: success is told in the channel only.
///
/// # Errors
/// The request is invalid, or the channel cannot be opened; nothing was written then.
#[derive(Debug)]
pub(super) struct Stream;

impl Function for Stream {
    const ID: &'static str = "provider::<id>::stream";
    const DESCRIPTION: &'static str = "";
    const REQUIRED: &'static [&'static str] = &["model"];
    type State = Host;
    type Request = StreamRequest;
    type Response = StreamResponse;

    async fn call(cx: &Cx<Host>, request: StreamRequest) -> Result<StreamResponse> {
        let channel = request.writer_ref.clone();
        if channel.direction != Direction::Write {
            return Err(Error::invalid("writer_ref: direction must be write"));
        }
        let writer = cx.bus().open_writer(&channel).await?;
        // Dropping the writer closes the channel, after the terminal event.
        driver::run(cx, &Call::from(request), Some(&writer)).await;
        drop(writer);
        Ok(StreamResponse {
            ok: true,
            status: None,
        })
    }
}

/// `provider::<id>::complete`: the same turn, drained; answers its final message.
///
/// # Errors
/// No model, no credential, or an unreadable registry. Upstream failures are messages with `stop_reason: "error"`.
#[derive(Debug)]
pub(super) struct Complete;

impl Function for Complete {
    const ID: &'static str = "provider::<id>::complete";
    const DESCRIPTION: &'static str = "";
    const REQUIRED: &'static [&'static str] = &["model"];
    type State = Host;
    type Request = CompleteRequest;
    type Response = AgentMessage;

    async fn call(cx: &Cx<Host>, request: CompleteRequest) -> Result<AgentMessage> {
        match driver::complete(cx, &Call::from(request)).await {
            Ok(message) => Ok(AgentMessage::Assistant(message.as_ref().clone())),
            Err(failure) => Err(Error::Unavailable(failure.message)),
        }
    }
}

/// `provider::<id>::refresh_models`: the upstream listing into the catalog. The request is ignored; never fails.
#[derive(Debug)]
pub(super) struct RefreshModels;

impl Function for RefreshModels {
    const ID: &'static str = "provider::<id>::refresh_models";
    const DESCRIPTION: &'static str = "";
    type State = Host;
    type Request = Value;
    type Response = RefreshResponse;

    fn decode(payload: Value) -> Result<Value> {
        bus::dismantle(payload);
        Ok(Value::Null)
    }

    async fn call(cx: &Cx<Host>, _: Value) -> Result<RefreshResponse> {
        Ok(RefreshResponse {
            registered: discovery::refresh(cx).await,
        })
    }
}

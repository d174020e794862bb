//! Which provider serves a run, and the call of its `stream` function (contract 02 §5.3, §5.4).

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::record::TurnRecord;
use super::request::RunRequest;
use super::session::Session;
use crate::bus::{CallOptions, provider};
use crate::error::Result;
use crate::model::api::provider::{ChannelRef, Stream, StreamRequest, StreamResponse};
use crate::model::route::Route;
use crate::model::{AgentFunction, RawMessage, ThinkingLevel};

/// The provider's call outlives any single frame; silence between frames is what ends it.
const WHOLE_STREAM: Duration = Duration::from_hours(24);

/// Routes the request of a run.
pub(super) async fn route_of(session: &Session, request: &RunRequest) -> Route {
    let routed = provider::route(
        session.cx.bus(),
        session.cx.context(),
        &request.provider,
        &request.model,
    );
    routed.await.unwrap_or_else(|error| {
        tracing::debug!(session_id = %session.id, %error, "provider not found");
        Route::Unknown(request.provider.clone())
    })
}

/// What is asked of a provider.
pub(super) struct Call<'a> {
    pub(super) function: String,
    pub(super) request: &'a RunRequest,
    pub(super) messages: Vec<RawMessage>,
    pub(super) tools: Vec<AgentFunction>,
}

/// Begins the call; it goes on while its events are read.
pub(super) fn start(
    session: &Session,
    record: &TurnRecord,
    call: Call<'_>,
    writer_ref: ChannelRef,
) -> BoxFuture<'static, Result<StreamResponse>> {
    let request = StreamRequest {
        writer_ref,
        model: call.request.model.clone(),
        messages: call.messages,
        system_prompt: (!call.request.system_prompt.is_empty()).then(|| call.request.system_prompt.clone()),
        tools: call.tools,
        thinking_level: call
            .request
            .thinking_level
            .filter(|level| *level != ThinkingLevel::Off),
        max_output_tokens: None,
        model_meta: record.model_meta.clone(),
        resolution_key: Some(record.started_at_ms.into()),
    };
    let (bus, context) = (session.cx.bus().clone(), session.cx.context().clone());
    let options = CallOptions {
        timeout: Some(WHOLE_STREAM),
        cancel: Some(session.stop.token()),
        ..CallOptions::default()
    };
    let function = call.function;
    async move {
        bus.call_named::<Stream>(&context, &function, request, options)
            .await
    }
    .boxed()
}

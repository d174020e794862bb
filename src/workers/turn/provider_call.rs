//! Which provider serves a run, and the call of its `stream` function (contract 02 §5.3, §5.4).

use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join, join_all};
use serde_json::Value;

use super::record::TurnRecord;
use super::request::RunRequest;
use super::routing::{self, Route};
use super::session::Session;
use crate::bus::{CallOptions, ChannelOptions, ChannelReader};
use crate::error::{Error, Result};
use crate::model::api::provider::{
    self, ChannelRef, Direction, Empty, Stream, StreamRequest, StreamResponse,
};
use crate::model::{AgentFunction, RawMessage, ThinkingLevel};

/// The provider's call outlives any single frame; silence between frames is what ends it.
const WHOLE_STREAM: Duration = Duration::from_hours(24);
const REGISTRY_MS: u64 = 5_000;

/// Routes the request of a run.
pub(super) async fn route_of(session: &Session, request: &RunRequest) -> Route {
    let name = request.provider.as_str();
    let hosts = |provider: &str| session.cx.bus().hosts(&stream_of(provider));
    let mut known = Vec::new();
    if routing::needs_lookup(name) && !hosts(name) {
        let spellings = [name.to_owned(), name.to_lowercase()];
        let (declared, on_the_bus) = join(
            session.call::<provider::List>(Empty {}, REGISTRY_MS),
            join_all(spellings.iter().map(|spelling| has_stream(session, spelling))),
        )
        .await;
        let declared = declared.map(|list| list.providers).unwrap_or_default();
        for (spelling, on_the_bus) in spellings.into_iter().zip(on_the_bus) {
            if on_the_bus || declared.iter().any(|row| *row.id == *spelling) {
                known.push(spelling);
            }
        }
    }
    routing::route(name, &request.model, |spelling| {
        hosts(spelling) || known.iter().any(|known| known == spelling)
    })
}

fn stream_of(provider: &str) -> String {
    format!("provider::{provider}::stream")
}

async fn has_stream(session: &Session, provider: &str) -> bool {
    let id = stream_of(provider);
    if session.cx.bus().hosts(&id) {
        return true;
    }
    let info = serde_json::json!({ "function_id": id });
    session
        .invoke("engine::functions::info", info, REGISTRY_MS)
        .await
        .is_ok()
}

/// What is asked of a provider.
pub(super) struct Call<'a> {
    pub(super) function: String,
    pub(super) request: &'a RunRequest,
    pub(super) messages: Vec<RawMessage>,
    pub(super) tools: Vec<AgentFunction>,
}

/// A channel for a provider: inside the process when the provider is, else one of the engine.
pub(super) async fn open_channel(
    session: &Session,
    function: &str,
    slim: bool,
) -> Result<(ChannelRef, ChannelReader)> {
    let bus = session.cx.bus();
    let (writer, reader) = if bus.hosts(function) {
        let pair = bus.create_channel(ChannelOptions {
            slim,
            ..ChannelOptions::default()
        });
        (pair.writer, pair.reader)
    } else {
        let mut pair = session
            .invoke("engine::channels::create", serde_json::json!({}), REGISTRY_MS)
            .await?;
        (
            channel_end(&mut pair, "writer", Direction::Write)?,
            channel_end(&mut pair, "reader", Direction::Read)?,
        )
    };
    Ok((writer, bus.open_reader(&reader).await?))
}

fn channel_end(pair: &mut Value, end: &str, direction: Direction) -> Result<ChannelRef> {
    let reference = pair.get_mut(end).map(Value::take).unwrap_or_default();
    serde_json::from_value(reference)
        .map(|reference| ChannelRef {
            direction,
            ..reference
        })
        .map_err(|error| Error::Unavailable(format!("unexpected {end} of a channel: {error}")))
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

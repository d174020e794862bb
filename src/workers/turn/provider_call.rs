//! Which provider serves a run, and the call of its `stream` function (contract 02 §5.3, §5.4).

use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join, try_join_all};
use serde_json::Value;

use super::dispatch::while_booting;
use super::record::TurnRecord;
use super::request::RunRequest;
use super::routing::{self, Route};
use super::session::Session;
use crate::bus::{CallOptions, ChannelOptions, ChannelReader};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::api::provider::{
    self, ChannelRef, Direction, Empty, Stream, StreamRequest, StreamResponse,
};
use crate::model::{AgentFunction, RawMessage, ThinkingLevel};

/// The provider's call outlives any single frame; silence between frames is what ends it.
const WHOLE_STREAM: Duration = Duration::from_hours(24);
const REGISTRY_MS: u64 = 5_000;
/// After this a driver begins no further attempt and has read why the one before was refused.
const BEFORE_LAST_ATTEMPT_MS: u64 = 150_000;
const A_LITTLE_MS: u64 = 10_000;
/// Codes with which an engine says that there is no such function, or none for us (contract 00 §9); the last one is that of
/// an engine without introspection.
const NO_SUCH: [&str; 4] = [
    "NOT_FOUND",
    "FORBIDDEN",
    "INVALID_ARGUMENTS",
    "function_not_found",
];

/// Routes the request of a run. After a restart a provider that is not known yet is waited for.
///
/// # Errors
/// It cannot be told now whether there is such a provider.
pub(super) async fn route_of(session: &Session, request: &RunRequest) -> Result<Route> {
    let name = request.provider.as_str();
    let bus = session.cx.bus();
    let mut known = Vec::new();
    if routing::needs_lookup(name) && !bus.hosts(&stream_of(name)) {
        let found = while_booting(session.cx.state(), |_| true, || look_up(session, name)).await;
        known = match found {
            Ok(known) => known,
            Err(error) if error.is_function_not_found() => Vec::new(),
            Err(error) => {
                return Err(Error::Transient(format!(
                    "provider {name} cannot be looked up: {error}"
                )));
            }
        };
    }
    Ok(routing::route(name, &request.model, |spelling| {
        bus.hosts(&stream_of(spelling)) || known.iter().any(|known| known == spelling)
    }))
}

fn stream_of(provider: &str) -> String {
    format!("provider::{provider}::stream")
}

/// The spellings of a name under which there is a provider.
///
/// # Errors
/// None, as [`Error::FunctionNotFound`]; or it cannot be told.
async fn look_up(session: &Session, name: &str) -> Result<Vec<String>> {
    let mut spellings = vec![name.to_owned(), name.to_lowercase()];
    spellings.dedup();
    let (declared, on_the_bus) = join(
        session.call::<provider::List>(Empty {}, REGISTRY_MS),
        try_join_all(spellings.iter().map(|spelling| has_stream(session, spelling))),
    )
    .await;
    let declared = match declared {
        Err(error) if error.is_function_not_found() => Vec::new(),
        list => list?.providers,
    };
    let mut on_the_bus = on_the_bus?.into_iter();
    spellings.retain(|spelling| {
        on_the_bus.next() == Some(true) || declared.iter().any(|row| *row.id == **spelling)
    });
    if spellings.is_empty() {
        return Err(Error::FunctionNotFound(stream_of(name)));
    }
    Ok(spellings)
}

async fn has_stream(session: &Session, provider: &str) -> Result<bool> {
    let id = stream_of(provider);
    if session.cx.bus().hosts(&id) {
        return Ok(true);
    }
    let info = serde_json::json!({ "function_id": id });
    match session.invoke("engine::functions::info", info, REGISTRY_MS).await {
        Ok(_) => Ok(true),
        Err(error) if NO_SUCH.contains(&error.wire_code()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// How long a provider may say nothing. Not shorter than what our own drivers allow upstream: they end the turn with a
/// better text (contract 02 §5.4).
pub(super) fn longest_silence(config: &Config, provider: &str) -> Duration {
    let limits = &config.provider;
    let own = routing::is_built_in(provider).then(|| {
        let headers = match provider {
            "llamacpp" => config.provider_llamacpp.headers_timeout_ms,
            _ => limits.headers_timeout_ms,
        };
        let idle = match provider {
            "llamacpp" | "lmstudio" => limits.local_idle_timeout_ms,
            _ => limits.idle_timeout_ms,
        };
        headers
            .saturating_add(BEFORE_LAST_ATTEMPT_MS)
            .max(idle.saturating_add(A_LITTLE_MS))
    });
    Duration::from_millis(config.turn.stream_timeout_ms.max(own.unwrap_or(0)))
}

/// What is asked of a provider.
pub(super) struct Call<'a> {
    pub(super) function: String,
    /// How long it may say nothing.
    pub(super) silence: Duration,
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
    let (cx, function) = (session.cx.clone(), call.function);
    let options = CallOptions {
        timeout: Some(WHOLE_STREAM),
        cancel: Some(session.stop.token()),
        ..CallOptions::default()
    };
    async move {
        let (bus, context) = (cx.bus(), cx.context());
        if bus.hosts(&function) || !cx.state().is_booting() {
            return bus
                .call_named::<Stream>(context, &function, request, options)
                .await;
        }
        let ask = || bus.call_named::<Stream>(context, &function, request.clone(), options.clone());
        while_booting(cx.state(), |error| error.is_missing(&function), ask).await
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn c02_5_4_the_turn_is_more_patient_than_a_driver_of_ours() {
        let mut config = Config::default();
        let silence = |config: &Config, provider: &str| longest_silence(config, provider).as_millis();
        for provider in ["openai", "lmstudio", "llamacpp", "far"] {
            assert_eq!(
                silence(&config, provider),
                300_000,
                "{provider}: the default is enough"
            );
        }
        config.turn.stream_timeout_ms = 1_000;
        assert_eq!(silence(&config, "far"), 1_000);
        assert_eq!(silence(&config, "openai"), 270_000);
        config.provider.idle_timeout_ms = 400_000;
        config.provider.local_idle_timeout_ms = 600_000;
        config.provider_llamacpp.headers_timeout_ms = 900_000;
        assert_eq!(silence(&config, "openai"), 410_000);
        assert_eq!(silence(&config, "lmstudio"), 610_000);
        assert_eq!(silence(&config, "llamacpp"), 1_050_000);
    }
}

//! Which provider serves a run, and the call of its `stream` function (contract 02 §5.3, §5.4).

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::dispatch::while_booting;
use super::record::TurnRecord;
use super::request::RunRequest;
use super::session::Session;
use crate::bus::{CallOptions, provider};
use crate::config::Config;
use crate::error::Result;
use crate::model::api::provider::{ChannelRef, Stream, StreamRequest, StreamResponse};
use crate::model::route::{self, Route};
use crate::model::{AgentFunction, RawMessage, ThinkingLevel};

/// The provider's call outlives any single frame; silence between frames is what ends it.
const WHOLE_STREAM: Duration = Duration::from_hours(24);
/// After this a driver begins no further attempt and has read why the one before was refused.
const BEFORE_LAST_ATTEMPT_MS: u64 = 150_000;
const A_LITTLE_MS: u64 = 10_000;

/// Routes the request of a run. After a restart a provider that is not known yet is waited for.
///
/// # Errors
/// It cannot be told now whether there is such a provider.
pub(super) async fn route_of(session: &Session, request: &RunRequest) -> Result<Route> {
    let (bus, context, name) = (session.cx.bus(), session.cx.context(), request.provider.as_str());
    let ask = || provider::known(bus, context, name);
    let known = while_booting(session.cx.state(), |_| true, ask).await;
    provider::route(bus, name, &request.model, known)
}

/// How long a provider may say nothing. Not shorter than what our own drivers allow upstream: they end the turn with a
/// better text (contract 02 §5.4).
pub(super) fn longest_silence(config: &Config, provider: &str) -> Duration {
    let limits = &config.provider;
    let own = route::is_built_in(provider).then(|| {
        let headers = match provider {
            "llamacpp" => config.provider_llamacpp.headers_timeout_ms,
            _ => limits.headers_timeout_ms,
        };
        let idle = match provider {
            "llamacpp" | "lmstudio" => limits.local_idle_timeout_ms,
            _ => limits.idle_timeout_ms,
        };
        let queue = if config.provider_limits(provider).is_any() {
            limits.queue_timeout_ms
        } else {
            0
        };
        headers
            .saturating_add(BEFORE_LAST_ATTEMPT_MS)
            .saturating_add(queue)
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
    /// Catalog record of the model, when it is known.
    pub(super) model_meta: Option<Map<String, Value>>,
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
        model_meta: call.model_meta,
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
        config.provider_openai.max_concurrent = Some(1);
        assert_eq!(silence(&config, "openai"), 330_000);
        config.provider_openai.max_concurrent = None;
        config.provider.idle_timeout_ms = 400_000;
        config.provider.local_idle_timeout_ms = 600_000;
        config.provider_llamacpp.headers_timeout_ms = 900_000;
        assert_eq!(silence(&config, "openai"), 410_000);
        assert_eq!(silence(&config, "lmstudio"), 610_000);
        assert_eq!(silence(&config, "llamacpp"), 1_050_000);
    }
}

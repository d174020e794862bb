//! The attempts of a turn: each is one request, and its answer.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::header::CONTENT_TYPE;
use tokio::time::Instant;

use super::reading::Reading;
use super::retry;
use super::{Stop, unheard};
use crate::bus::Cx;
use crate::http;
use crate::model::{ErrorKind, StopReason};
use crate::workers::providers::access::{Access, Secret};
use crate::workers::providers::assembly::Assembly;
use crate::workers::providers::failure::{Failure, Retry, excerpt, message_of_body};
use crate::workers::providers::outbox::Outbox;
use crate::workers::providers::protocol::{Call, Encoded, ModelFacts};
use crate::workers::providers::sse::Broken;
use crate::workers::providers::throttle::Place;
use crate::workers::providers::{Host, limits, overflow};

/// An error body is read this far, this long.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;
const ERROR_BODY_TIME: Duration = Duration::from_secs(10);
/// A whole answer that was not streamed.
const MAX_WHOLE_BODY_BYTES: usize = 8 * 1024 * 1024;

/// A turn whose credential is known not to be missing.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    cx: &'a Cx<Host>,
    call: &'a Call,
    access: Access,
    client: reqwest::Client,
}

impl<'a> Turn<'a> {
    pub(super) fn new(cx: &'a Cx<Host>, call: &'a Call, access: Access) -> Result<Self, Failure> {
        let connect = Duration::from_millis(cx.config().provider.connect_timeout_ms);
        let client = cx.state().clients.for_url(&access.url, connect);
        let client = client.map_err(|error| Failure::transient(error.to_string()))?;
        Ok(Self {
            cx,
            call,
            access,
            client,
        })
    }

    /// Attempts until one succeeds, something was passed on, or another one makes no sense.
    pub(super) async fn attempts(
        &self,
        assembly: &mut Assembly,
        outbox: &mut Outbox<'_>,
    ) -> Result<StopReason, Stop> {
        let provider = &self.cx.state().provider;
        let id = provider.model_id(self.call, &self.access, &self.client).await;
        assembly.set_model(&id);
        let model = limits::facts(self.cx, self.call, &self.access, id).await;
        assembly.set_price(model.price.clone());
        let encoded = provider.encode(self.call, &model).map_err(Stop::Failed)?;
        let began = Instant::now();
        let retries = self.cx.config().provider.max_retries;
        let mut pauses = retry::pauses(retries, &self.cx.uuid());
        let mut repaired = false;
        loop {
            let failure = match self.attempt(&encoded, &model, assembly, outbox).await {
                Err(Stop::Failed(failure)) if !assembly.has_content() => failure,
                outcome => return outcome,
            };
            if let Some(repair) = provider.repair(&failure, &model, &self.access, &self.client) {
                if std::mem::replace(&mut repaired, true) {
                    return Err(Stop::Failed(failure));
                }
                repair.await.map_err(Stop::Failed)?;
                assembly.reset();
                continue;
            }
            let pause = retry::pause_before_next(&failure, pauses.next(), began.elapsed());
            let pause = pause.map_err(|why| Stop::Failed(failure.noted(&why)))?;
            tracing::info!(
                provider = provider.spec().id,
                kind = ?failure.kind,
                pause_ms = pause.as_millis(),
                "provider attempt failed; trying again"
            );
            tokio::time::sleep(pause).await;
            assembly.reset();
        }
    }

    async fn attempt(
        &self,
        encoded: &Encoded,
        model: &ModelFacts,
        assembly: &mut Assembly,
        outbox: &mut Outbox<'_>,
    ) -> Result<StopReason, Stop> {
        let _place = self.place().await.map_err(Stop::Failed)?;
        let response = self.send(encoded, model).await.map_err(Stop::Failed)?;
        outbox.start(assembly).await.map_err(unheard)?;
        let content_type = content_type(&response);
        let settings = self.cx.state().provider.settings(&self.cx.config());
        let idle = settings.idle_timeout;
        let body = if content_type.starts_with("application/json") {
            let whole = http::body_up_to(response, MAX_WHOLE_BODY_BYTES, idle).await;
            stream::iter([Ok(as_event(whole))]).boxed()
        } else {
            let chunks = response.bytes_stream();
            chunks
                .map(|chunk| chunk.map_err(|error| Broken::Read(http::explain(error))))
                .boxed()
        };
        let mut reading = Reading {
            decoder: (encoded.decoder)(),
            assembly,
            outbox,
        };
        let outcome = reading.read(body, idle).await;
        outcome.map_err(|stop| match stop {
            Stop::Failed(failure) if failure.is_not_sse() => {
                Stop::Failed(failure.noted(&format!(" ({content_type})")))
            }
            stop => stop,
        })
    }

    /// Waits until one more request is allowed, but not for ever.
    async fn place(&self) -> Result<Place<'_>, Failure> {
        let host = self.cx.state();
        let id = host.provider.spec().id;
        let limit = Duration::from_millis(self.cx.config().provider.queue_timeout_ms);
        let place = host.throttle.enter(|| self.cx.config().provider_limits(id));
        tokio::time::timeout(limit, place).await.map_err(|_| {
            let limit = limit.as_millis();
            let text = format!(
                "{id} is at its own limits: no place within {limit} ms (provider_{id} in the configuration)"
            );
            Failure::new(ErrorKind::RateLimited, text)
        })
    }

    /// Sends the request and takes the answer's head.
    async fn send(&self, encoded: &Encoded, model: &ModelFacts) -> Result<reqwest::Response, Failure> {
        let provider = &self.cx.state().provider;
        let id = provider.spec().id;
        let limit = provider.settings(&self.cx.config()).headers_timeout;
        let request = self
            .client
            .post(self.access.url.clone())
            .headers(provider.headers(&self.access)?)
            .headers(encoded.headers.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(encoded.body.clone());
        let response = match tokio::time::timeout(limit, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                // The client has no other limit than that for the connection.
                let message = if error.is_timeout() {
                    let limit = self.cx.config().provider.connect_timeout_ms;
                    format!("{id} fetch failed: timed out: no connection within {limit} ms")
                } else {
                    format!("{id} fetch failed: {}", http::explain(error))
                };
                return Err(Failure::transient(message).retryable());
            }
            Err(_) => {
                let message = format!("{id} timed out: no answer within {} ms", limit.as_millis());
                return Err(Failure::transient(message));
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response, encoded.body.len(), model).await)
    }

    async fn refused(
        &self,
        response: reqwest::Response,
        request_bytes: usize,
        model: &ModelFacts,
    ) -> Failure {
        let status = response.status();
        let asked_wait = http::retry_after(response.headers(), self.cx.now_ms());
        let body = http::body_up_to(response, MAX_ERROR_BODY_BYTES, ERROR_BODY_TIME).await;
        let body = String::from_utf8(body)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        let provider = &self.cx.state().provider;
        let id = provider.spec().id;
        let mut message = message_of_body(&body);
        if provider.is_local() {
            message = excerpt(&message, self.access.secret.as_ref().map(Secret::text));
        }
        if message.trim().is_empty() {
            message = format!("{id} http {}", status.as_u16());
        }
        let mut failure = Failure::new(overflow::kind_of_answer(status, &body), message);
        if overflow::is_silent(status, &body, request_bytes, model) {
            failure.kind = ErrorKind::ContextOverflow;
            failure.message.push_str(" (the prompt may be too long)");
        }
        if overflow::is_worth_a_retry(status, &body) && failure.kind != ErrorKind::ContextOverflow {
            failure.retry = Retry::After(asked_wait.unwrap_or_default());
        }
        failure.whole = Some(body);
        failure
    }
}

/// A body that is one JSON text, as the one event it is: an error that came with a success, or the whole answer of a server
/// that does not stream. Other bodies stay what they are.
fn as_event(body: Vec<u8>) -> Bytes {
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(json) => format!("data: {json}\n\n").into(),
        Err(_) => body.into(),
    }
}

fn content_type(response: &reqwest::Response) -> String {
    let value = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    value.unwrap_or("no content-type").to_owned()
}

//! The HTTP side.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::reply::{Reply, Step};
use super::request::Request;
use super::{Dialect, Shared, check, lock, messages as messages_protocol};

/// Larger than any conversation.
const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

pub(super) async fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let routes = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/messages", post(messages))
        .route("/v1/models", get(models))
        .fallback(other)
        .layer(axum::extract::DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(shared);
    // Each piece of an answer leaves at once, as from any model server; else the kernel waits for more of them.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "small pieces may be held back");
        }
    });
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::warn!(%error, "the scripted model server ended");
    }
}

async fn chat(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(&shared, Dialect::ChatCompletions, headers, &body).await
}

async fn messages(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(&shared, Dialect::Messages, headers, &body).await
}

async fn answer(shared: &Shared, dialect: Dialect, headers: HeaderMap, body: &[u8]) -> Response {
    let request = Request {
        headers,
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
    };
    let found = match dialect {
        Dialect::ChatCompletions => check::violations(&request.body),
        Dialect::Messages => messages_protocol::violations(&request),
    };
    {
        let mut seen = lock(&shared.seen);
        seen.requests.push(request.clone());
        seen.violations.extend(found.iter().cloned());
    }
    let reply = if found.is_empty() {
        (shared.script.answer)(&request)
    } else {
        let error = json!({"message": found.join("; "), "type": "invalid_request_error"});
        Reply::fails(400, json!({ "error": error }).to_string())
    };
    let steps = reply.steps(dialect, request.model(), body.len());
    respond(shared, &reply, steps).await
}

async fn models(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    lock(&shared.seen).listings.push(headers);
    let query = query.unwrap_or_default();
    let mut members = url::form_urlencoded::parse(query.as_bytes());
    let after = members.find_map(|(name, id)| (name == "after_id").then_some(id));
    let page = after.and_then(|id| id.parse::<usize>().ok()).unwrap_or(0);
    let reply = lock(&shared.script.models).get(page).cloned();
    let reply = reply.unwrap_or_else(|| Reply::fails(404, "there is no such page"));
    let steps = reply.steps(Dialect::ChatCompletions, "", 0);
    respond(&shared, &reply, steps).await
}

async fn other(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> Response {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let reply = (shared.script.others)(uri.path(), &body);
    lock(&shared.seen).others.push((uri.path().to_owned(), body));
    let reply = reply.unwrap_or_else(|| Reply::fails(404, ""));
    let steps = reply.steps(Dialect::ChatCompletions, "", 0);
    respond(&shared, &reply, steps).await
}

async fn respond(shared: &Shared, reply: &Reply, steps: Vec<Step>) -> Response {
    let open = Open::new(shared.open.clone());
    if let Some(gate) = &reply.gate {
        gate.wait().await;
    }
    let mut response = Response::new(Body::from_stream(body(steps, open)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &reply.headers {
        let header = (name.parse::<axum::http::HeaderName>(), value.parse());
        if let (Ok(name), Ok(value)) = header {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The steps as a body; `open` lives as long as the connection wants it.
fn body(steps: Vec<Step>, open: Open) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    let steps = stream::iter(steps).flat_map(|step| match step {
        Step::Send(bytes) => stream::iter([Ok(bytes)]).boxed(),
        Step::Wait(gate) => stream::once(async move { gate.wait().await })
            .filter_map(|()| futures::future::ready(None))
            .boxed(),
        Step::Break => stream::iter([Err(std::io::Error::other("broken by the script"))]).boxed(),
        Step::Forever(bytes) => stream::repeat_with(move || Ok(bytes.clone())).boxed(),
    });
    // One piece per turn of the runtime, so that each is written before the next is taken.
    steps.then(move |piece| {
        let _alive = &open;
        async move {
            tokio::task::yield_now().await;
            piece
        }
    })
}

/// Counts a reply that is being sent.
struct Open(watch::Sender<usize>);

impl Open {
    fn new(count: watch::Sender<usize>) -> Self {
        count.send_modify(|open| *open += 1);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

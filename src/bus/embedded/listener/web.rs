//! Functions that are URLs (contract 00 §1.3, `invocation`): the engine sends the payload there, for the worker that
//! registered them and as long as it is connected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::wire::Wire;
use crate::bus::embedded::failed;
use crate::bus::embedded::peer::Link;
use crate::bus::{CallFuture, Invocation};
use crate::error::{Error, Result};
use crate::http::{Answer, Clients, Target};
use crate::model::lenient;
use crate::model::text::clip;

/// Without `timeout_ms`; what SDKs give a call.
const TIMEOUT_MS: u64 = 30_000;

/// Requests to one URL at a time; more wait, within their timeout.
const AT_ONCE: usize = 64;

/// How much of an answer that is a failure is shown, in characters.
const SHOWN: usize = 300;

/// `invocation` of a `registerfunction`.
#[derive(Deserialize)]
struct Given {
    url: String,
    #[serde(default, deserialize_with = "lenient::optional")]
    method: Option<String>,
    #[serde(default, deserialize_with = "lenient::optional")]
    timeout_ms: Option<u64>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    auth: Option<Value>,
}

/// The way to a function that is a URL.
pub(super) struct WebLink {
    /// Or why it cannot be called.
    place: Result<Arc<Place>, String>,
    wire: Arc<Wire>,
    clients: Arc<Clients>,
}

struct Place {
    target: Target,
    timeout: Duration,
    free: Semaphore,
}

impl WebLink {
    pub(super) fn new(given: Value, wire: Arc<Wire>, clients: Arc<Clients>) -> Self {
        Self {
            place: Place::read(given).map(Arc::new),
            wire,
            clients,
        }
    }
}

impl Place {
    fn read(given: Value) -> Result<Self, String> {
        let given: Given = serde_json::from_value(given).map_err(|error| error.to_string())?;
        if given.auth.is_some_and(|auth| !auth.is_null()) {
            // It names a variable of the engine's environment, which holds keys that are none of a worker's business.
            return Err("auth is not offered, put what the server wants into headers".to_owned());
        }
        let method = given.method.as_deref().unwrap_or("POST");
        Ok(Self {
            target: Target::new(method, &given.url, &given.headers)?,
            timeout: Duration::from_millis(given.timeout_ms.unwrap_or(TIMEOUT_MS)),
            free: Semaphore::new(AT_ONCE),
        })
    }

    async fn call(&self, clients: &Clients, invocation: Invocation, most_bytes: usize) -> Result<Value> {
        let Invocation {
            function_id,
            payload,
            context,
        } = invocation;
        let unavailable = |why: String| Error::Unavailable(format!("{function_id}: {why}"));
        let body = serde_json::to_vec(&payload).map_err(|error| unavailable(error.to_string()))?;
        let baggage = context.baggage.render(&function_id);
        let beside = [
            ("traceparent", context.traceparent.as_deref()),
            ("baggage", baggage.as_deref()),
        ];
        let exchange = async {
            let _place = self.free.acquire().await.map_err(|_| Error::Stopped)?;
            let exchange = self.target.exchange(clients, body, &beside, most_bytes);
            exchange.await.map_err(unavailable)
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => read(&function_id, &answer?),
            Err(_) => Err(Error::Timeout {
                function: function_id.to_string(),
                after_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }
}

/// JSON, or else text; nothing is null.
fn read(function_id: &str, answer: &Answer) -> Result<Value> {
    let text = String::from_utf8_lossy(&answer.body);
    if !answer.is_success {
        let shown = clip(&text, SHOWN);
        let why = format!("{function_id}: HTTP {}: {shown}", answer.status);
        return Err(Error::coded("invocation_failed", why));
    }
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text)))
}

impl Link for WebLink {
    fn call(&self, invocation: Invocation) -> CallFuture {
        let place = match &self.place {
            Ok(place) => Arc::clone(place),
            Err(why) => {
                let why = format!("Function {} cannot be called: {why}", invocation.function_id);
                return failed(Error::coded("function_not_invokable", why));
            }
        };
        let (wire, clients) = (Arc::clone(&self.wire), Arc::clone(&self.clients));
        async move {
            tokio::select! {
                outcome = place.call(&clients, invocation, wire.message_bytes()) => outcome,
                () = wire.over() => Err(Error::Stopped),
            }
        }
        .boxed()
    }
}

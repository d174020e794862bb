//! The yardstick: an HTTP client that makes the same model call and reads the same events to their end, nothing else.

use std::time::Duration;

use bytes::Bytes;
use eventsource_stream::Eventsource;
use futures::StreamExt;
use serde_json::Value;

/// A client with a connection pool, as the program's own.
#[derive(Clone)]
pub(crate) struct Bare {
    client: reqwest::Client,
    url: String,
    body: Bytes,
}

impl Bare {
    /// `request` is what the program sent for the same call.
    pub(crate) fn new(url: String, request: &Value) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .expect("an HTTP client");
        Self {
            client,
            url,
            body: request.to_string().into(),
        }
    }

    /// One model call; `seen` gets the data of each event.
    pub(crate) async fn call(&self, mut seen: impl FnMut(&str)) {
        let response = self
            .client
            .post(&self.url)
            .bearer_auth("not-a-secret")
            .header("anthropic-version", "2023-06-01")
            .header("content-type", "application/json")
            .body(self.body.clone())
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .expect("an answer");
        let mut events = response.bytes_stream().eventsource();
        let mut done = false;
        while let Some(event) = events.next().await {
            let event = event.expect("an event");
            done |= event.data == "[DONE]" || event.data.contains("message_stop");
            seen(&event.data);
        }
        assert!(done, "the answer was cut");
    }
}

//! A worker on the official Rust SDK whose handlers hand their calls to the test.

use futures::FutureExt;
use futures::future::BoxFuture;
use iii_sdk::channel::ChannelReader;
use iii_sdk::errors::Error;
use iii_sdk::protocol::{RegisterTriggerInput, TriggerRequest};
use iii_sdk::runtime::{FunctionRef, WorkerMetadata};
use iii_sdk::{IIIClient, InitOptions, RegisterFunction, register_worker};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::engine::within;

/// A worker.
pub(super) struct Worker {
    pub(super) sdk: IIIClient,
}

/// Values that come from a handler.
pub(super) struct Inbox(mpsc::Receiver<Value>);

impl Worker {
    pub(super) fn join(url: &str, name: &str) -> Self {
        Self::with(url, name, |_| {})
    }

    pub(super) fn with(url: &str, name: &str, change: impl FnOnce(&mut InitOptions)) -> Self {
        let mut options = InitOptions {
            metadata: Some(WorkerMetadata {
                name: name.to_owned(),
                description: Some("A test client".to_owned()),
                ..WorkerMetadata::default()
            }),
            ..InitOptions::default()
        };
        // It is global to the process, which is that of all tests.
        options.otel.get_or_insert_default().enabled = Some(false);
        change(&mut options);
        Self {
            sdk: register_worker(url, options),
        }
    }

    /// Registers a function that shows its calls, each as `[request, metadata]`.
    pub(super) fn serve(
        &self,
        id: &str,
        change: impl FnOnce(RegisterFunction) -> RegisterFunction,
        answer: impl Fn(&Value) -> Result<Value, Error> + Send + Sync + 'static,
    ) -> (FunctionRef, Inbox) {
        let (sender, receiver) = mpsc::channel(1024);
        let handler =
            move |request: Value, metadata: Option<Value>| -> BoxFuture<'static, Result<Value, Error>> {
                let answer = answer(&request);
                let told = sender.try_send(json!([request, metadata]));
                async move {
                    told.map_err(|error| Error::Runtime(error.to_string()))?;
                    answer
                }
                .boxed()
            };
        let function = self
            .sdk
            .register_function(id, change(RegisterFunction::new_async(handler)));
        (function, Inbox(receiver))
    }

    /// A function that answers null.
    pub(super) fn record(&self, id: &str) -> Inbox {
        self.serve(id, |function| function, |_| Ok(Value::Null)).1
    }

    #[expect(
        deprecated,
        reason = "what replaces it needs a feature that engines of today do not have"
    )]
    pub(super) fn bind(&self, trigger_type: &str, function_id: &str, config: Value) {
        let binding = RegisterTriggerInput::new(trigger_type, function_id, config);
        self.sdk.register_trigger(binding).unwrap();
    }

    pub(super) async fn call(&self, id: &str, payload: Value) -> Result<Value, Error> {
        within(self.sdk.trigger(TriggerRequest::new(id, payload))).await
    }

    pub(super) async fn ok(&self, id: &str, payload: Value) -> Value {
        self.call(id, payload).await.unwrap()
    }

    /// Code and message of a call that must fail.
    pub(super) async fn error(&self, id: &str, payload: Value) -> Value {
        failure(self.call(id, payload).await)
    }

    /// Leaves, and waits for the end of the connection.
    pub(super) async fn leave(self) {
        tokio::task::spawn_blocking(move || self.sdk.shutdown())
            .await
            .unwrap();
    }
}

impl Inbox {
    /// The request and the metadata of the next call.
    pub(super) async fn call(&mut self) -> Value {
        within(self.0.recv()).await.unwrap()
    }

    pub(super) async fn next(&mut self) -> Value {
        self.call().await[0].take()
    }

    pub(super) async fn until(
        &mut self,
        take: impl Fn(Value) -> Value,
        wanted: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let mut taken = Vec::new();
        while !taken.last().is_some_and(&wanted) {
            taken.push(take(self.next().await));
        }
        taken
    }
}

/// The next bytes of a channel; `None` at its end.
pub(super) async fn bytes(reader: &ChannelReader) -> Result<Option<Vec<u8>>, Error> {
    // The SDK's future is large.
    within(reader.next_binary().boxed()).await
}

/// Code and message of an outcome that must be an error of the bus.
pub(super) fn failure(outcome: Result<Value, Error>) -> Value {
    match outcome {
        Err(Error::Remote { code, message, .. }) => json!({ "code": code, "message": message }),
        other => json!({ "unexpected": format!("{other:?}") }),
    }
}

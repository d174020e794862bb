//! A program that is not ours, made with the official SDK.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use harness::bus::{Frame, WeakBus};
use harness::error::{Error, Result};
use harness::model::api::provider::ChannelRef;
use iii_sdk::channel::{ChannelReader, ChannelWriter, StreamChannelRef};
use iii_sdk::protocol::TriggerRequest;
use iii_sdk::{IIIClient, InitOptions, RegisterFunction, WorkerIdentityMode, register_worker};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// A connection of its own.
pub(crate) struct Outsider {
    client: IIIClient,
}

impl Outsider {
    pub(crate) async fn join(engine: SocketAddr) -> Self {
        let mut options = InitOptions {
            identity: WorkerIdentityMode::Explicit,
            ..InitOptions::default()
        };
        // Else it opens a second connection for its traces.
        options.otel.get_or_insert_default().enabled = Some(false);
        let client = register_worker(&format!("ws://{engine}"), options);
        let limit = Duration::from_secs(20);
        client.wait_until_registered(limit).await.unwrap();
        Self { client }
    }

    /// Calls as a worker behind the iii engine does: that engine adds a member to the payload (contract 00 §2.4).
    pub(crate) async fn call(&self, id: &str, mut payload: Value) -> Result<Value> {
        if let Some(members) = payload.as_object_mut() {
            members.insert(CALLER_MEMBER.to_owned(), json!("outsider"));
        }
        let request = TriggerRequest {
            function_id: id.to_owned(),
            payload,
            action: None,
            timeout_ms: None,
        };
        self.client.trigger(request).await.map_err(theirs)
    }

    /// Hosts a function. The engine reads it before anything that is called afterwards.
    pub(crate) fn serve<R>(
        &self,
        id: &str,
        handler: impl Fn(Value, Option<Value>) -> R + Send + Sync + 'static,
    ) where
        R: Future<Output = Result<Value>> + Send + 'static,
    {
        let function = move |payload: Value, metadata: Option<Value>| {
            let answer = handler(payload, metadata);
            async move { answer.await.map_err(|error| ours(&error)) }
        };
        self.client
            .register_function(id, RegisterFunction::new_async(function));
    }

    /// How its functions open the writing end of a channel.
    pub(crate) fn writers(&self) -> Writers {
        Writers::Outside(self.client.address().into())
    }

    /// Reads a channel to its end, or until no more is wanted.
    pub(crate) async fn read_channel(&self, channel: &Value, mut wants_more: impl FnMut(&str) -> bool) {
        let channel: StreamChannelRef = serde_json::from_value(channel.clone()).unwrap();
        let reader = ChannelReader::new(self.client.address(), &channel);
        let (sender, mut texts) = mpsc::channel(10_000);
        let take = move |text| sender.try_send(text).unwrap();
        reader.on_message(take).await;
        let end = async { while let Ok(Some(_)) = reader.next_binary().await {} };
        tokio::pin!(end);
        loop {
            let text = tokio::select! {
                biased;
                Some(text) = texts.recv() => text,
                () = &mut end => break,
            };
            if !wants_more(&text) {
                return;
            }
        }
        while let Ok(text) = texts.try_recv() {
            wants_more(&text);
        }
    }

    pub(crate) async fn leave(&self) {
        self.client.shutdown_async().await;
    }
}

/// Else the SDK's thread would join whatever another test listens with at this address later.
impl Drop for Outsider {
    fn drop(&mut self) {
        self.client.shutdown_async().now_or_never();
    }
}

/// Opens the writing end of channels, from where the test is.
#[derive(Clone)]
pub(crate) enum Writers {
    Inside(WeakBus),
    Outside(Arc<str>),
}

/// A writing end.
pub(crate) enum Writer {
    Inside(harness::bus::ChannelWriter),
    Outside(ChannelWriter),
}

impl Writers {
    pub(crate) async fn open(&self, channel: &Value) -> Result<Writer> {
        match self {
            Self::Inside(bus) => {
                let channel: ChannelRef = serde_json::from_value(channel.clone()).unwrap();
                let bus = bus.upgrade().ok_or(Error::Stopped)?;
                bus.open_writer(&channel).await.map(Writer::Inside)
            }
            Self::Outside(engine) => {
                let channel: StreamChannelRef = serde_json::from_value(channel.clone()).unwrap();
                Ok(Writer::Outside(ChannelWriter::new(engine, &channel)))
            }
        }
    }
}

impl Writer {
    /// # Errors
    /// Nobody reads any more.
    pub(crate) async fn send(&self, text: String) -> Result<()> {
        match self {
            Self::Inside(writer) => writer.send(Frame::Text(text)).await,
            Self::Outside(writer) => writer.send_message(&text).await.map_err(theirs),
        }
    }

    /// # Errors
    /// Nobody reads any more.
    pub(crate) async fn send_bytes(&self, bytes: Vec<u8>) -> Result<()> {
        match self {
            Self::Inside(writer) => writer.send(Frame::Binary(bytes.into())).await,
            Self::Outside(writer) => writer.write(&bytes).await.map_err(theirs),
        }
    }

    pub(crate) async fn close(self) {
        if let Self::Outside(writer) = self {
            writer.close().await.ok();
        }
    }
}

/// The member that the iii engine adds to calls of workers. It must not be kept anywhere.
pub(crate) const CALLER_MEMBER: &str = "_caller_worker_id";

/// An error as it goes over the wire.
fn ours(error: &Error) -> iii_sdk::Error {
    iii_sdk::Error::Remote {
        code: error.wire_code().to_owned(),
        message: error.to_string(),
        stacktrace: None,
    }
}

/// An error as it came over the wire.
fn theirs(error: iii_sdk::Error) -> Error {
    match error {
        iii_sdk::Error::Remote { code, message, .. } => Error::coded(code, message),
        other => Error::Unavailable(other.to_string()),
    }
}

//! The one seam to an engine.

use std::sync::Arc;

use serde_json::Value;

use super::channel::{ChannelReader, ChannelWriter};
use super::context::CallContext;
use super::{Bus, CallFuture};
use crate::error::Error;
use crate::model::FunctionId;
use crate::model::api::provider::ChannelRef;
use crate::model::text::clip;

/// A call that leaves the process, or comes in.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Callee.
    pub function_id: FunctionId,
    /// Its request.
    pub payload: Value,
    /// What travels beside it.
    pub context: CallContext,
}

/// A binding of an event source to a function (contract 00 §3).
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerSpec {
    /// Chosen by us, stable, so that a second registration replaces the first.
    pub id: String,
    /// `state`, `stream`, `configuration`, `cron`, …
    pub trigger_type: String,
    /// What is called.
    pub function_id: FunctionId,
    /// Filter and settings of the source.
    pub config: Value,
    /// Passed as invocation metadata with each event.
    pub metadata: Option<Value>,
}

impl TriggerSpec {
    /// A binding named after its function.
    pub fn new(trigger_type: &str, function_id: &str, config: Value) -> Self {
        Self {
            id: format!("harness/{trigger_type}/{function_id}"),
            trigger_type: trigger_type.to_owned(),
            function_id: function_id.into(),
            config,
            metadata: None,
        }
    }
}

/// One write of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// `state::set`.
    StateSet {
        /// Scope.
        scope: String,
        /// Key.
        key: String,
        /// New value.
        value: Arc<Value>,
    },
    /// `state::delete`.
    StateDelete {
        /// Scope.
        scope: String,
        /// Key.
        key: String,
    },
    /// `stream::set`.
    StreamSet {
        /// Stream.
        stream: String,
        /// Group.
        group: String,
        /// Item.
        item: String,
        /// Data.
        data: Arc<Value>,
    },
}

/// What is behind the bus, for `/readyz` and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// `embedded` or `connect`.
    pub mode: &'static str,
    /// Address or directory.
    pub place: String,
    /// Why it is not usable now.
    pub problem: Option<String>,
}

/// An engine as the bus sees it.
pub trait Transport: Send + Sync + 'static {
    /// Begins to deliver calls and events to the bus. Called once, after the functions are registered. Hold the bus
    /// weakly ([`Bus::downgrade`]): it owns the transport.
    fn start(&self, bus: Bus) -> CallFuture<()>;

    /// Calls a function that this process does not host.
    fn call(&self, invocation: Invocation) -> CallFuture;

    /// Puts a call on a named queue; answers `{messageReceiptId}` once it is stored.
    fn enqueue(&self, queue: &str, invocation: Invocation) -> CallFuture;

    /// Binds a trigger; one with the same id is replaced.
    fn bind(&self, trigger: TriggerSpec) -> CallFuture<()>;

    /// Writes a batch, in order. Embedded: one transaction, queued in the order of the calls to this method, not of the polls
    /// of what it returns. Engine: one write after the other, so put the write that decides behind those it rests on.
    fn commit(&self, writes: Vec<Write>) -> CallFuture<()>;

    /// Opens the writing end of a channel that is not of this process.
    fn open_writer(&self, channel: &ChannelRef) -> CallFuture<ChannelWriter> {
        Box::pin(futures::future::ready(Err(no_channel(channel))))
    }

    /// Opens the reading end of a channel that is not of this process.
    fn open_reader(&self, channel: &ChannelRef) -> CallFuture<ChannelReader> {
        Box::pin(futures::future::ready(Err(no_channel(channel))))
    }

    /// Whether [`commit`](Self::commit) is all or nothing, and nobody but this process can write.
    fn is_exclusive(&self) -> bool;

    /// What it is, and how it fares.
    fn info(&self) -> EngineInfo;

    /// Ends it; acknowledged work is on disk afterwards.
    fn shutdown(&self) -> futures::future::BoxFuture<'static, ()>;
}

fn no_channel(channel: &ChannelRef) -> Error {
    Error::coded(
        "channel_not_found",
        format!("no channel {}", clip(&channel.channel_id, 64)),
    )
}

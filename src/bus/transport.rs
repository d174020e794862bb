//! The one seam to an engine.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde_json::Value;
use tokio::sync::watch;

use super::channel::{ChannelReader, ChannelWriter};
use super::context::CallContext;
use super::function::FunctionDef;
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

/// Whether the engine can be reached now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// No: not yet, not now, or not any more.
    Down,
    /// Yes. Each connection has a higher number than the one before it.
    Up(u64),
}

/// An engine as the bus sees it.
pub trait Transport: Send + Sync + 'static {
    /// Begins to deliver calls and events to the bus. Called once, after the functions are registered. Hold the bus
    /// weakly ([`Bus::downgrade`]): it owns the transport.
    fn start(&self, bus: Bus) -> CallFuture<()>;

    /// Calls a function that this process does not host.
    fn call(&self, invocation: Invocation) -> CallFuture;

    /// Like [`call`](Self::call), for a caller that gives up after `limit`.
    fn call_within(&self, invocation: Invocation, _limit: Duration) -> CallFuture {
        self.call(invocation)
    }

    /// Calls a function without waiting for its answer; what is returned ends when the call is on its way.
    fn notify(&self, invocation: Invocation) -> CallFuture {
        self.call(invocation)
    }

    /// A function was added after the start.
    fn registered(&self, _function: FunctionDef) {}

    /// A function was taken away.
    fn unregistered(&self, _id: &str) {}

    /// Waits until the engine has taken in what was registered and bound so far. What it refused is told by
    /// [`info`](Self::info).
    fn settle(&self) -> CallFuture<()> {
        ready(Ok(())).boxed()
    }

    /// Follows the connection. An engine inside the process has one that never ends: its receiver is closed.
    fn link(&self) -> watch::Receiver<Link> {
        watch::channel(Link::Up(0)).1
    }

    /// Puts a call on a named queue; answers `{messageReceiptId}` once it is stored.
    fn enqueue(&self, queue: &str, invocation: Invocation) -> CallFuture;

    /// Binds a trigger; one with the same id is replaced.
    fn bind(&self, trigger: TriggerSpec) -> CallFuture<()>;

    /// Writes a batch, in order. Embedded: one transaction, queued in the order of the calls to this method, not of the polls
    /// of what it returns. Engine: the last one when all others are stored, so put the write that decides there.
    fn commit(&self, writes: Vec<Write>) -> CallFuture<()>;

    /// Opens the writing end of a channel that is not of this process.
    fn open_writer(&self, channel: &ChannelRef) -> CallFuture<ChannelWriter> {
        ready(Err(no_channel(channel))).boxed()
    }

    /// Opens the reading end of a channel that is not of this process.
    fn open_reader(&self, channel: &ChannelRef) -> CallFuture<ChannelReader> {
        ready(Err(no_channel(channel))).boxed()
    }

    /// Whether [`commit`](Self::commit) is all or nothing, and nobody but this process can write.
    fn is_exclusive(&self) -> bool;

    /// Under which id this process is the one that serves the engine; none while it is not. Who serves an engine that has no
    /// such order is nobody's: the receiver is closed and holds none.
    fn ownership(&self) -> watch::Receiver<Option<Arc<str>>> {
        watch::channel(None).1
    }

    /// What it is, and how it fares.
    fn info(&self) -> EngineInfo;

    /// Parts that it lacks, of `state`, `stream`, `configuration`, `queue` and `cron`; the rest works.
    fn missing(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Ends it; acknowledged work is on disk afterwards.
    fn shutdown(&self) -> BoxFuture<'static, ()>;
}

/// The engine has no such channel, or not with this key.
pub(super) fn no_channel(channel: &ChannelRef) -> Error {
    Error::coded(
        "channel_not_found",
        format!("no channel {}", clip(&channel.channel_id, 64)),
    )
}

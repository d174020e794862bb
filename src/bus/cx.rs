//! All that a handler may touch.

use std::future::Future;
use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::context::{CallContext, CallOptions};
use super::scope::Scope;
use super::{Bus, Ports};
use crate::config::Config;
use crate::error::Result;
use crate::model::api::Contract;

/// Context of one call: the bus, the worker's own memory `S`, and what came with the call.
pub struct Cx<S> {
    bus: Bus,
    state: Arc<S>,
    context: CallContext,
}

impl<S> Clone for Cx<S> {
    fn clone(&self) -> Self {
        Self {
            bus: self.bus.clone(),
            state: Arc::clone(&self.state),
            context: self.context.clone(),
        }
    }
}

impl<S> Cx<S> {
    /// Joins a bus, a worker's memory and a call.
    pub fn new(bus: Bus, state: Arc<S>, context: CallContext) -> Self {
        Self { bus, state, context }
    }

    /// The worker's memory.
    pub fn state(&self) -> &Arc<S> {
        &self.state
    }

    /// The bus.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// What came with the call.
    pub fn context(&self) -> &CallContext {
        &self.context
    }

    /// The same with another context, for work that outlives the call.
    #[must_use]
    pub fn with_context(&self, context: CallContext) -> Self {
        Self {
            bus: self.bus.clone(),
            state: Arc::clone(&self.state),
            context,
        }
    }

    /// Calls a function by its contract, with the default deadline.
    pub async fn call<C: Contract>(&self, request: C::Request) -> Result<C::Response> {
        self.bus
            .call::<C>(&self.context, request, CallOptions::default())
            .await
    }

    /// Calls a function by its contract.
    pub async fn call_with<C: Contract>(
        &self,
        request: C::Request,
        options: CallOptions,
    ) -> Result<C::Response> {
        self.bus.call::<C>(&self.context, request, options).await
    }

    /// Calls a function by id with JSON.
    pub async fn invoke(&self, id: &str, payload: Value, options: CallOptions) -> Result<Value> {
        self.bus.invoke(&self.context, id, payload, options).await
    }

    /// A state scope.
    pub fn scope<'a>(&'a self, name: &'a str) -> Scope<'a> {
        self.bus.scope(&self.context, name)
    }

    /// Settings in force now; take a new snapshot per use, never hold one across an await.
    pub fn config(&self) -> Arc<Config> {
        self.bus.config()
    }

    /// Time, ids, environment.
    pub fn ports(&self) -> &Ports {
        self.bus.ports()
    }

    /// Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.bus.now_ms()
    }

    /// A fresh UUID.
    pub fn uuid(&self) -> String {
        self.bus.uuid()
    }

    /// Set when the process begins to stop.
    pub fn shutdown_token(&self) -> &CancellationToken {
        self.bus.shutdown_token()
    }

    /// Starts a task that is waited for when the process stops.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.bus.spawn(task);
    }
}

impl<S> std::fmt::Debug for Cx<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cx")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

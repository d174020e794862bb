//! A worker: a name, its memory, and its registration table.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use serde_json::Value;

use super::context::CallContext;
use super::cx::Cx;
use super::function::{Function, FunctionDef};
use super::transport::TriggerSpec;
use super::{Bus, CallFuture};
use crate::error::Result;
use crate::model::FunctionId;

/// Work of a worker outside its functions.
pub type Hook = Box<dyn FnOnce(Bus) -> CallFuture<()> + Send>;

/// Work that is done again and again.
pub type Repeated = Box<dyn Fn(Bus) -> CallFuture<()> + Send + Sync>;

/// Collects what a worker registers; one line per function.
pub struct Worker<S> {
    state: Arc<S>,
    def: WorkerDef,
}

/// A worker as the bus takes it.
pub struct WorkerDef {
    /// Name in the manifest.
    pub name: &'static str,
    /// One sentence for the manifest.
    pub description: &'static str,
    /// Its functions.
    pub functions: Vec<FunctionDef>,
    /// Its trigger bindings.
    pub triggers: Vec<TriggerSpec>,
    /// Run in order before the process is ready.
    pub prepare: Vec<Hook>,
    /// Started once the process is ready.
    pub background: Vec<Hook>,
    /// Run in order after each reconnect to the engine.
    pub reconnected: Vec<Repeated>,
}

impl<S: Send + Sync + 'static> Worker<S> {
    /// A worker with its memory.
    pub fn new(name: &'static str, description: &'static str, state: S) -> Self {
        let def = WorkerDef {
            name,
            description,
            functions: Vec::new(),
            triggers: Vec::new(),
            prepare: Vec::new(),
            background: Vec::new(),
            reconnected: Vec::new(),
        };
        Self {
            state: Arc::new(state),
            def,
        }
    }

    /// Registers a function.
    #[must_use]
    pub fn function<F: Function<State = S>>(mut self) -> Self {
        self.def
            .functions
            .push(FunctionDef::of::<F>(Arc::clone(&self.state)));
        self
    }

    /// Registers a function under another id, for those that several workers share.
    #[must_use]
    pub fn function_as<F: Function<State = S>>(
        mut self,
        id: impl Into<FunctionId>,
        description: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.def
            .functions
            .push(FunctionDef::named::<F>(id, description, Arc::clone(&self.state)));
        self
    }

    /// Binds a trigger to one of its functions.
    #[must_use]
    pub fn trigger(mut self, trigger_type: &str, function_id: &str, config: Value) -> Self {
        self.def
            .triggers
            .push(TriggerSpec::new(trigger_type, function_id, config));
        self
    }

    /// Runs before the process is ready, after all functions are registered and the transport is up.
    #[must_use]
    pub fn prepare<R>(mut self, hook: impl FnOnce(Cx<S>) -> R + Send + 'static) -> Self
    where
        R: Future<Output = Result<()>> + Send + 'static,
    {
        self.def.prepare.push(self.hook(hook));
        self
    }

    /// Runs beside the process once everything is prepared; ends when the shutdown token is set.
    #[must_use]
    pub fn background<R>(mut self, hook: impl FnOnce(Cx<S>) -> R + Send + 'static) -> Self
    where
        R: Future<Output = Result<()>> + Send + 'static,
    {
        self.def.background.push(self.hook(hook));
        self
    }

    /// Runs after each reconnect, for what an engine that was restarted has forgotten, or what was missed meanwhile.
    /// Functions and triggers are back by themselves. Never runs on the embedded engine.
    #[must_use]
    pub fn reconnected<R>(mut self, hook: impl Fn(Cx<S>) -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let state = Arc::clone(&self.state);
        let hook = move |bus| hook(Cx::new(bus, Arc::clone(&state), CallContext::default())).boxed();
        self.def.reconnected.push(Box::new(hook));
        self
    }

    /// The finished worker.
    pub fn build(self) -> WorkerDef {
        self.def
    }

    fn hook<R>(&self, hook: impl FnOnce(Cx<S>) -> R + Send + 'static) -> Hook
    where
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let state = Arc::clone(&self.state);
        Box::new(move |bus| hook(Cx::new(bus, state, CallContext::default())).boxed())
    }
}

impl<S> std::fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("def", &self.def)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WorkerDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerDef")
            .field("name", &self.name)
            .field("functions", &self.functions)
            .field("triggers", &self.triggers)
            .finish_non_exhaustive()
    }
}

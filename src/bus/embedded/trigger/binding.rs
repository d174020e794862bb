//! A binding of a trigger type to a function, and the events that go to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::lane::Lanes;
use crate::bus::{CallContext, TriggerSpec};
use crate::error::Result;
use crate::model::FunctionId;

/// Who a binding belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The program itself.
    Program,
    /// An outside worker, by its id; gone with its connection.
    Peer(Arc<str>),
    /// Made with `engine::register_trigger`; stays until it is taken away or the engine ends.
    Nobody,
}

/// A live binding.
pub struct Binding {
    /// What was asked for.
    pub spec: TriggerSpec,
    /// Who asked.
    pub owner: Owner,
    pub(super) condition: Option<FunctionId>,
    pub(super) metadata: Option<Arc<Value>>,
    pub(super) alive: AtomicBool,
    pub(super) lanes: Lanes,
    /// Its place in the order of registrations.
    pub(super) place: u64,
    /// Size of its registration.
    pub(super) bytes: usize,
}

/// One event on its way to its subscribers, which share it.
pub struct Event {
    /// Makes the payload; each subscriber gets its own.
    pub(super) payload: Box<dyn Fn() -> Result<Value> + Send + Sync>,
    /// Trace and baggage of the writer.
    pub(super) context: CallContext,
    /// What it keeps in memory, about.
    pub(super) bytes: usize,
}

impl Event {
    /// An event whose payload is made when a handler is about to run; until then it keeps about so many bytes in memory.
    pub fn new(
        context: CallContext,
        bytes: usize,
        payload: impl Fn() -> Result<Value> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            payload: Box::new(payload),
            context,
            bytes,
        })
    }
}

impl Binding {
    /// Whether it was neither replaced nor taken away.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }
}

/// A text member of a binding's configuration; absent, null and `""` mean "any".
///
/// # Errors
/// The member is something else.
pub fn text_member(config: &Value, name: &str) -> Result<Option<String>, String> {
    match config.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("config: {name} must be a string")),
    }
}

/// The function that may hold events back.
pub(super) fn condition_of(config: &Value) -> Result<Option<FunctionId>, String> {
    Ok(text_member(config, "condition_function_id")?.map(FunctionId::from))
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding")
            .field("spec", &self.spec)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

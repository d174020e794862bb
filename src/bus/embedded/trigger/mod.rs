//! Trigger types, bindings, and the delivery of events to them (contract 00 §3).
//!
//! A binding is kept under its id; its type's [`Provider`] checks it and learns of it. A binding of an unknown type is
//! parked until the type appears. Delivery: per binding and ordering key one lane ([`lane`]), so that events of one key
//! reach each subscriber in write order while everything else runs side by side.

mod binding;
mod held;
mod index;
mod kind;
mod lane;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::oneshot;

use super::Core;
use crate::bus::TriggerSpec;
use crate::error::{Error, Result};

use binding::condition_of;
pub use binding::{Binding, Event, Owner, text_member};
pub(super) use held::Held;
use held::Ledger;
pub use index::Index;
pub(super) use kind::{PASSIVE, Passive};
pub use kind::{Provider, TriggerType};
use lane::Lanes;

/// What the provider of a type said to a binding; the text is its reason to refuse.
pub(super) type Verdict = std::result::Result<(), String>;

/// All types and bindings.
pub struct Triggers {
    inner: Mutex<Inner>,
    state: Arc<Index>,
    stream: Arc<Index>,
    core: OnceLock<Weak<Core>>,
    dropped: AtomicU64,
    /// Bindings whose maker waits for the word of an outside provider.
    expected: Mutex<HashMap<String, oneshot::Sender<Verdict>>>,
}

#[derive(Default)]
struct Inner {
    types: BTreeMap<String, TriggerType>,
    /// In order of their ids; the parked ones too.
    bindings: BTreeMap<String, Arc<Binding>>,
    /// The same, by their type.
    by_type: HashMap<String, BTreeMap<String, Arc<Binding>>>,
    held: Ledger,
    /// Bindings made so far.
    made: u64,
}

impl Triggers {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::default(),
            state: Arc::new(Index::state()),
            stream: Arc::new(Index::stream()),
            core: OnceLock::new(),
            dropped: AtomicU64::new(0),
            expected: Mutex::default(),
        }
    }

    pub(super) fn start(&self, core: &Arc<Core>) {
        // Set once, at the one start of the engine.
        self.core.get_or_init(|| Arc::downgrade(core));
    }

    /// Bindings of type `state`.
    pub(super) fn state(&self) -> Arc<Index> {
        Arc::clone(&self.state)
    }

    /// Bindings of type `stream`.
    pub(super) fn stream(&self) -> Arc<Index> {
        Arc::clone(&self.stream)
    }

    /// Offers a type; bindings that were parked for it become live. One of the same name is replaced.
    pub fn offer(&self, id: &str, description: &str, provider: Arc<dyn Provider>) {
        let offered = TriggerType {
            description: description.to_owned(),
            worker: None,
            configuration_schema: None,
            request_schema: None,
            provider,
            bytes: 0,
        };
        self.offer_type(id, offered);
    }

    /// Offers a type of an outside worker. False: the id is the engine's own.
    pub(super) fn offer_outside(&self, id: &str, offered: TriggerType) -> bool {
        let ours = self
            .lock()
            .types
            .get(id)
            .is_some_and(|other| other.worker.is_none());
        if !ours {
            self.offer_type(id, offered);
        }
        !ours
    }

    fn offer_type(&self, id: &str, offered: TriggerType) {
        let mut inner = self.lock();
        let provider = &offered.provider;
        for binding in inner.of_type(id) {
            match provider.check(&binding.spec) {
                Ok(()) => provider.bind(binding),
                Err(why) => tracing::warn!(trigger = %binding.spec.id, why, "a waiting binding was refused"),
            }
        }
        inner.held.add_type(&offered);
        if let Some(earlier) = inner.types.insert(id.to_owned(), offered) {
            inner.held.drop_type(&earlier);
        }
    }

    /// Takes the types of an outside worker away; their bindings are parked.
    pub(super) fn withdraw_all_of(&self, worker: &str) {
        let mut inner = self.lock();
        let Inner { types, held, .. } = &mut *inner;
        types.retain(|_, offered| {
            let stays = offered.worker.as_deref() != Some(worker);
            if !stays {
                held.drop_type(offered);
            }
            stays
        });
    }

    /// What an outside worker holds.
    pub(super) fn held_by(&self, worker: &str) -> Held {
        self.lock().held.of(worker)
    }

    /// Asks to be told what an outside provider says to a binding that is about to be made.
    pub(super) fn expect_verdict(&self, id: &str) -> oneshot::Receiver<Verdict> {
        let (sender, receiver) = oneshot::channel();
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.retain(|_, waiting| !waiting.is_closed());
        expected.insert(id.to_owned(), sender);
        receiver
    }

    /// Whether a type is provided by an outside worker.
    pub(super) fn is_outside(&self, trigger_type: &str) -> bool {
        let inner = self.lock();
        inner
            .types
            .get(trigger_type)
            .is_some_and(|offered| offered.worker.is_some())
    }

    /// An outside provider answers for a binding of its type. A refused binding is taken away and answered.
    pub(super) fn judged(&self, worker: &str, id: &str, verdict: Verdict) -> Option<Arc<Binding>> {
        let refused = {
            let mut inner = self.lock();
            let binding = inner.bindings.get(id)?;
            let offered = inner.types.get(&binding.spec.trigger_type)?;
            if offered.worker.as_deref() != Some(worker) {
                return None;
            }
            let binding = Arc::clone(binding);
            if verdict.is_err() {
                inner.take(id);
                binding.alive.store(false, Ordering::Release);
            }
            verdict.is_err().then_some(binding)
        };
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = expected.remove(id) {
            // Whoever made the binding may have stopped waiting.
            waiting.send(verdict).ok();
        }
        refused
    }

    /// Whose binding this is.
    pub(super) fn owner_of(&self, id: &str) -> Option<Owner> {
        self.lock().bindings.get(id).map(|binding| binding.owner.clone())
    }

    /// Makes a binding; one with the same id is replaced. `bytes` is the size of its registration.
    ///
    /// # Errors
    /// Code `trigger_registration_failed` with the provider's text; an earlier binding then stays.
    pub(super) fn bind(&self, core: &Arc<Core>, spec: TriggerSpec, owner: Owner, bytes: usize) -> Result<()> {
        let refused = |why: String| Error::coded("trigger_registration_failed", why);
        let condition = condition_of(&spec.config).map_err(refused)?;
        let mut inner = self.lock();
        let provider = inner
            .types
            .get(&spec.trigger_type)
            .map(|offered| Arc::clone(&offered.provider));
        if let Some(provider) = &provider {
            provider.check(&spec).map_err(refused)?;
        } else {
            tracing::info!(trigger = %spec.id, trigger_type = %spec.trigger_type, "waiting for the trigger type");
        }
        let binding = Arc::new(Binding {
            owner,
            condition,
            metadata: spec.metadata.clone().map(Arc::new),
            alive: AtomicBool::new(true),
            lanes: Lanes::new(&core.options),
            place: inner.made,
            bytes,
            spec,
        });
        inner.made += 1;
        if let Some(earlier) = inner.take(&binding.spec.id) {
            inner.release(&earlier);
        }
        inner.put(Arc::clone(&binding));
        if let Some(provider) = provider {
            provider.bind(&binding);
        }
        Ok(())
    }

    /// Takes a binding away for somebody else than the program. False: there was none.
    ///
    /// # Errors
    /// The binding is the program's own.
    pub(super) fn unbind_for_others(&self, id: &str) -> Result<bool> {
        if self.owner_of(id) == Some(Owner::Program) {
            let why = format!("{id} is a binding of the engine's own program");
            return Err(Error::coded("trigger_unregistration_failed", why));
        }
        Ok(self.unbind(id))
    }

    /// Takes a binding away. False: there was none.
    pub(super) fn unbind(&self, id: &str) -> bool {
        let mut inner = self.lock();
        let Some(binding) = inner.take(id) else {
            return false;
        };
        inner.release(&binding);
        true
    }

    /// Takes away everything an outside worker bound.
    pub(super) fn unbind_owner(&self, owner: &Owner) {
        let mut inner = self.lock();
        let theirs: Vec<_> = inner
            .bindings
            .values()
            .filter(|binding| binding.owner == *owner)
            .cloned()
            .collect();
        for binding in theirs {
            inner.take(&binding.spec.id);
            inner.release(&binding);
        }
    }

    /// The live bindings, sorted by id; parked ones are not shown.
    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        let inner = self.lock();
        let live = inner
            .bindings
            .values()
            .filter(|binding| inner.types.contains_key(&binding.spec.trigger_type));
        live.cloned().collect()
    }

    /// The live bindings of one type, sorted by id.
    pub fn bindings_of(&self, trigger_type: &str) -> Vec<Arc<Binding>> {
        self.lock().of_type(trigger_type).cloned().collect()
    }

    /// The types, sorted by id.
    pub fn types(&self) -> Vec<(String, TriggerType)> {
        self.lock()
            .types
            .iter()
            .map(|(id, offered)| (id.clone(), offered.clone()))
            .collect()
    }

    /// Sends an event to a subscriber. Never waits; events with the same ordering key arrive in call order.
    pub fn deliver(&self, binding: &Arc<Binding>, ordering_key: &str, event: &Arc<Event>) {
        if let Some(core) = self.core.get().and_then(Weak::upgrade) {
            lane::deliver(&core, binding, ordering_key, event);
        }
    }

    /// Sends an event to all bindings of a type that has no filter.
    pub fn broadcast(&self, trigger_type: &str, event: &Arc<Event>) {
        for binding in self.bindings_of(trigger_type) {
            self.deliver(&binding, "", event);
        }
    }

    pub(in crate::bus::embedded) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, id: &str) -> Option<Arc<Binding>> {
        let binding = self.bindings.remove(id)?;
        self.held.drop_binding(&binding);
        let trigger_type = &binding.spec.trigger_type;
        if let Some(bindings) = self.by_type.get_mut(trigger_type) {
            bindings.remove(id);
            if bindings.is_empty() {
                self.by_type.remove(trigger_type);
            }
        }
        Some(binding)
    }

    fn put(&mut self, binding: Arc<Binding>) {
        self.held.add_binding(&binding);
        let TriggerSpec { id, trigger_type, .. } = &binding.spec;
        self.by_type
            .entry(trigger_type.clone())
            .or_default()
            .insert(id.clone(), Arc::clone(&binding));
        self.bindings.insert(id.clone(), binding);
    }

    /// Those of one type, sorted by id.
    fn of_type(&self, trigger_type: &str) -> impl Iterator<Item = &Arc<Binding>> {
        self.by_type
            .get(trigger_type)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    fn release(&mut self, binding: &Arc<Binding>) {
        binding.alive.store(false, Ordering::Release);
        if let Some(offered) = self.types.get(&binding.spec.trigger_type) {
            offered.provider.unbind(binding);
        }
    }
}

impl std::fmt::Debug for Triggers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Triggers")
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

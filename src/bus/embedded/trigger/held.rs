//! What each outside worker holds of the engine's memory with its bindings and types, so that there can be a limit.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Binding, Owner, TriggerType};

/// Of one worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::bus::embedded) struct Held {
    /// Bindings, parked ones too.
    pub(in crate::bus::embedded) bindings: usize,
    /// Trigger types.
    pub(in crate::bus::embedded) types: usize,
    /// Size of the registrations of both, in bytes.
    pub(in crate::bus::embedded) bytes: usize,
}

/// Of all workers.
#[derive(Default)]
pub(super) struct Ledger(HashMap<Arc<str>, Held>);

impl Ledger {
    pub(super) fn of(&self, worker: &str) -> Held {
        self.0.get(worker).copied().unwrap_or_default()
    }

    pub(super) fn add_binding(&mut self, binding: &Binding) {
        if let Owner::Peer(worker) = &binding.owner {
            let held = self.0.entry(Arc::clone(worker)).or_default();
            held.bindings += 1;
            held.bytes += binding.bytes;
        }
    }

    pub(super) fn drop_binding(&mut self, binding: &Binding) {
        if let Owner::Peer(worker) = &binding.owner {
            self.release(worker, |held| {
                held.bindings -= 1;
                held.bytes -= binding.bytes;
            });
        }
    }

    pub(super) fn add_type(&mut self, offered: &TriggerType) {
        if let Some(worker) = &offered.worker {
            let held = self.0.entry(Arc::clone(worker)).or_default();
            held.types += 1;
            held.bytes += offered.bytes;
        }
    }

    pub(super) fn drop_type(&mut self, offered: &TriggerType) {
        if let Some(worker) = &offered.worker {
            self.release(worker, |held| {
                held.types -= 1;
                held.bytes -= offered.bytes;
            });
        }
    }

    fn release(&mut self, worker: &Arc<str>, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.0.get_mut(worker) {
            change(held);
            if *held == Held::default() {
                self.0.remove(worker);
            }
        }
    }
}

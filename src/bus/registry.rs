//! The functions this process hosts, with their counters.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{Counter, Histogram};

use super::function::FunctionDef;
use crate::error::{Error, Result};
use crate::model::FunctionId;
use crate::telemetry::{Metrics, name};

/// Reads are lock-free; a registration copies the map.
pub(super) struct Registry {
    functions: ArcSwap<HashMap<FunctionId, Arc<Entry>>>,
    writing: Mutex<()>,
    metrics: Metrics,
    engine_calls: Calls,
    served: AtomicUsize,
}

/// A call from outside, while it runs.
pub(super) struct Served<'a>(&'a AtomicUsize);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Entry {
    pub(super) function: FunctionDef,
    pub(super) calls: Calls,
}

/// Counters of one function, resolved once.
pub(super) struct Calls {
    ok: Counter,
    failed: Counter,
    duration: Histogram,
}

impl Calls {
    fn new(metrics: &Metrics, function: &str, route: &str) -> Self {
        let labels = [("function", function), ("route", route)];
        let counter = |outcome| {
            let labels = [("function", function), ("route", route), ("outcome", outcome)];
            metrics.counter(name::FUNCTION_CALLS_TOTAL, &labels)
        };
        Self {
            ok: counter("ok"),
            failed: counter("error"),
            duration: metrics.histogram(name::FUNCTION_DURATION_SECONDS, &labels),
        }
    }

    pub(super) fn record(&self, ok: bool, took: Duration) {
        if ok {
            self.ok.increment(1);
        } else {
            self.failed.increment(1);
        }
        self.duration.record(took.as_secs_f64());
    }
}

impl Registry {
    pub(super) fn new(metrics: Metrics) -> Self {
        // Engine functions share one series: their ids come from outside and labels must stay bounded.
        let engine_calls = Calls::new(&metrics, "(engine)", "engine");
        Self {
            functions: ArcSwap::default(),
            writing: Mutex::new(()),
            metrics,
            engine_calls,
            served: AtomicUsize::new(0),
        }
    }

    pub(super) fn add(&self, function: FunctionDef) -> Result<()> {
        let refuse = |why: &str| Error::Registration {
            id: function.id().to_string(),
            why: why.to_owned(),
        };
        if function.id().is_empty() {
            return Err(refuse("the id is empty"));
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut functions = HashMap::clone(&self.functions.load());
        if functions.contains_key(function.id()) {
            return Err(refuse("the id is already registered"));
        }
        let calls = Calls::new(&self.metrics, function.id(), "local");
        functions.insert(function.id().clone(), Arc::new(Entry { function, calls }));
        self.functions.store(Arc::new(functions));
        Ok(())
    }

    pub(super) fn remove(&self, id: &str) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut functions = HashMap::clone(&self.functions.load());
        functions.remove(id);
        self.functions.store(Arc::new(functions));
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Entry>> {
        self.functions.load().get(id).cloned()
    }

    pub(super) fn functions(&self) -> Vec<FunctionDef> {
        let mut all: Vec<_> = self
            .functions
            .load()
            .values()
            .map(|entry| entry.function.clone())
            .collect();
        all.sort_by(|a, b| a.id().cmp(b.id()));
        all
    }

    /// Counts a call from outside until it is dropped.
    pub(super) fn serving(&self) -> Served<'_> {
        self.served.fetch_add(1, Ordering::Relaxed);
        Served(&self.served)
    }

    pub(super) fn served_now(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    pub(super) fn engine_calls(&self) -> &Calls {
        &self.engine_calls
    }
}

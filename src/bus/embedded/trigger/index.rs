//! Who wants to know of a write: looked up on every write, without a lock.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::{Binding, ByName, Provider, text_member};
use crate::bus::TriggerSpec;

/// Bindings of `state` or `stream`, found by scope or stream name. Registration order is kept.
#[derive(Debug)]
pub struct Index {
    members: Members,
    filters: ArcSwap<Filters>,
    writing: Mutex<()>,
}

/// Names of the filter members.
#[derive(Debug)]
struct Members {
    name: &'static str,
    name_required: bool,
    group: Option<&'static str>,
    key: &'static str,
}

#[derive(Debug, Clone, Default)]
struct Filters {
    any: Vec<Arc<Binding>>,
    by_name: ByName,
}

impl Index {
    pub(super) fn state() -> Self {
        Self::over(Members {
            name: "scope",
            name_required: false,
            group: None,
            key: "key",
        })
    }

    pub(super) fn stream() -> Self {
        Self::over(Members {
            name: "stream_name",
            name_required: true,
            group: Some("group_id"),
            key: "item_id",
        })
    }

    fn over(members: Members) -> Self {
        Self {
            members,
            filters: ArcSwap::default(),
            writing: Mutex::new(()),
        }
    }

    /// The bindings that match; nothing is allocated when there are none.
    pub fn matching(&self, name: &str, group: &str, key: Option<&str>) -> Vec<Arc<Binding>> {
        let filters = self.filters.load();
        let named = filters.by_name.get(name).into_iter().flatten();
        let fits = |binding: &&Arc<Binding>| {
            let config = &binding.spec.config;
            let wants = |member: &str| {
                config
                    .get(member)
                    .and_then(|text| text.as_str())
                    .filter(|text| !text.is_empty())
            };
            self.members
                .group
                .and_then(wants)
                .is_none_or(|wanted| wanted == group)
                && wants(self.members.key).is_none_or(|wanted| Some(wanted) == key)
        };
        filters.any.iter().chain(named).filter(fits).cloned().collect()
    }

    fn change(&self, change: impl FnOnce(&mut Filters)) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut filters = Filters::clone(&self.filters.load());
        change(&mut filters);
        self.filters.store(Arc::new(filters));
    }

    fn name_of(&self, binding: &Binding) -> Option<String> {
        text_member(&binding.spec.config, self.members.name)
            .ok()
            .flatten()
    }
}

impl Provider for Index {
    fn check(&self, spec: &TriggerSpec) -> Result<(), String> {
        let name = text_member(&spec.config, self.members.name)?;
        if self.members.name_required && name.is_none() {
            return Err(format!("config: {} is required", self.members.name));
        }
        if let Some(group) = self.members.group {
            text_member(&spec.config, group)?;
        }
        text_member(&spec.config, self.members.key).map(|_| ())
    }

    fn bind(&self, binding: &Arc<Binding>) {
        self.change(|filters| match self.name_of(binding) {
            Some(name) => filters.by_name.entry(name).or_default().push(Arc::clone(binding)),
            None => filters.any.push(Arc::clone(binding)),
        });
    }

    fn unbind(&self, binding: &Arc<Binding>) {
        self.change(|filters| {
            filters.any.retain(|other| !Arc::ptr_eq(other, binding));
            filters.by_name.retain(|_, bindings| {
                bindings.retain(|other| !Arc::ptr_eq(other, binding));
                !bindings.is_empty()
            });
        });
    }
}

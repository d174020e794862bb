//! Who wants to know of a write: looked up on every write.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Binding, Provider, text_member};
use crate::bus::TriggerSpec;

/// Bindings of `state` or `stream`, found by scope or stream name. Registration order is kept.
#[derive(Debug)]
pub struct Index {
    members: Members,
    filters: RwLock<Filters>,
}

/// Names of the filter members.
#[derive(Debug)]
struct Members {
    name: &'static str,
    name_required: bool,
    group: Option<&'static str>,
    key: &'static str,
}

/// In order of their registration.
type Ordered = BTreeMap<u64, Arc<Binding>>;

#[derive(Debug, Default)]
struct Filters {
    any: Ordered,
    by_name: HashMap<String, Ordered>,
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
            filters: RwLock::default(),
        }
    }

    /// The bindings that match; nothing is allocated when there are none.
    pub fn matching(&self, name: &str, group: &str, key: Option<&str>) -> Vec<Arc<Binding>> {
        let filters = self.filters.read().unwrap_or_else(PoisonError::into_inner);
        let named = filters.by_name.get(name).into_iter().flat_map(Ordered::values);
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
        filters.any.values().chain(named).filter(fits).cloned().collect()
    }

    fn change(&self, change: impl FnOnce(&mut Filters)) {
        change(&mut self.filters.write().unwrap_or_else(PoisonError::into_inner));
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
        self.change(|filters| {
            let bindings = match self.name_of(binding) {
                Some(name) => filters.by_name.entry(name).or_default(),
                None => &mut filters.any,
            };
            bindings.insert(binding.place, Arc::clone(binding));
        });
    }

    fn unbind(&self, binding: &Arc<Binding>) {
        self.change(|filters| {
            let Some(name) = self.name_of(binding) else {
                filters.any.remove(&binding.place);
                return;
            };
            if let Some(bindings) = filters.by_name.get_mut(&name) {
                bindings.remove(&binding.place);
                if bindings.is_empty() {
                    filters.by_name.remove(&name);
                }
            }
        });
    }
}

//! The environment as a port, so that tests can use a map.

use std::collections::HashMap;

/// Source of environment variables. An empty value counts as not set (contract 12 §1 rule 2).
pub trait Env: Send + Sync {
    /// Value of one variable.
    fn var(&self, name: &str) -> Option<String>;
    /// All variables, in any order.
    fn vars(&self) -> Vec<(String, String)>;
}

/// The environment of this process. Values that are not UTF-8 count as not set.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnv;

impl Env for ProcessEnv {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the port that the ban points to"
    )]
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn vars(&self) -> Vec<(String, String)> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }
}

/// An environment that is a map.
#[derive(Debug, Clone, Default)]
pub struct MapEnv(pub HashMap<String, String>);

impl<N: Into<String>, V: Into<String>, const LEN: usize> From<[(N, V); LEN]> for MapEnv {
    fn from(pairs: [(N, V); LEN]) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl Env for MapEnv {
    fn var(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn vars(&self) -> Vec<(String, String)> {
        self.0
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

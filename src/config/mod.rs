//! Stub until the real configuration lands.
/// Environment port.
pub trait Env: Send + Sync {
    /// One variable; empty counts as not set.
    fn var(&self, name: &str) -> Option<String>;
}
/// Stub.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Stub.
    pub engine: Engine,
}
/// Stub.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Stub.
    pub call_timeout_ms: u64,
}
impl Default for Engine {
    fn default() -> Self {
        Self {
            call_timeout_ms: 30_000,
        }
    }
}

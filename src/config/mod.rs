//! Configuration: typed sections, defaults, the layers over them, and reloading (contract 12).
//!
//! ```text
//! table.rs   every key once: name, type, default, accepted values (rule.rs), older variable (older.rs), meaning
//!   ├─ structs and Config::default()
//!   ├─ KEYS ─┬─ load.rs     default < file < older variable < HARNESS__SECTION__KEY < flag
//!   │        ├─ names.rs    hints for unknown names
//!   │        └─ render.rs   config.example.yaml, docs/configuration.md
//!   └─ restart sections ── reload.rs   a changed file is swapped in as a whole, or not at all
//! ```
//!
//! Only this module reads the environment; others get the [`Env`] port for names known only at call time.
//! A snapshot of the configuration is taken per call and never held across an await.

mod choice;
mod engine;
mod env;
mod floor;
mod input;
mod load;
mod log_filter;
mod names;
mod older;
mod provider;
mod reload;
mod render;
mod rule;
mod secret;
mod spec;
mod table;

pub use choice::{AtCeiling, Durability, EngineMode, LogFormat, StoreBackend, Unpriced};
pub use engine::{DEFAULT_ENGINE_URL, EngineChoice, Probe};
pub use env::{Env, MapEnv, ProcessEnv};
pub use input::{DEFAULT_PATH, Finding, Findings, Flags, LoadInput, Loaded, Origin, Source};
pub use log_filter::log_filter;
pub use older::Reading;
pub use provider::{ProviderDefaults, ProviderLimits};
pub use reload::{Reload, SETTLE, reload, watch};
pub use render::{documentation, example};
pub use rule::Rule;
pub use secret::Secret;
pub use spec::{Applies, Key, Older, Section, Spec};
pub use table::{
    Budgets, Compaction, Config, Engine, Events, HookFanout, Http, KEYS, Log, Permissions, Provider,
    ProviderAnthropic, ProviderKimi, ProviderLlamacpp, ProviderLmstudio, ProviderOpenai, SECTIONS, Session,
    Shutdown, Telemetry, Turn, Ui, Web,
};

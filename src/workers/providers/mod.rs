//! Model providers (contract 08).
//!
//! ```text
//! stream, complete ─► driver ─► HTTP ─► sse ─► decoder ─► assembly ─► outbox ─► channel
//!                       │ encode ▲                (pure, per protocol)
//!                       └────────┘
//! ```
//!
//! `driver` does all I/O of a turn: timeouts, retries, cancellation, the one terminal event. A [`Provider`] is facts and
//! pure functions; `chat_completions` and `messages` are the protocol engines they speak with. To add one: a file like
//! [`kimi`] and its `worker()` in [`super::all`]. Deliberately not here: credentials and endpoints (the registry answers those
//! per turn), the catalog, routing by model name.

mod access;
pub mod anthropic;
mod assembly;
mod chat_completions;
mod conversation;
mod costs;
mod declaration;
mod discovery;
mod driver;
mod failure;
mod functions;
#[cfg(fuzzing)]
pub mod fuzzing;
mod ids;
mod json;
pub mod kimi;
mod limits;
mod listed_price;
pub mod llamacpp;
pub mod lmstudio;
mod local;
mod messages;
mod metrics;
mod names;
pub mod openai;
mod outbox;
mod overflow;
mod price;
mod protocol;
#[cfg(test)]
mod recorded;
mod records;
#[cfg(any(test, fuzzing))]
mod replay;
mod sse;
mod throttle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bus::Worker;
use crate::http::Clients;
pub use chat_completions::{Effort, Local, Probe, Quirks, Reasoning, Vendor};
pub use costs::{Costs, Long, Price, costs};
use functions::{Complete, RefreshModels, Stream};
use protocol::Provider;
pub use protocol::{Settings, Spec};
pub use records::{Family, Known, family};

/// Memory of a provider's worker.
struct Host {
    provider: Arc<dyn Provider>,
    clients: Clients,
    declared: AtomicBool,
    /// Held during a discovery: one after the other, so that the newest listing is the last one written.
    discovering: tokio::sync::Mutex<()>,
    throttle: throttle::Throttle,
}

impl Host {
    fn is_declared(&self) -> bool {
        self.declared.load(Ordering::Acquire)
    }

    fn set_declared(&self) {
        self.declared.store(true, Ordering::Release);
    }
}

/// The worker of a provider, to be built: three functions, its declaration, and one discovery at the start.
fn worker(name: &'static str, about: &'static str, provider: Arc<dyn Provider>) -> Worker<Host> {
    let spec = provider.spec();
    let [stream, complete, refresh] = spec.descriptions;
    let id = |function: &str| format!("provider::{}::{function}", spec.id);
    let host = Host {
        provider,
        clients: Clients::default(),
        declared: AtomicBool::new(false),
        discovering: tokio::sync::Mutex::default(),
        throttle: throttle::Throttle::default(),
    };
    Worker::new(name, about, host)
        .function_as::<Stream>(id("stream"), stream)
        .function_as::<Complete>(id("complete"), complete)
        .function_as::<RefreshModels>(id("refresh_models"), refresh)
        .prepare(|cx| async move { declaration::declare(&cx).await })
        .background(|cx| async move {
            declaration::declare_late(&cx).await?;
            discovery::refresh(&cx).await;
            Ok(())
        })
}

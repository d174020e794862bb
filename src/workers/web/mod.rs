//! `web::fetch`: an HTTP client for agents that cannot be talked into reaching what is not public (contract 05).
//!
//! ```text
//!  fetch ─► request (shape, headers) ─► slot ─► hops ──────────────► body (decode, cap) ─► text / JSON / Markdown ─► reply
//!    └── one deadline over all of it       │ per hop: target ─► reach ─► client ─► guard: lookup ─► addresses
//!                                          └── redirect: next method, body, headers
//! ```
//!
//! Pure parts: [`addresses`], [`request`], [`headers`], [`redirect`], [`text`], [`markdown`]. Invariants: a connection goes to an
//! address that was checked for this very connection, and serves one request; nothing is read beyond the caps, and
//! compressed bodies are measured unpacked; no call outlives its deadline; a call
//! always has an answer. Deliberately not here: a proxy, a cookie jar, a cache.

pub mod addresses;
mod body;
mod clients;
pub mod fetch;
mod guard;
mod headers;
mod hops;
mod lookup;
mod markdown;
mod redirect;
mod reply;
mod request;
mod slots;
mod target;
mod text;

use crate::bus::{Worker, WorkerDef};

pub use addresses::Range;
pub use guard::Net;
pub use lookup::{Lookup, SystemLookup};
pub use reply::{Answer, ErrorCode, Failure, Reply};
pub use request::{Format, Incoming, Request, ResponseFormat};

/// The memory of the worker.
#[derive(Debug, Default)]
pub struct Web {
    clients: clients::Clients,
    slots: slots::Slots,
}

/// The worker.
pub fn worker() -> WorkerDef {
    worker_on(Net::default())
}

/// The worker with another view of the network, for tests: a resolver, a table of addresses and certificates of their own.
pub fn worker_on(net: Net) -> WorkerDef {
    let web = Web {
        clients: clients::Clients::new(net),
        slots: slots::Slots::default(),
    };
    Worker::new(
        "web",
        "Fetches web pages for agents, and nothing that is not public.",
        web,
    )
    .function::<fetch::Fetch>()
    .build()
}

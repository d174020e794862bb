//! From names to addresses. Nothing here judges them.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

/// Lookups under way. The system's resolver cannot be stopped, and each holds a thread that files and others need too.
const AT_ONCE: usize = 32;

/// A resolver of names.
pub trait Lookup: std::fmt::Debug + Send + Sync + 'static {
    /// All addresses of a name, in the order of preference. Called once for each connection.
    fn addresses(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the system, with its hosts file.
#[derive(Debug, Clone)]
pub struct SystemLookup(Arc<Semaphore>);

impl Default for SystemLookup {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Lookup for SystemLookup {
    fn addresses(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let slots = Arc::clone(&self.0);
        let name = name.to_owned();
        async move {
            // Held by the thread, so that callers who gave up do not let more of them in.
            let slot = slots.acquire_owned().await.map_err(io::Error::other)?;
            let looking = tokio::task::spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                drop(slot);
                found.map(|addresses| addresses.map(|address| address.ip()).collect())
            });
            looking.await.map_err(io::Error::other)?
        }
        .boxed()
    }
}

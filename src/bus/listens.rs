//! Where this program can be reached itself. What fetches for agents must know: none may talk to its own control port.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use super::Bus;

#[derive(Debug, Default)]
pub(super) struct Listens(Mutex<Vec<SocketAddr>>);

impl Bus {
    /// Notes an address that this program, or the engine it is connected to, listens on.
    pub fn note_listener(&self, address: SocketAddr) {
        let mut known = self.0.listens.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push(address);
    }

    /// All that were noted.
    pub fn listens_on(&self) -> Vec<SocketAddr> {
        let known = self.0.listens.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }
}

//! What one listener, and one connection of it, may use.

use std::time::Duration;

use crate::bus::embedded::peer::Usage;

/// Bounds of the listener. The sizes are those of the iii engine (contract 00 §1.8), the rest keeps one bad client from
/// hurting others; no well-behaved worker comes near it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From the TCP connection to the upgraded socket.
    pub handshake: Duration,
    /// How long a worker may take nothing of what is sent to it, or keep all its call slots busy while it sends more.
    pub stall: Duration,
    /// Sockets of all kinds that are open at once; more are closed at once.
    pub connections: usize,
    /// Functions that one connection may host.
    pub functions: usize,
    /// Bindings that one connection may make.
    pub triggers: usize,
    /// Trigger types that one connection may offer.
    pub trigger_types: usize,
    /// Size of the functions, bindings and trigger types that one connection has registered, in bytes.
    pub registration_bytes: usize,
    /// Calls of one connection that are not answered yet, and likewise calls to it.
    pub open_calls: usize,
    /// Size of those calls together, as they came, in bytes.
    pub open_call_bytes: usize,
    /// Calls of one connection that the engine itself works on. Further ones wait, so that the writes of one worker do not
    /// stand in line before everybody else's.
    pub engine_calls: usize,
    /// Results to one connection that are not sent yet, in bytes; what does not fit is answered by an error.
    pub unread_result_bytes: usize,
    /// Messages to one connection that wait before their senders do.
    pub outbound: usize,
    /// Notices to one connection that wait: bindings of its types, refusals, pongs. One more ends it.
    pub notices: usize,
    /// Largest frame taken, in bytes.
    pub frame_bytes: usize,
    /// Largest message taken or sent, in bytes.
    pub message_bytes: usize,
}

impl Limits {
    /// Whether a worker may register one more thing of a kind, of this size.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn room_for(
        &self,
        count: usize,
        most: usize,
        kind: &str,
        used: &Usage,
        bytes: usize,
    ) -> Result<(), String> {
        if count >= most {
            return Err(format!("the worker has {most} {kind} already"));
        }
        if used.bytes + bytes > self.registration_bytes {
            let most = self.registration_bytes;
            return Err(format!(
                "the registrations of the worker are larger than {most} bytes together"
            ));
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            connections: 2_048,
            functions: 4_096,
            triggers: 16_384,
            trigger_types: 256,
            registration_bytes: 64 * 1024 * 1024,
            open_calls: 16_384,
            open_call_bytes: 256 * 1024 * 1024,
            engine_calls: 256,
            unread_result_bytes: 256 * 1024 * 1024,
            outbound: 64,
            notices: 16_384,
            frame_bytes: 16 * 1024 * 1024,
            message_bytes: 64 * 1024 * 1024,
        }
    }
}

//! Which new sessions were announced lately: a creation is seen twice, in process and through the state trigger
//! (contract 04 weakness 4).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::subscriptions::Id;

/// The second sighting comes within moments; a later one is another creation.
const REMEMBERED: Duration = Duration::from_mins(1);
const MOST: usize = 4096;

/// Sessions announced lately, oldest first.
#[derive(Debug, Default)]
pub(super) struct Announced {
    at: HashMap<Id, Instant>,
    order: VecDeque<(Id, Instant)>,
}

impl Announced {
    /// Whether this creation was not announced yet; it then counts as announced.
    pub(super) fn is_news(&mut self, session: &Id, now: Instant) -> bool {
        self.tidy(now);
        if self.at.contains_key(session) {
            return false;
        }
        self.at.insert(Id::clone(session), now);
        self.order.push_back((Id::clone(session), now));
        true
    }

    /// The session is gone; its next creation is news again.
    pub(super) fn forget(&mut self, session: &Id) {
        self.at.remove(session);
    }

    fn tidy(&mut self, now: Instant) {
        while let Some((session, at)) = self.order.front() {
            if self.order.len() <= MOST && now.duration_since(*at) < REMEMBERED {
                return;
            }
            // A session that was forgotten and came again has a later time and an entry of its own.
            if self.at.get(session) == Some(at) {
                self.at.remove(session);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn news_is_news_once_until_it_is_forgotten_or_old() {
        let mut announced = Announced::default();
        let session: Id = Arc::from("s");
        assert!(announced.is_news(&session, Instant::now()));
        assert!(!announced.is_news(&session, Instant::now()));
        announced.forget(&session);
        assert!(announced.is_news(&session, Instant::now()));
        assert!(!announced.is_news(&session, Instant::now()));
        tokio::time::advance(REMEMBERED).await;
        assert!(announced.is_news(&session, Instant::now()));
    }

    #[test]
    fn memory_is_bounded() {
        let mut announced = Announced::default();
        for n in 0..3 * MOST {
            assert!(announced.is_news(&Arc::from(n.to_string()), Instant::now()));
        }
        assert!(announced.at.len() <= MOST + 1 && announced.order.len() <= MOST + 1);
    }
}

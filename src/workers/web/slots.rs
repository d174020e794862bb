//! At most `web.max_concurrent` fetches at a time (contract 05 weakness 15).

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places. After a change of the setting the calls under way finish on the old places.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<Option<(usize, Arc<Semaphore>)>>);

impl Slots {
    /// Waits for a place; it is free again when the permit is dropped. `None` never happens: nobody closes them.
    pub(super) async fn take(&self, most: usize) -> Option<OwnedSemaphorePermit> {
        self.of(most).acquire_owned().await.ok()
    }

    fn of(&self, most: usize) -> Arc<Semaphore> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some((known, places)) if *known == most => Arc::clone(places),
            _ => {
                let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
                *slot = Some((most, Arc::clone(&places)));
                places
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn w15_no_more_than_so_many() {
        let slots = Slots::default();
        let held = slots.take(1).await.unwrap();
        assert_eq!(slots.of(1).available_permits(), 0);
        drop(held);
        assert_eq!(slots.of(1).available_permits(), 1);
        assert_eq!(slots.of(usize::MAX).available_permits(), Semaphore::MAX_PERMITS);
    }
}

//! Writes of several handlers that are stored with one commit of their caller (design §4: one commit per transition).
//!
//! A caller that is about to commit puts an empty batch into [`CallOptions`](super::CallOptions) of calls within the
//! process. A handler that can leaves its writes there and answers at once; one that cannot ignores the batch and stores
//! by itself, so that its answer means the same as ever. Where the engine takes a commit whole or not at all
//! ([`Transport::is_exclusive`](super::Transport::is_exclusive)), all of it is stored or nothing. Elsewhere all of it is
//! stored before the caller's last write, which decides; when that fails, some of it may be there.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::transport::Write;

/// What a handler leaves in a batch. Dropping it without [`settle`](Part::settle) means that it was not stored.
pub trait Part: Any + Send {
    /// What is to be stored, in order.
    fn writes(&self) -> &[Write];

    /// Told once what became of it.
    fn settle(self: Box<Self>, stored: bool);
}

/// The parts of one commit; a cheap handle.
#[derive(Clone, Default)]
pub struct Batch(Arc<Mutex<Vec<Box<dyn Part>>>>);

impl Batch {
    /// Adds a part behind the others.
    pub fn add(&self, part: Box<dyn Part>) {
        self.parts().push(part);
    }

    /// Takes a part of this type out again, to go on with it.
    pub fn take<T: Part>(&self, is_wanted: impl Fn(&T) -> bool) -> Option<Box<T>> {
        let mut parts = self.parts();
        let place = parts.iter().position(|part| {
            let part: &dyn Any = part.as_ref();
            part.downcast_ref::<T>().is_some_and(&is_wanted)
        })?;
        let part: Box<dyn Any> = parts.remove(place);
        part.downcast().ok()
    }

    /// What is to be stored, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.parts()
            .iter()
            .flat_map(|part| part.writes().to_vec())
            .collect()
    }

    /// Tells every part what became of it; to be called before anybody else hears of the commit.
    pub fn settle(&self, stored: bool) {
        let parts = std::mem::take(&mut *self.parts());
        for part in parts {
            part.settle(stored);
        }
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Box<dyn Part>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("parts", &self.parts().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    struct Noted {
        name: &'static str,
        writes: Vec<Write>,
        heard: Arc<Mutex<Vec<(&'static str, bool)>>>,
    }

    impl Part for Noted {
        fn writes(&self) -> &[Write] {
            &self.writes
        }

        fn settle(self: Box<Self>, stored: bool) {
            self.heard.lock().unwrap().push((self.name, stored));
        }
    }

    #[test]
    fn parts_keep_their_order_and_each_hears_once() {
        let heard = Arc::default();
        let batch = Batch::default();
        for name in ["a", "b", "c"] {
            batch.add(Box::new(Noted {
                name,
                writes: vec![Write::StateDelete {
                    scope: "s".into(),
                    key: name.into(),
                }],
                heard: Arc::clone(&heard),
            }));
        }
        let taken = batch.take::<Noted>(|part| part.name == "b").unwrap();
        assert!(batch.take::<Noted>(|part| part.name == "b").is_none());
        batch.add(taken);
        let keys: Vec<_> = batch
            .writes()
            .into_iter()
            .map(|write| match write {
                Write::StateDelete { key, .. } => key,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(keys, ["a", "c", "b"]);
        batch.settle(true);
        batch.settle(false);
        assert_eq!(*heard.lock().unwrap(), [("a", true), ("c", true), ("b", true)]);
    }
}

//! Tells when the content of one file changed.
//!
//! The parent directory is watched, so a file that is saved by rename, swapped through a symbolic link or created later
//! is seen as well. Content decides, not events: a touch without a change is silent, and so is a deletion.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher as _};

use crate::error::Error;

/// Guard of a watch; dropping it ends the watch.
#[derive(Debug)]
pub struct Watcher {
    /// Holds the sending end of the thread's channel: dropping it ends the thread.
    _events: notify::RecommendedWatcher,
}

/// Calls `on_change`, on a thread of its own, each time the content of `path` has changed and then stayed the same for
/// `settle`. Fails with `dependency/unavailable` when the parent directory cannot be watched.
pub fn watch_file(
    path: &Path,
    settle: Duration,
    on_change: impl Fn() + Send + 'static,
) -> Result<Watcher, Error> {
    let unavailable = |error: &dyn std::fmt::Display| {
        Error::Unavailable(format!("cannot watch {}: {error}", path.display()))
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // One waiting wake is enough: the thread looks at the file, not at the event.
    let (wake, wakes) = sync_channel(1);
    let mut events =
        notify::recommended_watcher(move |event| forward(event, &wake)).map_err(|e| unavailable(&e))?;
    events
        .watch(directory, RecursiveMode::NonRecursive)
        .map_err(|e| unavailable(&e))?;
    let watched = Watched {
        seen: fs::read(path).ok(),
        path: path.to_owned(),
        settle,
    };
    thread::Builder::new()
        .name("watch-file".into())
        .spawn(move || watched.run(&wakes, on_change))
        .map_err(|e| unavailable(&e))?;
    Ok(Watcher { _events: events })
}

fn forward(event: notify::Result<notify::Event>, wake: &SyncSender<()>) {
    let is_change = match event {
        // Reading is an event too; reacting to our own reads would never end.
        Ok(event) => {
            let is_write_end = event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
            is_write_end || !event.kind.is_access()
        }
        // Events may have been lost: look.
        Err(_) => true,
    };
    if is_change {
        // A full channel means a wake is waiting already.
        wake.try_send(()).ok();
    }
}

struct Watched {
    path: PathBuf,
    settle: Duration,
    seen: Option<Vec<u8>>,
}

impl Watched {
    fn run(mut self, wakes: &Receiver<()>, on_change: impl Fn()) {
        while wakes.recv().is_ok() {
            if self.has_settled_on_new_content() {
                on_change();
            }
        }
    }

    fn has_settled_on_new_content(&mut self) -> bool {
        let mut content = fs::read(&self.path).ok();
        if content == self.seen {
            return false;
        }
        loop {
            thread::sleep(self.settle);
            let later = fs::read(&self.path).ok();
            if later == content {
                break;
            }
            content = later;
        }
        let is_new = content.is_some() && content != self.seen;
        if is_new {
            self.seen = content;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const SETTLE: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn each_way_of_saving_is_seen_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content = path.clone();
        let (changed, changes) = channel();
        let _watcher = watch_file(&path, SETTLE, move || {
            changed.send(fs::read_to_string(&content).unwrap()).unwrap();
        })
        .unwrap();

        fs::write(&path, "created").unwrap();
        assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), "created");
        fs::write(dir.path().join("neighbour"), "x").unwrap();
        fs::write(&path, "created").unwrap();
        fs::write(dir.path().join("new"), "renamed").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), "renamed");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "again").unwrap();
        assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), "again");
    }

    #[test]
    fn a_directory_that_does_not_exist_is_an_error() {
        let error = watch_file(Path::new("/nowhere/at/all"), SETTLE, || {}).unwrap_err();
        assert_eq!(error.code(), "dependency/unavailable");
    }
}

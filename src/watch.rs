//! Tells when the content of one file changed.
//!
//! Directories are watched, not the file: all those on the way to it, also behind symbolic links. So a file that is saved by
//! rename, swapped through a link to it or to a directory above it, or created later together with its directory is seen as
//! well. Content decides, not events: a touch without a change is silent.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::error::Error;

/// Symbolic links followed on the way to the file; as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Rounds of finding directories that appear while they are looked for.
const MAX_ROUNDS: usize = 10;

/// Guard of a watch; dropping it ends the watch.
#[derive(Debug)]
pub struct Watcher {
    stopped: Arc<AtomicBool>,
    wake: SyncSender<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // A full channel means the thread is about to wake anyhow.
        self.wake.try_send(()).ok();
    }
}

/// Calls `on_change`, on a thread of its own, each time the content of `path` has changed, or the file is gone, and that has
/// stayed so for `settle`. Fails with `dependency/unavailable` when nothing can be watched.
pub fn watch_file(
    path: &Path,
    settle: Duration,
    on_change: impl Fn() + Send + 'static,
) -> Result<Watcher, Error> {
    let unavailable = |error: &dyn std::fmt::Display| {
        Error::Unavailable(format!("cannot watch {}: {error}", path.display()))
    };
    // One waiting wake is enough: the thread looks at the file, not at the event.
    let (wake, wakes) = sync_channel(1);
    let way = Arc::new(Known::default());
    let events = notify::recommended_watcher({
        let (wake, way) = (wake.clone(), Arc::clone(&way));
        move |event| {
            if way.is_concerned(&event) {
                // A full channel means a wake is waiting already.
                wake.try_send(()).ok();
            }
        }
    })
    .map_err(|e| unavailable(&e))?;
    let mut watched = Watched {
        path: std::path::absolute(path).map_err(|e| unavailable(&e))?,
        settle,
        seen: None,
        events,
        way,
        directories: BTreeSet::new(),
    };
    watched.follow_path().map_err(|e| unavailable(&e))?;
    watched.seen = watched.content();
    let stopped = Arc::new(AtomicBool::new(false));
    let guard = Watcher {
        stopped: Arc::clone(&stopped),
        wake,
    };
    thread::Builder::new()
        .name("watch-file".into())
        .spawn(move || watched.run(&wakes, &stopped, on_change))
        .map_err(|e| unavailable(&e))?;
    Ok(guard)
}

/// What the receiver of events knows of the way to the file.
#[derive(Debug, Default)]
struct Known {
    /// Names of the directories, links and the file on the way. What happens to other names, in busy directories such as the
    /// one for temporary files, is not worth a look.
    names: Mutex<BTreeSet<OsString>>,
    /// Whether something on the way came, went or was renamed since the directories were watched. The system drops the watch
    /// of a directory with it, and one of the same name, even of the same inode, may be another.
    is_moved: AtomicBool,
}

impl Known {
    fn is_concerned(&self, event: &notify::Result<notify::Event>) -> bool {
        let (is_concerned, is_move) = match event {
            Ok(event) => match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => {
                    (self.names(event), false)
                }
                // Reading is an event too; reacting to our own reads would never end.
                EventKind::Access(_) => (false, false),
                EventKind::Any
                | EventKind::Create(_)
                | EventKind::Modify(ModifyKind::Any | ModifyKind::Name(_) | ModifyKind::Other)
                | EventKind::Remove(_)
                | EventKind::Other => (self.names(event), true),
            },
            // Events may have been lost: look.
            Err(_) => (true, true),
        };
        if is_concerned && is_move {
            self.is_moved.store(true, Ordering::SeqCst);
        }
        is_concerned
    }

    /// Whether the event names a step of the way, or nothing in particular.
    fn names(&self, event: &notify::Event) -> bool {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named = event.paths.iter().filter_map(|path| path.file_name());
        event.need_rescan() || event.paths.is_empty() || named.any(|name| names.contains(name))
    }
}

struct Watched {
    path: PathBuf,
    settle: Duration,
    /// None: no such file.
    seen: Option<Vec<u8>>,
    events: RecommendedWatcher,
    way: Arc<Known>,
    /// Directories that are watched, or cannot be.
    directories: BTreeSet<PathBuf>,
}

impl Watched {
    fn run(mut self, wakes: &Receiver<()>, stopped: &AtomicBool, on_change: impl Fn()) {
        while wakes.recv().is_ok() && !stopped.load(Ordering::SeqCst) {
            // First the watches: what changes after the look is then seen.
            if let Err(error) = self.follow_path() {
                tracing::warn!(path = %self.path.display(), %error, "changes of the file may go unnoticed");
            }
            if self.has_settled_on_new_content() {
                on_change();
            }
        }
    }

    fn content(&self) -> Option<Vec<u8>> {
        fs::read(&self.path).ok()
    }

    fn has_settled_on_new_content(&mut self) -> bool {
        let mut content = self.content();
        if content == self.seen {
            return false;
        }
        loop {
            thread::sleep(self.settle);
            let later = self.content();
            if later == content {
                break;
            }
            content = later;
        }
        let is_new = content != self.seen;
        self.seen = content;
        is_new
    }

    /// Watches the directories on the way as it is now, and no others. Fails when the last of them cannot be watched; one
    /// above may be closed to this process.
    fn follow_path(&mut self) -> notify::Result<()> {
        let mut outcome = Ok(());
        let mut is_moved = self.way.is_moved.swap(false, Ordering::SeqCst);
        for _ in 0..MAX_ROUNDS {
            let Way {
                directories,
                names,
                last,
            } = Way::to(&self.path);
            *self.way.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
            if !is_moved && directories == self.directories {
                break;
            }
            for directory in std::mem::take(&mut self.directories) {
                // The system may have dropped the watch already.
                self.events.unwatch(&directory).ok();
            }
            for directory in &directories {
                let watching = self.events.watch(directory, RecursiveMode::NonRecursive);
                if *directory == last {
                    outcome = watching;
                }
            }
            // What appeared before its directory was watched is found in the next round.
            self.directories = directories;
            is_moved = false;
        }
        outcome
    }
}

/// The way to a file through all directories and symbolic links, as far as it exists.
#[derive(Debug, Default)]
struct Way {
    directories: BTreeSet<PathBuf>,
    /// What the steps are called, in all those directories.
    names: BTreeSet<OsString>,
    /// The last of the directories.
    last: PathBuf,
}

impl Way {
    fn to(path: &Path) -> Self {
        let mut way = Self::default();
        let mut links = 0;
        // The rest of the way, its next step last.
        let mut rest = steps(path);
        while let Some(step) = rest.pop() {
            let next = way.last.join(&step);
            way.names.extend(next.file_name().map(OsString::from));
            let Ok(metadata) = fs::symlink_metadata(&next) else {
                break;
            };
            if metadata.is_symlink() && links < MAX_LINKS {
                links += 1;
                // A target that cannot be read is one without steps.
                rest.extend(steps(&fs::read_link(&next).unwrap_or_default()));
            } else if metadata.is_dir() {
                way.directories.insert(next.clone());
                way.last = next;
            } else {
                break;
            }
        }
        way
    }
}

/// Steps of a path in reverse. A root among them leads back to it, as joining an absolute path does.
fn steps(path: &Path) -> Vec<PathBuf> {
    let meaningful = path.components().filter(|step| *step != Component::CurDir);
    let mut steps: Vec<PathBuf> = meaningful.map(|step| PathBuf::from(step.as_os_str())).collect();
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests;

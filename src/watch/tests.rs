use std::cell::RefCell;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::sync::mpsc::channel;

use pretty_assertions::assert_eq;
use tempfile::TempDir;

use super::*;

const SETTLE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);

/// A file that is watched; every change arrives as its content then.
struct Seen {
    watcher: Watcher,
    changes: Receiver<Option<String>>,
    last: RefCell<String>,
}

impl Seen {
    fn of(path: &Path) -> Self {
        let (changed, changes) = channel();
        let content = path.to_owned();
        let watcher = watch_file(path, SETTLE, move || {
            changed.send(fs::read_to_string(&content).ok()).ok();
        })
        .unwrap();
        Self {
            watcher,
            changes,
            last: RefCell::default(),
        }
    }

    /// Waits for this content. On a busy machine what lies between two steps of a test, such as a file half written, may last
    /// long enough to be told, and a change may be read after the next step.
    #[track_caller]
    fn expect(&self, content: &str) {
        let told_before = self.last.replace(content.to_owned());
        loop {
            match self.changes.recv_timeout(PATIENCE).unwrap() {
                Some(seen) if seen == content => return,
                Some(seen) if seen == told_before || content.starts_with(&seen) => {}
                Some(seen) => panic!("{seen:?} instead of {content:?}"),
                None => {}
            }
        }
    }

    #[track_caller]
    fn expect_gone(&self) {
        assert_eq!(self.changes.recv_timeout(PATIENCE).unwrap(), None);
    }
}

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    // Some systems have their directory for temporary files behind a link.
    let root = directory.path().canonicalize().unwrap();
    (directory, root)
}

fn replace_link(target: &str, link: &Path) {
    let beside = link.with_file_name("beside");
    symlink(target, &beside).unwrap();
    fs::rename(&beside, link).unwrap();
}

#[test]
fn each_way_of_saving_is_seen_and_nothing_else() {
    let (_guard, root) = directory();
    let path = root.join("file");
    let seen = Seen::of(&path);

    fs::write(&path, "created").unwrap();
    seen.expect("created");

    // A neighbour, the same content again, a touch: silent.
    fs::write(root.join("neighbour"), "x").unwrap();
    fs::write(&path, "created").unwrap();
    let touched = std::time::UNIX_EPOCH + Duration::from_secs(1);
    fs::File::open(&path).unwrap().set_modified(touched).unwrap();

    // In place, in two halves without a pause that would count as settled.
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(b"in ").unwrap();
    file.flush().unwrap();
    file.write_all(b"place").unwrap();
    drop(file);
    seen.expect("in place");

    // Written beside and renamed.
    fs::write(root.join("new"), "renamed").unwrap();
    fs::rename(root.join("new"), &path).unwrap();
    seen.expect("renamed");

    // The old one renamed to a backup, the new one written, the backup removed.
    fs::rename(&path, root.join("file~")).unwrap();
    fs::write(&path, "after a backup").unwrap();
    fs::remove_file(root.join("file~")).unwrap();
    seen.expect("after a backup");

    // Deleted and created at once, then deleted for good, then back.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "again").unwrap();
    seen.expect("again");
    fs::remove_file(&path).unwrap();
    seen.expect_gone();
    fs::write(&path, "back").unwrap();
    seen.expect("back");
    assert!(seen.changes.try_recv().is_err());
}

#[test]
fn a_directory_of_links_swapped_at_once_is_seen() {
    // As a Kubernetes ConfigMap is mounted.
    let (_guard, root) = directory();
    for (version, content) in [("..1", "one"), ("..2", "two"), ("..3", "three")] {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("file"), content).unwrap();
    }
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/file", root.join("file")).unwrap();
    let seen = Seen::of(&root.join("file"));
    replace_link("..2", &root.join("..data"));
    fs::remove_dir_all(root.join("..1")).unwrap();
    seen.expect("two");
    replace_link("..3", &root.join("..data"));
    seen.expect("three");
    // In place, behind both links.
    fs::write(root.join("..3/file"), "four").unwrap();
    seen.expect("four");
}

#[test]
fn links_elsewhere_are_followed() {
    let (_guard, root) = directory();
    for name in ["etc", "releases/1", "releases/2", "shared"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("releases/1/file"), "one").unwrap();
    fs::write(root.join("releases/2/file"), "two").unwrap();
    symlink("releases/1", root.join("current")).unwrap();
    symlink("../current/file", root.join("etc/file")).unwrap();
    let seen = Seen::of(&root.join("etc/file"));
    // A link to a directory on the way.
    replace_link("releases/2", &root.join("current"));
    seen.expect("two");
    fs::write(root.join("releases/2/file"), "two in place").unwrap();
    seen.expect("two in place");
    // The link to the file itself, now with an absolute target.
    fs::write(root.join("shared/file"), "shared").unwrap();
    replace_link(root.join("shared/file").to_str().unwrap(), &root.join("etc/file"));
    seen.expect("shared");
    // A link that leads nowhere yet.
    replace_link("nowhere", &root.join("etc/file"));
    seen.expect_gone();
    fs::write(root.join("etc/nowhere"), "somewhere").unwrap();
    seen.expect("somewhere");
}

#[test]
fn a_directory_that_comes_and_goes_is_followed() {
    let (_guard, root) = directory();
    let path = root.join("a/b/file");
    let seen = Seen::of(&path);
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(&path, "one").unwrap();
    seen.expect("one");
    fs::remove_dir_all(root.join("a")).unwrap();
    seen.expect_gone();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(&path, "two").unwrap();
    seen.expect("two");
    // Replaced as a whole.
    fs::create_dir_all(root.join("new/b")).unwrap();
    fs::write(root.join("new/b/file"), "three").unwrap();
    fs::rename(root.join("a"), root.join("old")).unwrap();
    fs::rename(root.join("new"), root.join("a")).unwrap();
    seen.expect("three");
    fs::write(&path, "four").unwrap();
    seen.expect("four");
    // Removed with its directory, which is back before the removal has settled: often under the same inode.
    for n in 0..10 {
        fs::remove_dir_all(root.join("a")).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(&path, format!("again {n}")).unwrap();
        seen.expect(&format!("again {n}"));
    }
}

#[test]
fn the_watch_ends_with_its_guard() {
    let (_guard, root) = directory();
    let path = root.join("file");
    let seen = Seen::of(&path);
    drop(seen.watcher);
    // The closure with the sender is dropped by the thread as it ends.
    assert_eq!(
        seen.changes.recv_timeout(PATIENCE),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
}

#[test]
fn links_in_a_circle_end() {
    let (_guard, root) = directory();
    symlink("b", root.join("a")).unwrap();
    symlink("a", root.join("b")).unwrap();
    let seen = Seen::of(&root.join("a/file"));
    replace_link("c", &root.join("b"));
    fs::create_dir(root.join("c")).unwrap();
    fs::write(root.join("c/file"), "found").unwrap();
    seen.expect("found");
}

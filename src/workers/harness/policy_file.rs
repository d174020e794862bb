//! The rule file on disk: loaded before the first check, loaded again when it changes (contract 03 §3.1).
//!
//! A check takes the rules as they are at that moment, so a file replaced meanwhile gives the old answer or the new one,
//! never a mix. A file that cannot be read never takes rules away that are in force.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Harness;
use crate::bus::Cx;
use crate::error::Result;
use crate::rules::RuleSet;
use crate::watch::{Watcher, watch_file};

/// How long the file must stay the same before it is read again.
const SETTLE: Duration = Duration::from_millis(150);

/// Largest file read, bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The rules in force. None at all before the file is loaded, so that every call needs a person.
#[derive(Debug, Default)]
pub(super) struct PolicyFile {
    loaded: Arc<Loaded>,
    watcher: Mutex<Option<Watcher>>,
}

#[derive(Debug, Default)]
struct Loaded {
    rules: ArcSwap<RuleSet>,
    /// Held from reading to replacing, so that of two loads the later reading wins.
    loading: Mutex<()>,
}

impl PolicyFile {
    /// The rules at this moment.
    pub(super) fn rules(&self) -> Arc<RuleSet> {
        self.loaded.rules.load_full()
    }

    /// Loads the file and follows its changes until this is dropped. Never fails: without a readable file there are no
    /// rules, without a watch changes need a restart; both are logged.
    pub(super) fn follow(&self, path: &Path) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // First the watch: a change between the two is then seen.
        let watcher = watch_file(&path, SETTLE, {
            let (loaded, path) = (Arc::clone(&self.loaded), path.clone());
            move || loaded.load(&path, "reloaded")
        });
        match watcher {
            Ok(watcher) => *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(watcher),
            Err(error) => tracing::warn!(%error, "changes of the permission rules need a restart"),
        }
        self.loaded.load(&path, "loaded");
    }
}

impl Loaded {
    fn load(&self, path: &Path, verb: &str) {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        match read(path) {
            Ok(rules) => {
                tracing::info!(path = %path.display(), rules = rules.len(), "permission rules {verb}");
                for id in rules.repeated_ids() {
                    tracing::warn!(path = %path.display(), rule_id = id, "rule id occurs more than once");
                }
                self.rules.store(Arc::new(rules));
            }
            Err(problem) => {
                let rules = self.rules.load().len();
                tracing::warn!(path = %path.display(), problem, rules, "permission rules not {verb}, the previous ones stay");
            }
        }
    }
}

fn read(path: &Path) -> Result<RuleSet, String> {
    let text = read_text(path).map_err(|error| error.to_string())?;
    RuleSet::parse(&text).map_err(|error| error.to_string())
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let refuse = |why: &str| std::io::Error::other(why.to_owned());
    if !path.metadata()?.is_file() {
        return Err(refuse("not a file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(refuse("larger than 4 MiB"));
    }
    Ok(text)
}

/// Loads the rules named by the configuration; part of the worker's preparation.
pub(super) async fn prepare(cx: Cx<Harness>) -> Result<()> {
    let path = cx.config().permissions_path.clone();
    cx.state().policy.follow(&path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::api::approval::Verdict;
    use serde_json::Map;
    use tempfile::TempDir;

    #[test]
    fn what_cannot_be_read_takes_no_rules_away() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("rules.yaml");
        let loaded = Loaded::default();
        let allowed = |id| matches!(loaded.rules.load().check(id, &Map::new()), Verdict::Allow { .. });
        std::fs::write(&file, "rules: [one]").unwrap();
        loaded.load(&file, "loaded");
        assert!(allowed("one"));
        for broken in [
            "rules: [two, '!']".as_bytes(),
            b"rules: [two",
            b"rules: [two] # \xff",
            &vec![b' '; 5 * 1024 * 1024],
        ] {
            std::fs::write(&file, broken).unwrap();
            loaded.load(&file, "reloaded");
            assert!(allowed("one") && !allowed("two"));
        }
        std::fs::remove_file(&file).unwrap();
        loaded.load(&file, "reloaded");
        loaded.load(directory.path(), "reloaded");
        assert!(allowed("one"));
        // A readable file without rules is no mistake.
        std::fs::write(&file, "version: 1").unwrap();
        loaded.load(&file, "reloaded");
        assert!(!allowed("one"));
    }
}

//! The rule file on disk: loaded before the first check, loaded again when it changes (contract 03 §3.1).
//!
//! A check takes the rules as they are at that moment, so a file replaced meanwhile gives the old answer or the new one,
//! never a mix. A file that cannot be read never takes rules away that are in force. Where there are none, at the start, every
//! call needs a person, and the answers say why.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Harness;
use crate::bus::Cx;
use crate::error::Result;
use crate::model::api::approval::Verdict;
use crate::rules::{self, Args, RuleFile, RuleSet};
use crate::watch::{Watcher, watch_file};
use arc_swap::ArcSwap;

/// How long the file must stay the same before it is read again.
const SETTLE: Duration = Duration::from_millis(150);

/// The rules in force. None at all before the file is loaded, so that every call needs a person.
#[derive(Debug, Default)]
pub(super) struct PolicyFile {
    loaded: Arc<Loaded>,
    following: ArcSwap<Following>,
    /// Held while another file is turned to.
    turning: Mutex<()>,
}

/// The file as the configuration names it, and what tells of its changes.
#[derive(Debug, Default)]
struct Following {
    path: Option<PathBuf>,
    _watcher: Option<Watcher>,
}

#[derive(Debug, Default)]
struct Loaded {
    in_force: ArcSwap<InForce>,
    /// The file to read. Held from reading to replacing, so that of two loads the later reading wins, and never one of a
    /// file that is not followed any more.
    path: Mutex<PathBuf>,
}

#[derive(Debug, Default)]
struct InForce {
    rules: RuleSet,
    /// Why there are none: a file is there and was never usable.
    unusable: Option<String>,
    /// Whether a file was read.
    is_read: bool,
}

impl PolicyFile {
    /// What the rules of this moment say. A configuration that names another file since the last check has it loaded first.
    pub(super) fn check<'a>(&self, path: &Path, function_id: &str, args: impl Into<Args<'a>>) -> Verdict {
        self.follow(path);
        self.loaded.check(function_id, args)
    }

    /// Loads the file and follows its changes, instead of those of any other, until this is dropped. Never fails: without a
    /// readable file the rules stay as they are, without a watch changes need a restart; both are logged.
    fn follow(&self, path: &Path) {
        if self.following.load().path.as_deref() == Some(path) {
            return;
        }
        let _turning = lock(&self.turning);
        if self.following.load().path.as_deref() == Some(path) {
            return;
        }
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        lock(&self.loaded.path).clone_from(&absolute);
        // First the watch: a change between the two is then seen.
        let watcher = watch_file(&absolute, SETTLE, {
            let loaded = Arc::clone(&self.loaded);
            move || loaded.load("reloaded")
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "changes of the permission rules need a restart");
        }
        self.loaded.load("loaded");
        self.following.store(Arc::new(Following {
            path: Some(path.to_owned()),
            _watcher: watcher.ok(),
        }));
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Loaded {
    fn check<'a>(&self, function_id: &str, args: impl Into<Args<'a>>) -> Verdict {
        let in_force = self.in_force.load();
        match &in_force.unusable {
            Some(reason) => Verdict::NeedsApproval {
                reason: Some(reason.clone()),
            },
            None => in_force.rules.check(function_id, args),
        }
    }

    fn load(&self, verb: &str) {
        let path = lock(&self.path);
        let path_shown = path.display();
        match read(&path) {
            Ok((rules, warnings)) => {
                tracing::info!(path = %path_shown, rules = rules.len(), examples = rules.examples(), "permission rules {verb}");
                for warning in warnings {
                    tracing::warn!(path = %path_shown, warning, "permission rules");
                }
                self.in_force.store(Arc::new(InForce {
                    rules,
                    unusable: None,
                    is_read: true,
                }));
            }
            Err(problem) => self.keep(&path, &problem, verb),
        }
    }

    /// The file is of no use: what is in force stays. A missing one is usual, and a bad one before any good one must be seen.
    fn keep(&self, path: &Path, problem: &Problem, verb: &str) {
        let in_force = self.in_force.load();
        let (path, rules) = (path.display(), in_force.rules.len());
        let unusable = match (in_force.is_read, problem) {
            (true, Problem::Missing) => {
                tracing::warn!(%path, rules, "there is no file of permission rules, the previous ones stay in force");
                return;
            }
            (true, Problem::Unusable(problem)) => {
                tracing::error!(%path, problem, rules, "permission rules not {verb}, the previous ones stay in force");
                return;
            }
            (false, Problem::Missing) => {
                tracing::warn!(%path, "no file of permission rules, so every call of an agent needs a person");
                None
            }
            (false, Problem::Unusable(problem)) => {
                tracing::error!(%path, problem, "NO PERMISSION RULES ARE IN FORCE: the file is unusable, so every call of an agent needs a person");
                Some(format!("no rules are in force, {path} is unusable: {problem}"))
            }
        };
        self.in_force.store(Arc::new(InForce {
            unusable,
            ..InForce::default()
        }));
    }
}

/// Why there is nothing to load.
#[derive(Debug)]
enum Problem {
    Missing,
    Unusable(String),
}

fn read(path: &Path) -> Result<(RuleSet, Vec<String>), Problem> {
    let text = read_text(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Problem::Missing,
        _ => Problem::Unusable(error.to_string()),
    })?;
    let file = RuleFile::read(&text);
    let warnings = file.warnings.iter().map(ToString::to_string).collect();
    match file.rules {
        Ok(rules) => Ok((rules, warnings)),
        Err(error) => Err(Problem::Unusable(error.to_string())),
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    if !path.metadata()?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut text = String::new();
    // One more than is taken, so that a larger file is seen to be too large.
    let most = rules::MAX_BYTES as u64 + 1;
    File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

/// Loads the rules named by the configuration; part of the worker's preparation.
pub(super) async fn prepare(cx: Cx<Harness>) -> Result<()> {
    cx.state().policy.follow(&cx.config().permissions_path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::Map;
    use tempfile::TempDir;

    impl Loaded {
        fn reads(&self, path: &Path, verb: &str) {
            path.clone_into(&mut lock(&self.path));
            self.load(verb);
        }
    }

    const BROKEN: [&[u8]; 3] = [b"rules: [two, '!']", b"rules: [two", b"rules: [two] # \xff"];

    #[test]
    fn what_cannot_be_read_takes_no_rules_away() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("rules.yaml");
        let loaded = Loaded::default();
        let allowed = |id| matches!(loaded.check(id, &Map::new()), Verdict::Allow { .. });
        std::fs::write(&file, "rules: [one]").unwrap();
        loaded.reads(&file, "loaded");
        assert!(allowed("one"));
        for broken in BROKEN.into_iter().chain([vec![b' '; 5 * 1024 * 1024].as_slice()]) {
            std::fs::write(&file, broken).unwrap();
            loaded.reads(&file, "reloaded");
            assert!(allowed("one") && !allowed("two"));
        }
        std::fs::remove_file(&file).unwrap();
        loaded.reads(&file, "reloaded");
        loaded.reads(directory.path(), "reloaded");
        assert!(allowed("one"));
        // A readable file without rules is no mistake.
        std::fs::write(&file, "version: 1").unwrap();
        loaded.reads(&file, "reloaded");
        assert_eq!(loaded.check("one", &Map::new()), Verdict::ASK);
    }

    #[test]
    fn a_bad_file_at_the_start_is_told_until_a_good_one_comes() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("rules.yaml");
        let loaded = Loaded::default();
        let reason = || match loaded.check("one", &Map::new()) {
            Verdict::NeedsApproval { reason } => reason,
            other => panic!("{other:?}"),
        };
        loaded.reads(&file, "loaded");
        assert_eq!(reason(), None, "a missing file is no mistake");
        std::fs::write(&file, "rules:\n- one\n- '!'\n").unwrap();
        loaded.reads(&file, "reloaded");
        let expected = format!(
            "no rules are in force, {} is unusable: line 3: rule 2: no function id",
            file.display()
        );
        assert_eq!(reason(), Some(expected));
        loaded.reads(directory.path(), "reloaded");
        assert!(reason().unwrap().ends_with(" is unusable: not a file"));
        std::fs::remove_file(&file).unwrap();
        loaded.reads(&file, "reloaded");
        assert_eq!(reason(), None);
        std::fs::write(&file, "rules: [one]").unwrap();
        loaded.reads(&file, "reloaded");
        let allowed = Verdict::Allow {
            rule_id: "one".into(),
        };
        assert_eq!(loaded.check("one", &Map::new()), allowed);
    }
}

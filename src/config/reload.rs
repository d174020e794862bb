//! A changed file is read, checked and swapped in as a whole, or the old values stay (contract 12 §1 rule 7).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::input::{Finding, Findings, LoadInput, Source};
use super::table::Config;
use crate::error::Error;
use crate::watch::{Watcher, watch_file};

/// How long the file must stay unchanged before it is read.
pub const SETTLE: Duration = Duration::from_millis(150);

/// What became of a changed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// Its values are in force; the warnings name, among others, the sections that wait for a restart.
    Swapped(Vec<Finding>),
    /// It is not usable; the old values stay.
    Kept(Findings),
}

/// Reads the configuration again and swaps it in if it is usable. Logs what happened.
pub fn reload(input: &LoadInput, current: &ArcSwap<Config>) -> Reload {
    let outcome = read_again(input, current);
    let path = input.file().display();
    match &outcome {
        Reload::Swapped(warnings) => {
            for warning in warnings {
                tracing::warn!(%path, "configuration: {warning}");
            }
            tracing::info!(%path, "configuration reloaded");
        }
        Reload::Kept(findings) => {
            let all: Vec<String> = findings.0.iter().map(Finding::to_string).collect();
            tracing::warn!(%path, "configuration not reloaded, the old values stay: {}", all.join("; "));
        }
    }
    outcome
}

fn read_again(input: &LoadInput, current: &ArcSwap<Config>) -> Reload {
    let loaded = match Config::load(input) {
        Ok(loaded) => loaded,
        Err(findings) => return Reload::Kept(findings),
    };
    if let Source::NoFile(path) = &loaded.source {
        let gone = Finding {
            path: path.display().to_string(),
            text: "the file is gone".into(),
        };
        return Reload::Kept(Findings(vec![gone]));
    }
    let mut config = loaded.config;
    let mut warnings = loaded.warnings;
    for section in config.keep_restart_sections(&current.load()) {
        warnings.push(Finding {
            path: section.into(),
            text: "a change takes effect at the next start".into(),
        });
    }
    current.store(Arc::new(config));
    Reload::Swapped(warnings)
}

/// Calls [`reload`] whenever the file changes, until the guard is dropped. `on_reload` gets every outcome.
pub fn watch(
    input: LoadInput,
    current: Arc<ArcSwap<Config>>,
    on_reload: impl Fn(Reload) + Send + 'static,
) -> Result<Watcher, Error> {
    let path = input.file().to_owned();
    watch_file(&path, SETTLE, move || on_reload(reload(&input, &current)))
}

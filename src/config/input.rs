//! What goes into loading a configuration and what comes out of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::engine::EngineChoice;
use super::env::Env;
use super::table::Config;

/// The file that is read when none is named.
pub const DEFAULT_PATH: &str = "./config.yaml";

/// One thing that is wrong, or doubtful, with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `section.key`, or the file's path.
    pub path: String,
    /// What is wrong and what would be right.
    pub text: String,
}

impl Finding {
    pub(super) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Everything that makes a configuration unusable; never empty. The program ends with exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Finding::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Findings {}

/// Values given on the command line.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--url`: `engine.url`.
    pub url: Option<String>,
}

/// What a configuration is made of.
#[derive(Clone)]
pub struct LoadInput {
    /// `--config`; [`DEFAULT_PATH`] without one.
    pub path: Option<PathBuf>,
    /// Values given on the command line.
    pub flags: Flags,
    /// The environment.
    pub env: Arc<dyn Env>,
}

impl fmt::Debug for LoadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadInput")
            .field("path", &self.path)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

impl LoadInput {
    /// The file in question.
    pub fn file(&self) -> &Path {
        self.path.as_deref().unwrap_or_else(|| Path::new(DEFAULT_PATH))
    }
}

/// Whether there was a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// This one.
    File(PathBuf),
    /// None at this place: all defaults.
    NoFile(PathBuf),
}

/// Where the value of a key came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// Nobody gave one.
    #[default]
    Default,
    /// The file.
    File,
    /// This variable.
    Variable(String),
    /// This flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("the configuration file"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A usable configuration and how it came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values in force.
    pub config: Config,
    /// What was ignored or is doubtful.
    pub warnings: Vec<Finding>,
    /// Whether there was a file.
    pub source: Source,
    /// Keys (`section.key`) that do not have their default, and who set them.
    pub origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// Where the value of this key (`section.key`) came from.
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or_default()
    }

    /// Which engine to use, as far as the configuration says.
    pub fn engine_choice(&self) -> EngineChoice {
        EngineChoice::of(&self.config.engine, &self.origin("engine.url"))
    }
}

//! From file, variables and flags to a [`Config`]: every mistake is found in one go.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use serde_json::{Map, Value};

use super::choice::EngineMode;
use super::env::Env;
use super::input::{Finding, Findings, Flags, LoadInput, Loaded, Origin, Source};
use super::names::{find, hint, is_section, path};
use super::older::Reading;
use super::rule::{Rule, split_address};
use super::spec::{Key, Older};
use super::table::{Config, KEYS};
use crate::yaml;

/// Prefix of the variables that name a key.
const PREFIX: &str = "HARNESS__";

impl Config {
    /// Reads and checks everything: default < file < older variable < `HARNESS__…` < flag.
    pub fn load(input: &LoadInput) -> Result<Loaded, Findings> {
        let path = input.file();
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_text(&text, input, Source::File(path.to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut loaded = Self::from_text("", input, Source::NoFile(path.to_owned()))?;
                if input.path.is_some() {
                    loaded
                        .warnings
                        .insert(0, Finding::new(shown, "no such file; all defaults"));
                }
                Ok(loaded)
            }
            Err(error) => Err(Findings(vec![Finding::new(
                shown,
                format!("cannot be read: {error}"),
            )])),
        }
    }

    fn from_text(text: &str, input: &LoadInput, source: Source) -> Result<Loaded, Findings> {
        let mut layers = Layers::new(input.env.as_ref());
        match yaml::parse(text) {
            Ok(Value::Null) => {}
            Ok(Value::Object(file)) => layers.file(file),
            Ok(_) => layers.error(input.file().display().to_string(), "line 1: must be a mapping"),
            Err(error) => layers.error(input.file().display().to_string(), error.to_string()),
        }
        layers.older_variables(|older| !older.beats_all);
        layers.variables();
        layers.flags(&input.flags);
        layers.older_variables(|older| older.beats_all);
        layers.finish(source)
    }
}

/// Values given so far, later ones over earlier ones.
struct Layers<'a> {
    env: &'a dyn Env,
    given: Map<String, Value>,
    origins: BTreeMap<String, Origin>,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl<'a> Layers<'a> {
    fn new(env: &'a dyn Env) -> Self {
        Self {
            env,
            given: Map::new(),
            origins: BTreeMap::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn error(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.errors.push(Finding::new(path, text));
    }

    fn warn(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.warnings.push(Finding::new(path, text));
    }

    fn file(&mut self, file: Map<String, Value>) {
        for (name, value) in file {
            if is_section(&name) {
                self.file_section(&name, value);
            } else if let Some(key) = find("", &name) {
                self.put(key, &value, Origin::File);
            } else {
                self.unknown("", &name, &Origin::File);
            }
        }
    }

    fn file_section(&mut self, section: &str, value: Value) {
        let entries = match value {
            Value::Object(entries) => entries,
            // A section whose keys are all commented out.
            Value::Null => return,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return self.error(section, "must be a mapping");
            }
        };
        for (name, value) in entries {
            match find(section, &name) {
                Some(key) if key.spec.rule == Rule::Secret => self.file_secret(key, &value),
                Some(key) => self.put(key, &value, Origin::File),
                None => self.unknown(section, &name, &Origin::File),
            }
        }
    }

    /// Secrets stand in the file only as a reference to a variable.
    fn file_secret(&mut self, key: &Key, value: &Value) {
        if value.is_null() {
            return;
        }
        let Some((variable, default)) = value.as_str().and_then(reference) else {
            return self.error(
                key.path(),
                format!("must be {}; a secret is never written out", key.spec.rule),
            );
        };
        match self
            .env
            .var(variable)
            .or_else(|| default.map(str::to_owned))
            .filter(|text| !text.is_empty())
        {
            Some(text) => self.put(key, &text.into(), Origin::File),
            None => self.warn(key.path(), format!("the variable {variable} is not set")),
        }
    }

    fn older_variables(&mut self, wanted: impl Fn(&Older) -> bool) {
        for key in KEYS {
            let Some(older) = key.spec.older.filter(&wanted) else {
                continue;
            };
            let Some(raw) = self.env.var(older.name) else {
                continue;
            };
            match (older.read)(&raw) {
                Reading::Value(value) => self.put_older(key, older.name, &value),
                Reading::NoEffect => {}
                Reading::Unusable => self.ignore_older(key, older.name),
            }
        }
    }

    fn put_older(&mut self, key: &Key, name: &str, value: &Value) {
        // An address that cannot be used must not lead to another engine than the one that was meant.
        let is_address = key.section == "engine" && key.name == "url";
        if is_address || key.spec.check(value).is_ok() {
            self.put(key, value, Origin::Variable(name.to_owned()));
        } else {
            self.ignore_older(key, name);
        }
    }

    fn ignore_older(&mut self, key: &Key, name: &str) {
        let code = name.to_lowercase();
        self.warn(
            key.path(),
            format!("{name} is not usable and counts as not set ({code}_invalid)"),
        );
    }

    fn variables(&mut self) {
        let mut variables = self.env.vars();
        variables.sort();
        for (name, raw) in variables {
            let Some(path) = name.strip_prefix(PREFIX).map(str::to_lowercase) else {
                continue;
            };
            let (section, key_name) = path.split_once("__").unwrap_or(("", &path));
            let origin = Origin::Variable(name.clone());
            match find(section, key_name) {
                Some(key) => match variable_value(key, &raw) {
                    Ok(value) => self.put(key, &value, origin),
                    Err(text) => self.error(key.path(), format!("{text} (from {name})")),
                },
                None => self.unknown(section, key_name, &origin),
            }
        }
    }

    fn flags(&mut self, flags: &Flags) {
        if let (Some(url), Some(key)) = (&flags.url, find("engine", "url")) {
            self.put(key, &url.as_str().into(), Origin::Flag("--url"));
        }
    }

    fn put(&mut self, key: &Key, value: &Value, origin: Origin) {
        let path = key.path();
        match key.spec.check(value) {
            Ok(value) => {
                let section = match key.section {
                    "" => &mut self.given,
                    name => {
                        let entry = self
                            .given
                            .entry(name)
                            .or_insert_with(|| Value::Object(Map::new()));
                        let Some(section) = entry.as_object_mut() else {
                            return;
                        };
                        section
                    }
                };
                section.insert(key.name.to_owned(), value);
                self.origins.insert(path, origin);
            }
            Err(text) => {
                let from = from(&origin);
                if key.spec.lenient {
                    self.warn(path, format!("{text}{from}; ignored"));
                } else {
                    self.error(path, format!("{text}{from}"));
                }
            }
        }
    }

    /// A name we do not have: a mistake inside our sections, perhaps somebody else's at top level.
    fn unknown(&mut self, section: &str, name: &str, origin: &Origin) {
        let path = path(section, name);
        let hint = hint(section, name)
            .map(|hint| format!("; did you mean `{hint}`?"))
            .unwrap_or_default();
        let from = from(origin);
        if is_section(section) {
            self.error(path, format!("unknown key{from}{hint}"));
        } else {
            self.warn(path, format!("unknown name, ignored{from}{hint}"));
        }
    }

    fn finish(mut self, source: Source) -> Result<Loaded, Findings> {
        let given = Value::Object(std::mem::take(&mut self.given));
        let config: Config = match serde_path_to_error::deserialize(given) {
            Ok(config) => config,
            Err(error) => {
                self.error(error.path().to_string(), error.inner().to_string());
                return Err(Findings(self.errors));
            }
        };
        self.check_together(&config);
        if self.errors.is_empty() {
            Ok(Loaded {
                config,
                warnings: self.warnings,
                source,
                origins: self.origins,
            })
        } else {
            Err(Findings(self.errors))
        }
    }

    /// Rules over more than one key.
    fn check_together(&mut self, config: &Config) {
        let engine = &config.engine;
        if engine.mode != EngineMode::Connect && !is_loopback(&engine.listen) && engine.listen_token.is_none()
        {
            let text = format!(
                "required, because engine.listen is {}, which is not loopback",
                engine.listen
            );
            self.error("engine.listen_token", text);
        }
        if engine.mode == EngineMode::Embedded && engine.url.is_some() {
            let origin = self.origins.get("engine.url").cloned().unwrap_or_default();
            self.warn(
                "engine.url",
                format!("ignored: engine.mode is embedded (address given by {origin})"),
            );
        }
    }
}

/// Says where a bad value came from, unless that is the file.
fn from(origin: &Origin) -> String {
    if *origin == Origin::File {
        String::new()
    } else {
        format!(" (from {origin})")
    }
}

/// `${VAR}` or `${VAR:default}`, and nothing around it.
fn reference(text: &str) -> Option<(&str, Option<&str>)> {
    let inner = text.trim().strip_prefix("${")?.strip_suffix('}')?;
    let (name, default) = match inner.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((name, default))
}

/// A variable's text as a value: a YAML scalar or flow list, but a text where a text is wanted.
fn variable_value(key: &Key, raw: &str) -> Result<Value, String> {
    let is_secret = key.spec.rule == Rule::Secret;
    match yaml::parse(raw) {
        Ok(value) if !is_secret && (value.is_string() || (value.is_null() && key.spec.optional)) => Ok(value),
        _ if key.spec.rule.is_textual() => Ok(raw.into()),
        Ok(value) => Ok(value),
        Err(error) => Err(error.message),
    }
}

/// Whether only this machine can reach the address.
fn is_loopback(address: &str) -> bool {
    split_address(address).is_some_and(|(host, _)| {
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

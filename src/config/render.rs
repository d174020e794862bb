//! The example file and the documentation, written from the table. Tests hold the files to what is written here.

use std::fmt::Write as _;

use serde_json::Value;

use super::rule::Rule;
use super::spec::{Applies, Key, Section};
use super::table::{Config, KEYS, SECTIONS};

const EXAMPLE_HEAD: &str = "\
# All settings with their defaults; null = none. Leave out what you do not change.
# Every key has a variable, which wins over the file: engine.call_timeout_ms is HARNESS__ENGINE__CALL_TIMEOUT_MS.
# A secret stands here only as ${VAR} or ${VAR:default}. Keys of model providers belong to the engine's `harness` entry.
# A change takes effect with the next call or turn, except in the sections marked \"restart\".
";

const DOCUMENTATION_HEAD: &str = "\
# Configuration

`harness --config <path>` reads one YAML mapping, by default `./config.yaml`; without a file all defaults hold.
`config.example.yaml` lists every key. `harness check-config` reports all mistakes at once.

Later sources win: default, file, older variable, `HARNESS__<SECTION>__<KEY>`, flag. The variable of
`engine.call_timeout_ms` is `HARNESS__ENGINE__CALL_TIMEOUT_MS`, that of the top-level `permissions_path` is
`HARNESS__PERMISSIONS_PATH`. Its value is read as a YAML scalar, a list in flow form: `[\"a\",\"b\"]`. Empty means not set.

A bad value ends the start with exit code 2 and the key's path, and so does an unknown name inside a section. Keys marked
*lenient* only warn and keep their default. Unknown top-level names only warn, so that the engine's own file does no harm.

A changed file is read again and swapped in as a whole; a bad one keeps the old values and warns. Sections marked
*restart* keep their running values until the next start.

`engine.listen_token` is the only secret: in the file it stands as `${VAR}` or `${VAR:default}`.
API keys of model providers are not settings of this file; they live in the engine's `harness` entry, or in
`ANTHROPIC_API_KEY`, `OPENAI_API_KEY`, `MOONSHOT_API_KEY`, `LMSTUDIO_API_KEY`, `LLAMACPP_API_KEY`.

This file is written from the table in `src/config/table.rs`.
";

/// The text of `config.example.yaml`.
pub fn example() -> String {
    let defaults = defaults();
    let mut out = EXAMPLE_HEAD.to_owned();
    for key in KEYS.iter().filter(|key| key.section.is_empty()) {
        out.push('\n');
        out.push_str(&example_entry(key, &defaults, ""));
    }
    for section in SECTIONS {
        let restart = if section.applies == Applies::Restart {
            " (restart)"
        } else {
            ""
        };
        writeln_to(
            &mut out,
            &format!("\n# {}{restart}\n{}:", section.meaning.trim(), section.name),
        );
        for key in keys_of(section) {
            out.push_str(&example_entry(key, &defaults, "  "));
        }
    }
    out
}

fn example_entry(key: &Key, defaults: &Value, indent: &str) -> String {
    let mut out = format!(
        "{indent}# {} [{}]\n{indent}{}:",
        key.meaning.trim(),
        accepted(key),
        key.name
    );
    match default_of(key, defaults) {
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                writeln_to(&mut out, &format!("{indent}  - {item}"));
            }
        }
        value => writeln_to(&mut out, &format!(" {}", scalar(value))),
    }
    out
}

/// The text of `docs/configuration.md`.
pub fn documentation() -> String {
    let defaults = defaults();
    let mut out = DOCUMENTATION_HEAD.to_owned();
    out.push_str("\n## Top level\n\n");
    out.push_str(&rows(KEYS.iter().filter(|key| key.section.is_empty()), &defaults));
    for section in SECTIONS {
        let restart = if section.applies == Applies::Restart {
            " *restart*"
        } else {
            ""
        };
        writeln_to(
            &mut out,
            &format!("\n## `{}`\n\n{}{restart}\n", section.name, section.meaning.trim()),
        );
        out.push_str(&rows(keys_of(section), &defaults));
    }
    out
}

fn rows<'a>(keys: impl Iterator<Item = &'a Key>, defaults: &Value) -> String {
    let mut out = "| key | accepts | default | meaning |\n|---|---|---|---|\n".to_owned();
    for key in keys {
        let default = match default_of(key, defaults) {
            Value::Null => "none".to_owned(),
            Value::Array(items) if !items.is_empty() => {
                format!("{} entries, see the example file", items.len())
            }
            value => format!("`{}`", scalar(value)),
        };
        let lenient = if key.spec.lenient { " *lenient*" } else { "" };
        let older = key
            .spec
            .older
            .map(|older| format!(" (also `{}`)", older.name))
            .unwrap_or_default();
        let meaning = format!("{}{older}{lenient}", key.meaning.trim()).replace('|', "\\|");
        writeln_to(
            &mut out,
            &format!("| `{}` | {} | {default} | {meaning} |", key.name, accepted(key)),
        );
    }
    out
}

/// Accepted values in words, with the unit that the name carries.
fn accepted(key: &Key) -> String {
    let unit = unit(key).map(|unit| format!(", {unit}")).unwrap_or_default();
    let none = if key.spec.optional { ", or null" } else { "" };
    format!("{}{unit}{none}", key.spec.rule)
}

fn unit(key: &Key) -> Option<&'static str> {
    const UNITS: &[(&str, &str)] = &[
        ("ms", "ms"),
        ("bytes", "bytes"),
        ("chars", "chars"),
        ("tokens", "tokens"),
        ("token", "tokens"),
        ("items", "items"),
        ("calls", "calls"),
        ("turns", "turns"),
    ];
    let is_number = matches!(key.spec.rule, Rule::Integer { .. } | Rule::Number { .. });
    let mut parts = key.name.split('_');
    let found = parts.find_map(|part| UNITS.iter().find(|(name, _)| *name == part));
    found.filter(|_| is_number).map(|(_, unit)| *unit)
}

fn keys_of(section: &Section) -> impl Iterator<Item = &'static Key> {
    let name = section.name;
    KEYS.iter().filter(move |key| key.section == name)
}

fn defaults() -> Value {
    serde_json::to_value(Config::default()).unwrap_or_default()
}

fn default_of<'a>(key: &Key, defaults: &'a Value) -> &'a Value {
    let place = if key.section.is_empty() {
        Some(defaults)
    } else {
        defaults.get(key.section)
    };
    place
        .and_then(|place| place.get(key.name))
        .unwrap_or(&Value::Null)
}

/// A value on one line: words bare, other texts in quotes.
fn scalar(value: &Value) -> String {
    match value.as_str() {
        Some(word) if !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
            word.into()
        }
        _ => value.to_string(),
    }
}

fn writeln_to(out: &mut String, line: &str) {
    // Writing to a string cannot fail.
    writeln!(out, "{line}").ok();
}

//! The documents say what is there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use harness::config::{Env, ProcessEnv};
use harness::error::Error;
use pretty_assertions::assert_eq;

use super::catalog;

/// The root of the project.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Holds a generated file to what it must be, or with `UPDATE_FILES` set writes it.
pub(super) fn assert_file(name: &str, expected: &str) {
    if ProcessEnv.var("UPDATE_FILES").is_some() {
        fs::write(root().join(name), expected).unwrap();
    }
    assert_eq!(
        read(name),
        expected,
        "{name} is out of date; UPDATE_FILES=1 cargo test writes it anew"
    );
}

/// The same for the part of a file between `<!-- name -->` and `<!-- /name -->`.
fn assert_part(file: &str, name: &str, expected: &str) {
    // Two tests write parts of one file.
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = read(file);
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let parts = text
        .split_once(&open)
        .and_then(|(before, rest)| rest.split_once(&close).map(|(_, after)| (before, after)));
    let (before, after) = parts.unwrap_or_else(|| panic!("{file} has no part {name}"));
    assert_file(file, &format!("{before}{open}{expected}{close}{after}"));
}

/// The tracked Markdown files of the project.
fn documents() -> Vec<String> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let names = docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()));
    let top = ["README.md", "CHANGELOG.md"].map(str::to_owned);
    names
        .filter(|name| Path::new(name).extension().is_some_and(|it| it == "md"))
        .chain(top)
        .collect()
}

// README

/// Worker folders in the order of the table, with a word on each.
const WORKERS: &[(&str, &str)] = &[
    ("turn", "the turn machine"),
    ("approval", "people's decisions and permission settings"),
    ("harness", "browser bridge, provider registry, rules"),
    ("hook_fanout", "hooks"),
    ("budget", "budgets"),
    ("session_tree", "transcripts"),
    ("session_inbox", "steering messages"),
    ("models", "model catalog"),
    ("context_compaction", "compaction"),
    ("web", "fetching pages"),
    ("providers", "model providers"),
];

fn function_table() -> String {
    let fixture = catalog::fixture();
    let beyond: Vec<String> = catalog::OWN.iter().map(|(id, _)| (*id).to_owned()).collect();
    let all: BTreeSet<String> = fixture.keys().chain(&beyond).cloned().collect();
    let mut table = String::from("| worker | functions |\n|---|---|\n");
    let mut listed = 0;
    for (folder, about) in WORKERS {
        let own: Vec<&String> = all.iter().filter(|id| catalog::folder(id) == *folder).collect();
        listed += own.len();
        writeln!(table, "| `{folder}`: {about} | {} |", ids(&own)).unwrap();
    }
    assert_eq!(listed, all.len(), "a worker is missing in the table");
    format!(
        "The {} functions of the original, and of our own: `{}`.\n\n{table}",
        fixture.len(),
        beyond.join("`, `")
    )
}

/// `a::b` `a::c` `d` …: grouped under their prefix to keep the table readable.
fn ids(all: &[&String]) -> String {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for id in all {
        let (prefix, name) = id.rsplit_once("::").unwrap();
        match groups.last_mut() {
            Some((last, names)) if last == prefix => names.push(name.to_owned()),
            _ => groups.push((prefix.to_owned(), vec![name.to_owned()])),
        }
    }
    let cells: Vec<String> = groups
        .iter()
        .map(|(prefix, names)| format!("`{prefix}::` {}", names.join(", ")))
        .collect();
    cells.join("<br>")
}

#[test]
fn the_readme_lists_the_functions() {
    assert_part("README.md", "functions", &function_table());
}

/// All but the first three lines, which tell a port and a directory of that run.
#[test]
fn the_readme_shows_what_the_demo_prints() {
    let output = Command::new(env!("CARGO_BIN_EXE_harness"))
        .arg("demo")
        .output()
        .unwrap();
    let (printed, complaints) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!((output.status.code(), complaints), (Some(0), String::new()));
    let scenes: Vec<&str> = printed.lines().skip(3).collect();
    assert_part(
        "README.md",
        "demo",
        &format!("```text\n{}\n```\n", scenes.join("\n")),
    );
}

// ARCHITECTURE

/// Every source file with the first sentence of its documentation; tests and test helpers are left out.
fn code_map() -> String {
    let mut map = String::from("```text\n");
    list(&root().join("src"), "src", &mut map);
    map.push_str("```\n");
    map
}

fn list(folder: &Path, name: &str, map: &mut String) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort_by_key(|path| (path.is_dir(), path.clone()));
    let about = ["mod.rs", "lib.rs"]
        .iter()
        .find_map(|file| first_sentence(&folder.join(file)));
    line(map, &format!("{name}/"), &about.unwrap_or_default());
    for path in entries {
        let file = path.file_name().unwrap().to_str().unwrap();
        let stem = file.trim_end_matches(".rs");
        let is_test = stem == "tests" || stem == "testing" || stem.ends_with("_tests");
        if path.is_dir() {
            if holds_code(&path) {
                list(&path, &format!("{name}/{file}"), map);
            }
        } else if path.extension().is_some_and(|it| it == "rs")
            && !is_test
            && !["mod.rs", "lib.rs"].contains(&file)
        {
            let about = first_sentence(&path).unwrap_or_else(|| panic!("{}: no //!", path.display()));
            line(map, &format!("    {file}"), &about);
        }
    }
}

/// Folders of test data and prompt texts are no part of the map.
fn holds_code(folder: &Path) -> bool {
    folder.join("mod.rs").exists()
}

fn line(map: &mut String, name: &str, about: &str) {
    let text = format!("{name:34} {about}");
    map.push_str(text.trim_end());
    map.push('\n');
}

/// The first sentence of a file's `//!`, without the marks of Markdown.
fn first_sentence(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let lines: Vec<&str> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .collect();
    let paragraph = lines.split(|line| line.is_empty()).next()?.join(" ");
    let ends = paragraph.match_indices(". ").map(|(at, _)| at + 1).next();
    let sentence = paragraph
        .get(..ends.unwrap_or(paragraph.len()))?
        .trim_end_matches('.');
    (!sentence.is_empty()).then(|| sentence.replace(['`', '[', ']'], ""))
}

#[test]
fn the_code_map_lists_every_file() {
    assert_part("docs/ARCHITECTURE.md", "code map", &code_map());
}

// errors.md

/// One of each.
fn errors() -> Vec<Error> {
    let text = String::new;
    vec![
        Error::Invalid(text()),
        Error::Undecodable {
            function: text(),
            detail: text(),
        },
        Error::FunctionNotFound(text()),
        Error::Timeout {
            function: text(),
            after_ms: 0,
        },
        Error::Stopped,
        Error::Disconnected,
        Error::Panicked {
            function: text(),
            detail: text(),
        },
        Error::Store {
            operation: text(),
            cause: text(),
        },
        Error::Unavailable(text()),
        Error::Transient(text()),
        Error::Registration {
            id: text(),
            why: text(),
        },
        Error::coded("its own", text()),
    ]
}

/// The facts line of a section.
fn facts(error: &Error) -> String {
    let retry = if error.is_retryable() { "yes" } else { "no" };
    format!(
        "Code on the wire: `{}`. Worth trying again: {retry}.",
        error.wire_code()
    )
}

#[test]
fn every_error_code_has_its_section() {
    let source = read("src/error.rs");
    let body = source
        .split_once("pub fn code(")
        .unwrap()
        .1
        .split_once("\n    }\n")
        .unwrap()
        .0;
    let in_source: Vec<&str> = body.split('"').skip(1).step_by(2).collect();
    let sampled: Vec<&str> = errors().iter().map(Error::code).collect();
    assert_eq!(in_source, sampled, "a code without a sample in this test");

    let text = read("docs/errors.md");
    let sections: Vec<&str> = text.split("\n## ").skip(1).collect();
    let found: Vec<(&str, &str)> = sections
        .iter()
        .map(|section| {
            let mut lines = section.lines();
            (lines.next().unwrap(), lines.nth(1).unwrap())
        })
        .collect();
    let expected: Vec<(String, String)> = errors()
        .iter()
        .map(|error| (format!("`{}`", error.code()), facts(error)))
        .collect();
    let expected: Vec<(&str, &str)> = expected.iter().map(|(code, facts)| (&**code, &**facts)).collect();
    assert_eq!(found, expected);
}

// Links and dependencies

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for name in documents() {
        let folder = root().join(&name);
        let folder = folder.parent().unwrap();
        for link in read(&name)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap();
            if !link.contains("://") && !target.is_empty() && !folder.join(target).exists() {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

/// All sources under a folder.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|it| it == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_lesson_is_kept_by_tests_that_exist() {
    let mut text = String::new();
    for folder in ["src", "tests/it"] {
        sources(&root().join(folder), &mut text);
    }
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut wrong = Vec::new();
    for row in read("docs/lessons.md")
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(str::to_owned)
    {
        let (rule, tests) = row.trim_matches(['|', ' ']).rsplit_once(" | ").unwrap();
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if named.is_empty() && rule != "rule" && !tests.starts_with("does not apply: ") {
            wrong.push(format!("{rule}: no test"));
        }
        wrong.extend(
            named
                .into_iter()
                .filter(|name| !words.contains(name))
                .map(|name| format!("{rule}: {name}")),
        );
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// cargo-deny is not on every machine; this much of `deny.toml` holds on all of them.
#[test]
fn no_banned_crate_is_locked() {
    let rules = read("deny.toml");
    let banned: Vec<&str> = rules
        .split("{ crate = \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(banned.contains(&"openssl"), true, "{banned:?}");
    let lock = read("Cargo.lock");
    let mut found = Vec::new();
    for name in banned {
        let wrappers = wrappers_of(&rules, name);
        found.extend(
            users_of(&lock, name)
                .into_iter()
                .filter(|user| !wrappers.contains(user))
                .map(|user| format!("{name} for {user}")),
        );
    }
    assert_eq!(found, Vec::<String>::new());
}

/// The crates that may use a banned one.
fn wrappers_of<'a>(rules: &'a str, name: &str) -> Vec<&'a str> {
    let rule = rules
        .lines()
        .find(|line| line.contains(&format!("{{ crate = \"{name}\"")));
    let list = rule.and_then(|rule| rule.split_once("wrappers = [")?.1.split(']').next());
    list.unwrap_or_default().split('"').skip(1).step_by(2).collect()
}

/// The locked crates that use a crate; its own name when nothing does.
fn users_of<'a>(lock: &'a str, name: &str) -> Vec<&'a str> {
    let crates: Vec<&str> = lock.split("[[package]]").skip(1).collect();
    let name_of = |text: &'a str| text.split('"').nth(1).unwrap();
    let is_locked = crates.iter().any(|text| name_of(text) == name);
    let uses = |text: &&&'a str| {
        let mut needs = text.lines().filter_map(|line| line.trim().strip_prefix('"'));
        needs.any(|line| line.split(['"', ' ']).next() == Some(name))
    };
    let users: Vec<&str> = crates.iter().filter(uses).map(|text| name_of(text)).collect();
    match (is_locked, users.is_empty()) {
        (true, true) => crates
            .iter()
            .map(|text| name_of(text))
            .filter(|locked| *locked == name)
            .collect(),
        _ => users,
    }
}

#[test]
fn every_crate_comes_from_the_registry() {
    let lock = read("Cargo.lock");
    let sources: BTreeSet<&str> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("source = "))
        .collect();
    let expected = BTreeSet::from(["\"registry+https://github.com/rust-lang/crates.io-index\""]);
    assert_eq!(sources, expected);
}

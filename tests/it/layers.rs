//! Imports point down, and a worker knows no other worker. The tables below are the architecture; `docs/ARCHITECTURE.md`
//! tells it in words.

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pretty_assertions::assert_eq;

use source::Named;

/// Parts that any layer above `model` may use, each with what it imports itself: no more, and no less.
const LEAVES: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("config", &["error", "rules", "watch", "yaml"]),
    ("error", &[]),
    ("http", &["error"]),
    ("ids", &[]),
    ("rules", &["model", "yaml"]),
    ("scripted", &[]),
    ("telemetry", &["config", "error"]),
    ("watch", &["error"]),
    ("yaml", &[]),
];

/// The layers, each with the layers it may import. All from `bus` upwards, `main` left out, may use the leaves as well.
const LAYERS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "bus", "demo", "model", "workers"]),
    ("demo", &["app", "bus", "model"]),
    ("app", &["admin", "bus", "model"]),
    ("admin", &[]),
    ("workers", &["bus"]),
    (ANY_WORKER, &["bus", "model"]),
    ("bus", &["model"]),
    ("model", &[]),
    ("lib", &[]),
];

/// Without the leaves.
const BARE: &[&str] = &["main", "model", "lib"];

/// A folder of `src/workers`.
const ANY_WORKER: &str = "workers::*";

/// Crates and modules with few places that may name them. `std::env::consts` is no environment.
const DOORS: &[(&str, &[&str])] = &[
    ("anyhow", &["app.rs", "app/", "cli/", "demo/"]),
    ("async_compression", &["workers/web/body.rs"]),
    ("axum", &["admin.rs", "scripted/"]),
    ("base64", &["workers/web/fetch.rs"]),
    ("clap", &["cli/"]),
    ("croner", &["bus/embedded/cron/"]),
    ("encoding_rs", &["workers/web/text.rs"]),
    ("eventsource_stream", &["workers/providers/sse.rs"]),
    ("fancy_regex", &["rules/pattern.rs"]),
    ("htmd", &["workers/web/markdown.rs"]),
    ("hyper", &["workers/web/fetch.rs"]),
    ("iii_helpers", &["bus/iii/"]),
    ("iii_sdk", &["bus/iii/"]),
    ("notify", &["watch.rs"]),
    ("reqwest", &["http.rs", "workers/providers/", "workers/web/"]),
    (
        "ring",
        &["workers/budget/record_ids.rs", "workers/turn/parked.rs"],
    ),
    (
        "rusqlite",
        &[
            "bus/embedded/configuration/rows.rs",
            "bus/embedded/queue/jobs.rs",
            "bus/embedded/store/",
        ],
    ),
    ("serde_yaml", &["yaml.rs"]),
    ("std::env", &["config/"]),
];

/// Folders without I/O and without async, and what they therefore never name.
const PURE: &[&str] = &["model/", "rules/"];
const IMPURE: &[&str] = &[
    "futures",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "tokio",
];

/// A file of `src`.
struct File {
    /// Its path below `src`.
    name: String,
    paths: Vec<Named>,
}

impl File {
    fn new(name: &str, text: &str) -> Self {
        let stem = name.trim_end_matches(".rs").trim_end_matches("/mod");
        let module: Vec<String> = stem.split('/').map(str::to_owned).collect();
        Self {
            name: name.to_owned(),
            paths: source::paths(text, &module),
        }
    }

    /// The part of the program it belongs to: `workers::turn`, `workers` for the list of workers, `bus`, `main`.
    fn unit(&self) -> String {
        match self.name.split('/').collect::<Vec<_>>().as_slice() {
            ["workers", worker, _, ..] => format!("workers::{worker}"),
            [first, ..] => first.trim_end_matches(".rs").to_owned(),
            [] => String::new(),
        }
    }

    /// The other units that it names. Within `workers`, the list names its items by relative paths, which is its job.
    fn imports(&self, workers: &BTreeSet<String>) -> BTreeSet<String> {
        let own = self.unit();
        let root = if own == "main" { "harness" } else { "crate" };
        let inside = self.paths.iter().filter_map(|named| named.in_crate(root));
        let units = inside.filter_map(|path| match path.as_slice() {
            [first, worker, ..] if first == "workers" && workers.contains(worker) => {
                Some(format!("workers::{worker}"))
            }
            [first, ..] => Some(first.clone()),
            [] => None,
        });
        units.filter(|unit| *unit != own).collect()
    }
}

fn row<'a>(table: &[(&str, &'a [&'a str])], unit: &str) -> Option<&'a [&'a str]> {
    table.iter().find(|(name, _)| *name == unit).map(|(_, row)| *row)
}

/// What a unit may import; `None` when the tables do not know it.
fn allowed(unit: &str) -> Option<BTreeSet<&'static str>> {
    let name = if unit.starts_with("workers::") {
        ANY_WORKER
    } else {
        unit
    };
    if let Some(own) = row(LEAVES, name) {
        return Some(own.iter().copied().collect());
    }
    let mut allowed: BTreeSet<&str> = row(LAYERS, name)?.iter().copied().collect();
    if !BARE.contains(&name) {
        allowed.extend(LEAVES.iter().map(|(leaf, _)| *leaf));
    }
    Some(allowed)
}

/// The folders of workers among the files.
fn workers(files: &[File]) -> BTreeSet<String> {
    let units = files.iter().map(File::unit);
    units
        .filter_map(|unit| unit.strip_prefix("workers::").map(str::to_owned))
        .collect()
}

/// Imports that the tables forbid.
fn upward(files: &[File]) -> Vec<String> {
    let workers = workers(files);
    let mut wrong = Vec::new();
    for file in files {
        let Some(allowed) = allowed(&file.unit()) else {
            wrong.push(format!(
                "{}: `{}` has no row in the tables",
                file.name,
                file.unit()
            ));
            continue;
        };
        let imports = file.imports(&workers).into_iter();
        let forbidden = imports.filter(|import| !allowed.contains(import.as_str()));
        wrong.extend(forbidden.map(|import| format!("{}: imports `{import}`", file.name)));
    }
    wrong
}

/// Names that stand where they must not.
fn outside_their_door(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files {
        let is_in = |places: &[&str]| places.iter().any(|place| file.name.starts_with(place));
        let doors = DOORS
            .iter()
            .filter(|(_, doors)| !is_in(doors))
            .map(|(name, _)| *name);
        let impure = IMPURE.iter().copied().filter(|_| is_in(PURE));
        for name in doors.chain(impure) {
            let names_it = |named: &Named| named.starts_with(name) && !named.starts_with("std::env::consts");
            if file.paths.iter().any(names_it) {
                wrong.push(format!("{}: names `{name}`", file.name));
            }
        }
    }
    wrong
}

fn source_files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                files.push(File::new(name, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

#[test]
fn imports_point_down_and_workers_know_no_other_worker() {
    assert_eq!(upward(&source_files()), Vec::<String>::new());
}

#[test]
fn names_stay_behind_their_doors() {
    assert_eq!(outside_their_door(&source_files()), Vec::<String>::new());
}

#[test]
fn the_tables_say_what_is_there() {
    let files = source_files();
    let workers = workers(&files);
    let there: BTreeSet<String> = files
        .iter()
        .map(File::unit)
        .map(|unit| {
            if unit.starts_with("workers::") {
                ANY_WORKER.to_owned()
            } else {
                unit
            }
        })
        .collect();
    let listed: BTreeSet<String> = LEAVES
        .iter()
        .chain(LAYERS)
        .map(|(unit, _)| (*unit).to_owned())
        .collect();
    assert_eq!(listed, there);

    for (leaf, row) in LEAVES {
        let own = files.iter().filter(|file| file.unit() == *leaf);
        let used: BTreeSet<String> = own.flat_map(|file| file.imports(&workers)).collect();
        let listed: BTreeSet<String> = row.iter().map(|unit| (*unit).to_owned()).collect();
        assert_eq!(listed, used, "{leaf}");
    }
    for (name, doors) in DOORS {
        for door in *doors {
            let mut behind = files.iter().filter(|file| file.name.starts_with(door));
            let is_used = behind.any(|file| file.paths.iter().any(|named| named.starts_with(name)));
            assert!(is_used, "{door} does not name {name} any more");
        }
    }
}

/// What the checks say of one file beside the two workers `turn` and `models`.
fn findings(name: &str, text: &str) -> Vec<String> {
    let files = [
        File::new(name, text),
        File::new("workers/turn/actor.rs", ""),
        File::new("workers/models/get.rs", ""),
    ];
    [upward(&files), outside_their_door(&files)].concat()
}

#[test]
fn forbidden_imports_are_found_in_every_form() {
    let cases = [
        (
            "bus/call.rs",
            "use crate::workers::turn::Turns;",
            "imports `workers::turn`",
        ),
        ("bus/call.rs", "use crate::{error::Error, app};", "imports `app`"),
        (
            "bus/call.rs",
            "use crate::{\n    error::{Error, Result},\n    workers::{self},\n};",
            "imports `workers`",
        ),
        ("bus/call.rs", "fn f() { crate::app::serve() }", "imports `app`"),
        ("bus/call.rs", "use super::super::admin;", "imports `admin`"),
        ("bus/mod.rs", "use super::admin as a;", "imports `admin`"),
        (
            "bus/mod.rs",
            "mod tests { use super::super::admin; }",
            "imports `admin`",
        ),
        (
            "bus/mod.rs",
            "macro_rules! m { () => { $crate::cli::run() } }",
            "imports `cli`",
        ),
        (
            "bus/mod.rs",
            "fn f<'a>(x: &'a str) { let c = '\"'; crate::cli::run() }",
            "imports `cli`",
        ),
        (
            "bus/mod.rs",
            "fn f() { let r = r#\"a \"quote\" \"#; crate::cli::run() }",
            "imports `cli`",
        ),
        ("model/key.rs", "use crate::error::Error;", "imports `error`"),
        ("model/key.rs", "use std::{fmt, fs};", "names `std::fs`"),
        (
            "rules/set.rs",
            "async fn f() { tokio::task::yield_now().await }",
            "names `tokio`",
        ),
        ("error.rs", "use crate::config::Config;", "imports `config`"),
        (
            "workers/turn/start.rs",
            "use crate::workers::models::get::Get;",
            "imports `workers::models`",
        ),
        (
            "workers/turn/start.rs",
            "use super::super::models;",
            "imports `workers::models`",
        ),
        (
            "workers/turn/start.rs",
            "use super::super::{models::get, turn};",
            "imports `workers::models`",
        ),
        (
            "workers/turn/start.rs",
            "fn f() { crate::workers::all() }",
            "imports `workers`",
        ),
        (
            "workers/turn/start.rs",
            "use crate::admin::Readiness;",
            "imports `admin`",
        ),
        ("workers/turn/start.rs", "use std::env;", "names `std::env`"),
        (
            "workers/turn/start.rs",
            "fn f() { std::env::var(\"A\"); }",
            "names `std::env`",
        ),
        (
            "workers/turn/start.rs",
            "use rusqlite as sql;",
            "names `rusqlite`",
        ),
        ("config/load.rs", "use serde_yaml::Value;", "names `serde_yaml`"),
        ("app.rs", "use crate::cli;", "imports `cli`"),
        ("main.rs", "fn main() { harness::app::serve() }", "imports `app`"),
        ("util.rs", "", "`util` has no row in the tables"),
    ];
    for (name, text, finding) in cases {
        assert_eq!(findings(name, text), [format!("{name}: {finding}")], "{text}");
    }
}

#[test]
fn what_only_looks_like_an_import_is_none() {
    let cases = [
        (
            "bus/call.rs",
            "// use crate::app;\n/* crate::cli /* nested */ crate::cli */ //! [`crate::app`]",
        ),
        (
            "bus/call.rs",
            "const A: &str = \"crate::app \\\" crate::cli\"; const B: &str = r##\"crate::app\"# \"##;",
        ),
        (
            "bus/call.rs",
            "use crate::{clock::Clock, model::{self, api::Contract}, telemetry};",
        ),
        (
            "bus/embedded/mod.rs",
            "pub(in crate::bus::embedded) mod x { use super::super::app; }",
        ),
        (
            "workers/turn/prompt/tests.rs",
            "use super::super::batch; use crate::workers::turn::record;",
        ),
        ("workers/mod.rs", "fn all() { vec![turn::worker()] }"),
        (
            "bus/call.rs",
            "const OS: &str = std::env::consts::OS; const V: &str = env!(\"CARGO_PKG_VERSION\");",
        ),
        ("main.rs", "fn main() { harness::cli::run() }"),
    ];
    for (name, text) in cases {
        assert_eq!(findings(name, text), Vec::<String>::new(), "{text}");
    }
}

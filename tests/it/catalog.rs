//! The catalog: which functions there must be, which there are, and that each has its file.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use harness::bus::FunctionInfo;
use harness::{cli, workers};
use pretty_assertions::assert_eq;
use serde_json::Value;

use super::docs::{assert_file, root};

/// What this program offers beyond the fixture: id and description.
pub(super) const OWN: &[(&str, &str)] = &[
    ("run::abort", "Stop the current run of a session."),
    (
        "session-inbox::clear",
        "Remove all inboxes of a session and what is in them.",
    ),
    (
        "session-tree::delete",
        "Delete a session and all that is kept of it; refused while a run of it is at work.",
    ),
    ("session-tree::rename", "Give a session another display name."),
];

/// All ids there must be in the end, with their descriptions.
pub(super) fn fixture() -> BTreeMap<String, String> {
    let text = include_str!("../fixtures/functions.json");
    let rows: Vec<Value> = serde_json::from_str(text).unwrap();
    let member = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    rows.iter()
        .map(|row| (member(row, "id"), member(row, "description")))
        .collect()
}

/// What this program registers.
pub(crate) fn registered() -> Vec<FunctionInfo> {
    cli::catalog(&workers::all())
}

/// The folder of `src/workers` that an id belongs to.
pub(super) fn folder(id: &str) -> &'static str {
    match id.split("::").next().unwrap() {
        "approval" => "approval",
        "budget" => "budget",
        "context-compaction" => "context_compaction",
        "harness" | "policy" | "ui" => "harness",
        "hook-fanout" => "hook_fanout",
        "models" => "models",
        "provider" => "providers",
        "run" | "turn" => "turn",
        "session-inbox" => "session_inbox",
        "session-tree" => "session_tree",
        "web" => "web",
        other => panic!("which folder has the functions {other}::…?"),
    }
}

#[test]
fn the_fixture_has_the_86_functions() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../fixtures/functions.json")).unwrap();
    assert_eq!((rows.len(), fixture().len()), (86, 86));
}

#[test]
fn registered_are_those_of_the_fixture_and_our_own() {
    let fixture = fixture();
    let own = OWN
        .iter()
        .map(|(id, description)| ((*id).to_owned(), (*description).to_owned()));
    assert!(own.clone().all(|(id, _)| !fixture.contains_key(&id)));
    let mut expected: Vec<(String, String)> = fixture.into_iter().chain(own).collect();
    expected.sort();
    let found: Vec<(String, String)> = registered()
        .into_iter()
        .map(|function| (function.id.as_str().to_owned(), function.description))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn every_schema_is_a_draft_07_schema() {
    for function in registered() {
        for schema in [function.request_schema, function.response_schema] {
            let schema = schema.unwrap();
            assert_eq!(
                schema["$schema"], "http://json-schema.org/draft-07/schema#",
                "{}",
                function.id
            );
            if let Err(error) = jsonschema::draft7::new(&schema) {
                panic!("{}: {error}", function.id);
            }
        }
    }
}

#[test]
fn every_function_has_its_own_file() {
    for function in registered()
        .iter()
        .filter(|function| !function.id.as_str().starts_with("provider::"))
    {
        let id = function.id.as_str();
        let name = id.rsplit("::").next().unwrap();
        let path = root().join(format!("src/workers/{}/{name}.rs", folder(id)));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let title = format!("//! `{id}`: ");
        assert!(
            text.starts_with(&title),
            "{} does not begin with {title:?}",
            path.display()
        );
    }
}

/// The file is what `harness functions --json` prints. `UPDATE_FILES=1 cargo test` writes it anew.
#[test]
fn docs_functions_json_is_the_catalog() {
    let output = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(["functions", "--json"])
        .output()
        .unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8(output.stderr).unwrap()),
        (Some(0), String::new())
    );
    assert_file("docs/functions.json", &String::from_utf8(output.stdout).unwrap());
}

//! The program itself: its command line, its exit codes, and its life from start to signal.

mod budget;
mod call;
mod chat;
mod home;
mod models;
mod run;
mod stage;

use std::net::TcpStream;
use std::sync::Arc;

use harness::app::{App, Parts};
use harness::bus::{CallContext, CallOptions};
use harness::config::{Config, EngineChoice, Flags, LoadInput, MapEnv};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use home::{Home, get};

/// The fifteen workers of contract 01 §8.1.
const WORKERS: [&str; 15] = [
    "harness",
    "turn-orchestrator",
    "approval-gate",
    "session",
    "hook-fanout",
    "models-catalog",
    "provider-anthropic",
    "provider-openai",
    "provider-kimi",
    "provider-lmstudio",
    "provider-llamacpp",
    "llm-budget",
    "context-compaction",
    "web",
    "session-inbox",
];

const EMBEDDED: &str = "engine: {mode: embedded, listen: \"127.0.0.1:0\"}\nhttp: {listen: \"127.0.0.1:0\"}\n";

#[test]
fn c01_case_27_the_manifest() {
    let home = Home::new();
    let ran = home.run(&["--manifest", "--url", "ws://127.0.0.1:1"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let rows = ran.json();
    let names: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"turn-orchestrator"), "{names:?}");
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    for row in rows.as_array().unwrap() {
        assert!(WORKERS.contains(&row["name"].as_str().unwrap()), "{row}");
        assert!(!row["description"].as_str().unwrap().is_empty(), "{row}");
        assert_eq!(row.as_object().unwrap().len(), 2);
    }
    assert!(ran.out.starts_with("[\n  {\n    \"name\""), "indented by two");
    assert_eq!(
        std::fs::read_dir(home.path()).unwrap().count(),
        0,
        "it left something behind"
    );
}

#[test]
fn the_functions_are_listed_with_schemas() {
    let home = Home::new();
    let plain = home.run(&["functions"]);
    assert_eq!((plain.code, plain.err.as_str()), (Some(0), ""));
    let json = home.run(&["functions", "--json"]);
    assert_eq!((json.code, json.err.as_str()), (Some(0), ""));
    let rows = json.json();
    let rows = rows.as_array().unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted() && ids.contains(&"run::start"), "{ids:?}");
    let listed: Vec<&str> = plain
        .out
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(listed, ids);
    let mut for_clients = 0;
    for row in rows {
        assert!(row["description"].is_string(), "{row}");
        for schema in ["request_schema", "response_schema"] {
            assert_eq!(
                row[schema]["$schema"], "http://json-schema.org/draft-07/schema#",
                "{row}"
            );
            assert!(jsonschema::validator_for(&row[schema]).is_ok(), "{row}");
        }
        for_clients += usize::from(row["metadata"] == json!({ "client": true }));
    }
    assert!(for_clients > 0);
}

#[test]
fn c12_case_10_check_config_reports_all_mistakes() {
    let home = Home::with("turn: {parallel_calls: many}\nweb: {max_redirect: 3}\nengine: {mode: both}\n");
    let ran = home.run(&["check-config"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.err);
    for (line, path, hint) in [
        (lines[0], "turn.parallel_calls", "many"),
        (lines[1], "web.max_redirect", "`max_redirects`"),
        (lines[2], "engine.mode", "auto, embedded, connect"),
    ] {
        assert!(line.starts_with(path) && line.contains(hint), "{line}");
    }
}

#[test]
fn check_config_of_good_files_and_of_none() {
    let home = Home::new();
    let none = home.run(&["check-config"]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), "./config.yaml: ok\n"));
    home.write("turn_queue: x\nturn: {parallel_calls: 3}\n");
    let warned = home.run(&["check-config", "--config", "config.yaml"]);
    assert_eq!((warned.code, warned.out.as_str()), (Some(0), "config.yaml: ok\n"));
    assert!(
        warned.err.starts_with("warning: turn_queue: ") && warned.err.contains("`turn.wake_queue`"),
        "{}",
        warned.err
    );
    home.write("turn: [\n");
    let broken = home.run(&["check-config"]);
    assert_eq!(broken.code, Some(2));
    assert!(
        broken.err.contains("config.yaml") && broken.err.contains("line"),
        "{}",
        broken.err
    );
    home.write("just text");
    assert_eq!(home.run(&["check-config"]).code, Some(2));
}

#[test]
fn unusable_arguments_exit_with_2() {
    let home = Home::new();
    for args in [&["--no-such-flag"][..], &["no-such-command"], &["serve", "--url"]] {
        let ran = home.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{args:?}");
        assert!(
            ran.err.starts_with("error: ") && ran.err.contains("--help"),
            "{}",
            ran.err
        );
    }
    let help = home.run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
}

#[test]
fn serve_with_a_bad_configuration_exits_with_2_and_starts_nothing() {
    let home = Home::with("turn: {parallel_calls: many}\n");
    for args in [&["serve"][..], &[]] {
        let ran = home.run(args);
        assert_eq!(ran.code, Some(2));
        assert!(ran.err.starts_with("turn.parallel_calls: "), "{}", ran.err);
    }
    let names: Vec<_> = std::fs::read_dir(home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["config.yaml"]);
}

#[test]
fn c12_case_08_an_open_listener_without_a_token_does_not_start() {
    let home = Home::with("engine: {mode: embedded, listen: \"0.0.0.0:0\"}\n");
    let ran = home.run(&["serve"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("engine.listen_token"), "{}", ran.err);
}

#[test]
fn c01_case_28_and_c12_case_01_the_flag_beats_the_variable() {
    let home = Home::with("http: {listen: \"127.0.0.1:0\"}\n");
    let env = [("III_URL", "ws://127.0.0.1:1")];
    home.serve(&["serve"], &env).says("ws://127.0.0.1:1");
    let mut flagged = home.serve(&["serve", "--url", "ws://127.0.0.1:2"], &env);
    flagged.says("ws://127.0.0.1:2");
    assert!(
        !flagged.seen.iter().any(|line| line.contains("ws://127.0.0.1:1")),
        "{:?}",
        flagged.seen
    );
}

#[test]
fn a_life_from_start_to_sigterm() {
    let home = Home::with(EMBEDDED);
    let mut running = home.serve(&["serve"], &[]);
    let admin = running.admin();
    running.says("ready");
    assert_eq!(get(&admin, "/healthz"), (200, "ok\n".into()));
    let (status, body) = get(&admin, "/readyz");
    let body: Value = serde_json::from_str(&body).unwrap();
    let listen = body["engine"]["listen"].clone();
    let address: std::net::SocketAddr = listen.as_str().unwrap().parse().unwrap();
    assert!(std::net::TcpStream::connect(address).is_ok(), "{listen}");
    assert_eq!(
        (status, body),
        (
            200,
            json!({ "ready": true, "reasons": [],
            "engine": { "mode": "embedded", "reason": "engine.mode is embedded", "listen": listen } })
        )
    );
    let (status, metrics) = get(&admin, "/metrics");
    assert_eq!(status, 200);
    assert!(
        metrics.lines().any(|line| line.starts_with("harness_")),
        "{metrics}"
    );
    assert_eq!(get(&admin, "/nothing").0, 404);

    // The store is one program's at a time.
    let second = home.run(&["serve"]);
    assert_eq!(second.code, Some(1));
    assert!(second.err.contains("harness-data"), "{}", second.err);

    running.signal("TERM");
    assert_eq!(running.ends().code(), Some(0));
    running.says("stopped");
    assert!(
        TcpStream::connect(admin).is_err(),
        "the admin server is still there"
    );
}

#[test]
fn sigint_ends_it_as_well_and_the_next_start_finds_its_store() {
    let home = Home::with(EMBEDDED);
    for _ in 0..2 {
        let mut running = home.serve(&[], &[]);
        running.says("ready");
        running.signal("INT");
        assert_eq!(running.ends().code(), Some(0));
    }
}

#[test]
fn c12_case_11_a_running_program_keeps_its_values_when_the_file_goes_bad() {
    let home = Home::with(EMBEDDED);
    let mut running = home.serve(&["serve"], &[]);
    let admin = running.admin();
    running.says("ready");
    home.write(&format!("{EMBEDDED}turn: {{parallel_calls: many}}\n"));
    let warning = running.says("configuration not reloaded");
    assert!(
        warning.contains("WARN") && warning.contains("turn.parallel_calls"),
        "{warning}"
    );
    assert_eq!(get(&admin, "/readyz").0, 200);
    home.write(&format!("{EMBEDDED}turn: {{parallel_calls: 2}}\n"));
    running.says("configuration reloaded");
    let warnings = running
        .seen
        .iter()
        .filter(|line| line.contains("configuration not reloaded"));
    assert_eq!(warnings.count(), 1);
    running.signal("TERM");
    assert_eq!(running.ends().code(), Some(0));
}

#[test]
fn a_taken_admin_address_is_an_error_that_names_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let home = Home::with(&format!(
        "engine: {{mode: embedded}}\nhttp: {{listen: \"{address}\"}}\n"
    ));
    let ran = home.run(&["serve"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("http.listen") && ran.err.contains(&address.to_string()),
        "{}",
        ran.err
    );
}

#[test]
fn the_demo_shows_four_scenes() {
    let home = Home::new();
    let ran = home.run(&["demo"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let scenes: Vec<&str> = ran.out.lines().filter(|line| line.starts_with("── ")).collect();
    assert_eq!(
        scenes,
        [
            "── 1. A streamed answer",
            "── 2. A call that the rules allow",
            "── 3. A call that waits for a person",
            "── 4. A call that the rules deny",
        ]
    );
    assert!(
        ran.out.ends_with("all 4 scenes went as they must\n"),
        "{}",
        ran.out
    );
    assert_eq!(
        std::fs::read_dir(home.path()).unwrap().count(),
        0,
        "it left something behind"
    );
}

#[tokio::test]
async fn c12_case_07_the_files_provider_address_is_resolved() {
    let home = Home::with(&format!(
        "{EMBEDDED}provider_openai: {{default_api_url: \"http://127.0.0.1:9/v1/chat/completions\"}}\n"
    ));
    let loaded = Config::load(&LoadInput {
        path: Some(home.path().join("config.yaml")),
        flags: Flags::default(),
        env: Arc::new(MapEnv::default()),
    })
    .unwrap();
    let mut config = loaded.config.clone();
    config.engine.data_dir = home.path().join("data").to_string_lossy().into_owned().into();
    config.permissions_path = home.path().join("none.yaml");
    assert!(matches!(loaded.engine_choice(), EngineChoice::Embedded { .. }));
    let app = App::start(Parts {
        config,
        engine: loaded.engine_choice(),
        env: Arc::new(MapEnv::default()),
        workers: harness::workers::all(),
    })
    .await
    .unwrap();
    let request = json!({ "provider": "openai" });
    let resolved = app
        .bus()
        .invoke(
            &CallContext::default(),
            "harness::provider::resolve",
            request,
            CallOptions::default(),
        )
        .await
        .unwrap();
    assert_eq!(resolved["api_url"], "http://127.0.0.1:9/v1/chat/completions");
    assert!(app.stop().await);
}

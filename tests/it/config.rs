//! Contract 12: the acceptance cases of the configuration. Beside them, in `config/layers.rs`: what else its
//! sources do; in `config/running.rs`: what a running program makes of a changed file.

mod layers;
mod running;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use arc_swap::ArcSwap;
use harness::config::{
    self, Config, EngineChoice, Env, Flags, KEYS, LoadInput, Loaded, MapEnv, Probe, ProcessEnv, Reload,
    SECTIONS,
};
use pretty_assertions::assert_eq;
use serde_json::Value;

/// Longest wait for something that happens on another thread.
const PATIENCE: Duration = Duration::from_secs(10);

/// A configuration file in a directory of its own.
struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        Self { _dir: dir, path }
    }

    /// Replaces the file at once, as many editors do.
    fn replace(&self, text: &str) {
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, &self.path).unwrap();
    }

    fn input(&self, env: impl Into<MapEnv>) -> LoadInput {
        LoadInput {
            path: Some(self.path.clone()),
            flags: Flags::default(),
            env: Arc::new(env.into()),
        }
    }
}

fn no_env() -> MapEnv {
    MapEnv::default()
}

fn load(text: &str, env: impl Into<MapEnv>) -> Loaded {
    Config::load(&File::new(text).input(env)).unwrap()
}

/// The errors of a file, one line each.
fn errors(text: &str, env: impl Into<MapEnv>) -> Vec<String> {
    let findings = Config::load(&File::new(text).input(env)).unwrap_err();
    findings.0.iter().map(ToString::to_string).collect()
}

fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}

/// The defaults with some members replaced.
fn defaults_with(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

#[test]
fn c12_case_01_the_address_decides() {
    let file = File::new("");
    assert_eq!(
        Config::load(&file.input(no_env())).unwrap().engine_choice(),
        EngineChoice::Probe
    );
    assert_eq!(
        EngineChoice::after_probe(Probe::NoAnswer, "harness").unwrap(),
        EngineChoice::Embedded {
            reason: "no address given and no engine answers at ws://127.0.0.1:49134".into()
        }
    );
    let mut input = file.input([("III_URL", "ws://h:1"), ("HARNESS__ENGINE__URL", "")]);
    assert_eq!(
        Config::load(&input).unwrap().engine_choice(),
        EngineChoice::Connect {
            url: "ws://h:1".into(),
            reason: "address given by III_URL".into()
        }
    );
    input.flags.url = Some("ws://x:2".into());
    assert_eq!(
        Config::load(&input).unwrap().engine_choice(),
        EngineChoice::Connect {
            url: "ws://x:2".into(),
            reason: "address given by --url".into()
        }
    );
}

#[test]
fn c12_case_01_the_mode_decides() {
    let connect = load("engine: {mode: connect}", no_env()).engine_choice();
    let EngineChoice::Connect { url, .. } = connect else {
        panic!("{connect:?}")
    };
    assert_eq!(url, "ws://127.0.0.1:49134");

    let embedded = load("engine: {mode: embedded}", [("III_URL", "ws://h:1")]);
    assert_eq!(
        embedded.engine_choice(),
        EngineChoice::Embedded {
            reason: "engine.mode is embedded".into()
        }
    );
    assert_eq!(
        warnings(&embedded),
        ["engine.url: ignored: engine.mode is embedded (address given by III_URL)"]
    );
}

#[test]
fn c12_case_02_an_engine_with_our_name_must_be_asked_for() {
    assert_eq!(
        EngineChoice::after_probe(Probe::Engine, "harness").unwrap(),
        EngineChoice::Connect {
            url: "ws://127.0.0.1:49134".into(),
            reason: "no address given, an engine answers at ws://127.0.0.1:49134".into()
        }
    );
    let refusal = EngineChoice::after_probe(Probe::NameTaken, "harness").unwrap_err();
    assert!(refusal.contains("--url"), "{refusal}");
}

#[test]
fn c12_case_03_the_originals_keys_are_lenient() {
    let loaded = load("web: {max_timeout_ms: \"fast\"}", no_env());
    assert_eq!(
        warnings(&loaded),
        ["web.max_timeout_ms: must be an integer >= 1, found \"fast\"; ignored"]
    );
    assert_eq!(loaded.config, Config::default());
    assert_eq!(
        errors("turn: {parallel_calls: \"many\"}", no_env()),
        ["turn.parallel_calls: must be an integer >= 1, found \"many\""]
    );
}

#[test]
fn c12_case_04_unknown_names_get_a_hint() {
    assert_eq!(
        errors("web: {max_redirect: 3}", no_env()),
        ["web.max_redirect: unknown key; did you mean `max_redirects`?"]
    );
    assert_eq!(
        errors("shutdown: {grace: 3}", no_env()),
        ["shutdown.grace: unknown key; did you mean `grace_ms`?"]
    );
    let loaded = load(
        "modules: []\nturn_queue: x\nslim_updates: true\ndurability: full\nadmin: {listen: x}\ncompactoin: {}",
        no_env(),
    );
    assert_eq!(
        warnings(&loaded),
        [
            "modules: unknown name, ignored",
            "turn_queue: unknown name, ignored; did you mean `turn.wake_queue`?",
            "slim_updates: unknown name, ignored; did you mean `events.slim_updates`?",
            "durability: unknown name, ignored; did you mean `engine.durability`?",
            "admin: unknown name, ignored; did you mean `http.listen`?",
            "compactoin: unknown name, ignored; did you mean `compaction`?",
        ]
    );
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn c12_case_05_a_variable_beats_the_file() {
    let loaded = load(
        "turn: {parallel_calls: 4}",
        [("HARNESS__TURN__PARALLEL_CALLS", "2")],
    );
    assert_eq!(
        loaded.config,
        defaults_with(|config| config.turn.parallel_calls = 2)
    );
    let loaded = load(
        "turn: {parallel_calls: 4}",
        [("HARNESS__TURN__PARALLEL_CALLS", "")],
    );
    assert_eq!(
        loaded.config,
        defaults_with(|config| config.turn.parallel_calls = 4)
    );
}

#[test]
fn c12_case_06_older_variables() {
    let tail_turns = |value: &'static str| {
        load("compaction: {tail_turns: 3}", [("COMPACT_TAIL_TURNS", value)])
            .config
            .compaction
            .tail_turns
    };
    assert_eq!((tail_turns("1"), tail_turns("0"), tail_turns("")), (1, 3, 3));
}

#[test]
fn c12_case_07_the_file_names_a_provider_address() {
    let loaded = load(
        "provider_openai: {default_api_url: \"http://127.0.0.1:9/v1/chat/completions\"}",
        no_env(),
    );
    let expected = defaults_with(|config| {
        config.provider_openai.default_api_url = "http://127.0.0.1:9/v1/chat/completions".into();
    });
    assert_eq!(loaded.config, expected);
}

#[test]
fn c12_case_08_an_open_listener_needs_a_token() {
    let found = ["engine.listen_token: required, because engine.listen is 0.0.0.0:0, which is not loopback"];
    assert_eq!(
        errors("engine: {mode: embedded, listen: \"0.0.0.0:0\"}", no_env()),
        found
    );
    let with_token = "engine: {mode: embedded, listen: \"0.0.0.0:0\", listen_token: \"${TOKEN}\"}";
    assert_eq!(errors(with_token, no_env()), found);
    let token = load(with_token, [("TOKEN", "s3cret")])
        .config
        .engine
        .listen_token
        .unwrap();
    assert_eq!(token.expose(), "s3cret");
    for loopback in ["localhost:0", "[::1]:0", "127.8.8.8:0"] {
        load(&format!("engine: {{listen: \"{loopback}\"}}"), no_env());
    }
    load("engine: {mode: connect, listen: \"0.0.0.0:0\"}", no_env());
}

/// The text of a file of this repository. `UPDATE_FILES=1` writes it anew.
fn kept_file(name: &str, written: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    if ProcessEnv.var("UPDATE_FILES").is_some() {
        std::fs::write(&path, written).unwrap();
    }
    std::fs::read_to_string(&path).unwrap()
}

#[test]
fn c12_case_09_the_example_file_is_the_defaults() {
    let example = kept_file("config.example.yaml", &config::example());
    assert_eq!(example, config::example(), "run this test with UPDATE_FILES=1");
    let loaded = load(&example, no_env());
    assert_eq!((loaded.config, loaded.warnings), (Config::default(), vec![]));

    let file = harness::yaml::parse(&example).unwrap();
    let listed: Vec<String> = file.as_object().unwrap().iter().flat_map(leaves).collect();
    let known: Vec<String> = KEYS.iter().map(config::Key::path).collect();
    assert_eq!(listed, known);
}

/// The paths of a top-level entry: its keys if it is a section, else itself.
fn leaves((name, value): (&String, &Value)) -> Vec<String> {
    match value.as_object() {
        Some(section) => section.keys().map(|key| format!("{name}.{key}")).collect(),
        None => vec![name.clone()],
    }
}

#[test]
fn the_documentation_lists_the_keys() {
    let documentation = kept_file("docs/configuration.md", &config::documentation());
    assert_eq!(
        documentation,
        config::documentation(),
        "run this test with UPDATE_FILES=1"
    );
}

#[test]
fn c12_case_09_the_defaults_are_the_contracts() {
    let config = serde_json::to_value(Config::default()).unwrap();
    // The contract has 78; the other 13 are ours.
    assert_eq!(KEYS.len(), 91);
    assert_eq!(SECTIONS.len(), 20);
    insta::assert_json_snapshot!(config);
}

#[test]
fn c12_case_10_all_mistakes_at_once() {
    let text = "turn: {parallel_calls: 0, wake: x}\nengine: {mode: both}\nhttp: 1\nevents:\n";
    assert_eq!(
        errors(text, no_env()),
        [
            "turn.parallel_calls: must be an integer >= 1, found 0",
            "turn.wake: unknown key; did you mean `wake_queue`?",
            "engine.mode: must be one of auto, embedded, connect, found \"both\"",
            "http: must be a mapping",
        ]
    );
}

#[test]
fn c12_case_11_a_changed_file_is_swapped_in_or_leaves_the_old_values() {
    let file = File::new("turn: {parallel_calls: 4}");
    let input = file.input(no_env());
    let current = Arc::new(ArcSwap::from_pointee(Config::load(&input).unwrap().config));
    let (reloaded, reloads) = channel();
    let _guard = config::watch(input, Arc::clone(&current), move |outcome| {
        reloaded.send(outcome).unwrap();
    })
    .unwrap();

    file.replace("turn: {parallel_calls: many}");
    let Reload::Kept(findings) = reloads.recv_timeout(PATIENCE).unwrap() else {
        panic!("a bad file was used")
    };
    assert_eq!(
        findings.to_string(),
        "turn.parallel_calls: must be an integer >= 1, found \"many\""
    );
    assert_eq!(
        **current.load(),
        defaults_with(|config| config.turn.parallel_calls = 4)
    );

    file.replace("turn: {parallel_calls: 3}\nlog: {level: debug}");
    let Reload::Swapped(warnings) = reloads.recv_timeout(PATIENCE).unwrap() else {
        panic!("a good file was refused")
    };
    let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["log: a change takes effect at the next start"]);
    assert_eq!(
        **current.load(),
        defaults_with(|config| config.turn.parallel_calls = 3)
    );
}

#[test]
fn c12_case_12_payloads_can_be_forced_off() {
    let on = "telemetry: {trace_payloads: true}";
    assert!(load(on, no_env()).config.telemetry.trace_payloads);
    assert!(
        load(on, [("III_DISABLE_TRACE_PAYLOADS", "0")])
            .config
            .telemetry
            .trace_payloads
    );
    let env = [
        ("III_DISABLE_TRACE_PAYLOADS", "1"),
        ("HARNESS__TELEMETRY__TRACE_PAYLOADS", "true"),
    ];
    assert!(!load(on, env).config.telemetry.trace_payloads);
}

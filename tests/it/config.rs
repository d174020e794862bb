//! Contract 12: configuration, its layers, its mistakes, its reload; and the admin server.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use arc_swap::ArcSwap;
use harness::config::{
    self, Config, EngineChoice, Env, Flags, KEYS, LoadInput, Loaded, MapEnv, Probe, ProcessEnv, Reload,
    SECTIONS, Source,
};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

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
        ["shutdown.grace: unknown key; did you mean `shutdown.grace_ms`?"]
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
fn variables_are_scalars_lists_and_plain_texts() {
    let env = [
        ("HARNESS__PERMISSIONS_PATH", "/etc/rules.yaml"),
        ("HARNESS__TURN__RETRY_SAFE", "[\"a::b\",\"c::*\"]"),
        ("HARNESS__TURN__WAKE_QUEUE", "null"),
        ("HARNESS__ENGINE__WORKER_NAME", "123"),
        ("HARNESS__EVENTS__SLIM_UPDATES", "false"),
        ("HARNESS__ENGINE__LISTEN_TOKEN", "'t: 1"),
    ];
    let loaded = load("turn: {wake_queue: default}", env);
    let expected = defaults_with(|config| {
        config.permissions_path = "/etc/rules.yaml".into();
        config.turn.retry_safe = vec!["a::b".into(), "c::*".into()];
        config.engine.worker_name = "123".into();
        config.events.slim_updates = false;
        config.engine.listen_token = Some("'t: 1".to_owned().into());
    });
    assert_eq!(loaded.config, expected);
    assert_eq!(
        errors(
            "",
            [
                ("HARNESS__TURN__PARALEL_CALLS", "2"),
                ("HARNESS__TURN__STEP_RETRIES", "x")
            ]
        ),
        [
            "turn.paralel_calls: unknown key (from HARNESS__TURN__PARALEL_CALLS); did you mean `parallel_calls`?",
            "turn.step_retries: must be an integer >= 0, found \"x\" (from HARNESS__TURN__STEP_RETRIES)",
        ]
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
fn every_older_variable_reaches_its_key() {
    let env = [
        ("III_URL", "ws://h:1"),
        ("III_WORKER_NAME", "other"),
        ("LOG_LEVEL", "debug"),
        ("OTEL_ENABLED", "false"),
        ("III_TRACE_PAYLOAD_MAX_BYTES", "100"),
        ("HARNESS_OUTPUT_TOKEN_MAX", "5"),
        ("HARNESS_ANTHROPIC_CACHE", "0"),
        ("LLAMACPP_FETCH_TIMEOUT_MS", "1500.7"),
        ("LMSTUDIO_BASE_URL", "http://l:1/"),
        ("LLAMACPP_BASE_URL", "http://c:2"),
        ("COMPACT_RESERVED_TOKENS", "1"),
        ("COMPACT_TAIL_TURNS", "2x"),
        ("COMPACT_PRESERVE_RECENT_TOKENS", "3"),
        ("COMPACT_TOOL_OUTPUT_MAX_CHARS", "4"),
        ("COMPACT_BUSY_TIMEOUT_MS", "5"),
        ("COMPACT_PRUNE_PROTECTED_TOOLS", "a::b, c::d"),
        ("COMPACT_PRUNE_PROTECT", "6"),
        ("COMPACT_PRUNE_MIN_FREE", "7"),
    ];
    let expected = defaults_with(|config| {
        config.engine.url = Some("ws://h:1".into());
        config.engine.worker_name = "other".into();
        config.log.level = "debug".into();
        config.telemetry.enabled = false;
        config.telemetry.trace_payload_max_bytes = Some(100);
        config.provider.output_token_max = 5;
        config.provider_anthropic.prompt_cache = false;
        config.provider_llamacpp.headers_timeout_ms = 1500;
        config.provider_lmstudio.default_api_url = "http://l:1/v1/chat/completions".into();
        config.provider_llamacpp.default_api_url = "http://c:2/v1/chat/completions".into();
        config.compaction.reserved_tokens = 1;
        config.compaction.tail_turns = 2;
        config.compaction.preserve_recent_tokens = Some(3);
        config.compaction.tool_output_max_chars = 4;
        config.compaction.busy_timeout_ms = 5;
        config.compaction.prune_protected_tools = vec!["a::b".into(), "c::d".into()];
        config.compaction.prune_protect_tokens = 6;
        config.compaction.prune_min_free_tokens = 7;
    });
    let loaded = load("", env);
    assert_eq!((loaded.config, loaded.warnings), (expected, vec![]));
}

#[test]
fn an_unusable_older_variable_counts_as_not_set_but_never_for_the_engine() {
    let loaded = load("", [("LMSTUDIO_BASE_URL", "not a url"), ("LOG_LEVEL", "loud")]);
    assert_eq!(loaded.config, Config::default());
    assert_eq!(
        warnings(&loaded),
        [
            "provider_lmstudio.default_api_url: LMSTUDIO_BASE_URL is not usable and counts as not set \
             (lmstudio_base_url_invalid)",
            "log.level: LOG_LEVEL is not usable and counts as not set (log_level_invalid)",
        ]
    );
    assert_eq!(
        errors("", [("III_URL", "localhost:49134")]),
        ["engine.url: must be a URL (ws, wss), found \"localhost:49134\" (from III_URL)"]
    );
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

#[test]
fn a_secret_is_a_reference_and_is_never_shown() {
    let found = errors("engine: {listen_token: s3cret}", no_env());
    assert_eq!(
        found,
        ["engine.listen_token: must be ${VAR} or ${VAR:default}; a secret is never written out"]
    );
    let config = load("engine: {listen_token: \"${TOKEN:fall:back}\"}", no_env()).config;
    assert_eq!(config.engine.listen_token.as_ref().unwrap().expose(), "fall:back");
    assert!(!format!("{config:?}").contains("fall:back"));
    assert_eq!(
        serde_json::to_value(&config).unwrap()["engine"]["listen_token"],
        json!("[REDACTED]")
    );
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
    assert_eq!(KEYS.len(), 78);
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
fn files_that_are_missing_empty_or_broken() {
    let file = File::new("");
    assert_eq!(
        Config::load(&file.input(no_env())).unwrap().config,
        Config::default()
    );

    std::fs::remove_file(&file.path).unwrap();
    let loaded = Config::load(&file.input(no_env())).unwrap();
    let path = file.path.display();
    assert_eq!(warnings(&loaded), [format!("{path}: no such file; all defaults")]);
    assert_eq!(
        (loaded.config, loaded.source),
        (Config::default(), Source::NoFile(file.path.clone()))
    );

    std::fs::write(&file.path, "turn:\n  parallel_calls: [\n").unwrap();
    let broken = Config::load(&file.input(no_env())).unwrap_err().to_string();
    assert!(broken.starts_with(&format!("{path}: line ")), "{broken}");

    std::fs::write(&file.path, "- turn").unwrap();
    let broken = Config::load(&file.input(no_env())).unwrap_err().to_string();
    assert_eq!(broken, format!("{path}: line 1: must be a mapping"));
}

#[test]
fn c12_case_11_a_changed_file_is_swapped_in_or_leaves_the_old_values() {
    let file = File::new("turn: {parallel_calls: 4}");
    let input = file.input(no_env());
    let current = Arc::new(ArcSwap::from_pointee(Config::load(&input).unwrap().config));
    let (reloaded, reloads) = channel();
    let _guard = config::watch(input, Arc::clone(&current), move |outcome| {
        reloaded.send(outcome).unwrap()
    })
    .unwrap();

    std::fs::write(&file.path, "turn: {parallel_calls: many}").unwrap();
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

    let beside = file.path.with_extension("new");
    std::fs::write(&beside, "turn: {parallel_calls: 3}\nlog: {level: debug}").unwrap();
    std::fs::rename(&beside, &file.path).unwrap();
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
fn a_file_that_is_gone_changes_nothing() {
    let file = File::new("turn: {parallel_calls: 4}");
    let input = file.input(no_env());
    let current = ArcSwap::from_pointee(Config::load(&input).unwrap().config);
    std::fs::remove_file(&file.path).unwrap();
    assert!(matches!(config::reload(&input, &current), Reload::Kept(_)));
    assert_eq!(current.load().turn.parallel_calls, 4);
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

proptest::proptest! {
    /// Whatever the file and the variable of an integer key say, the later usable one is in force, or the start fails.
    #[test]
    fn the_later_layer_wins(file in proptest::option::of(0_u64..5), variable in proptest::option::of(0_u64..5)) {
        let text = file.map(|n| format!("turn: {{parallel_calls: {n}}}")).unwrap_or_default();
        let env = MapEnv(variable.iter().map(|n| ("HARNESS__TURN__PARALLEL_CALLS".into(), n.to_string())).collect());
        let loaded = Config::load(&File::new(&text).input(env));
        let mistakes = [file, variable].into_iter().filter(|n| *n == Some(0)).count();
        match loaded {
            Err(findings) => assert_eq!(findings.0.len(), mistakes),
            Ok(loaded) => {
                let expected = variable.or(file).unwrap_or(8);
                assert_eq!((loaded.config.turn.parallel_calls as u64, mistakes), (expected, 0));
            }
        }
    }

    /// No text makes loading panic.
    #[test]
    fn any_text_is_answered(text in "[a-z_:{}\\[\\]\"' \n0-9!&*-]{0,60}") {
        Config::load(&File::new(&text).input(no_env())).ok();
    }
}

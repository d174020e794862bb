//! File, variables and secrets beyond the acceptance cases.

use arc_swap::ArcSwap;
use harness::config::{self, Config, MapEnv, Reload, Source};
use pretty_assertions::assert_eq;
use serde_json::json;

use super::{File, defaults_with, errors, load, no_env, warnings};

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
fn a_file_that_is_gone_changes_nothing() {
    let file = File::new("turn: {parallel_calls: 4}");
    let input = file.input(no_env());
    let current = ArcSwap::from_pointee(Config::load(&input).unwrap().config);
    std::fs::remove_file(&file.path).unwrap();
    assert!(matches!(config::reload(&input, &current), Reload::Kept(_)));
    assert_eq!(current.load().turn.parallel_calls, 4);
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

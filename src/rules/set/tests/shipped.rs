//! The file that is shipped (contract 03 §3.3).

use pretty_assertions::assert_eq;
use serde_json::json;

use super::{RuleFile, allow, ask, check, deny, rules};
use crate::rules::review;

#[test]
fn the_shipped_file_reads_as_written() {
    let text = include_str!("../../../../iii-permissions.example.yaml");
    let shipped = rules(text);
    assert_eq!(RuleFile::read(text).warnings, []);
    assert_eq!(review(&shipped, text), []);
    for id in [
        "approval::resolve",
        "policy::check_permissions",
        "hook-fanout::publish_collect",
        "state::set",
        "state::update",
        "state::delete",
        "stream::set",
        "iii::durable::publish",
        "harness::provider::resolve",
        "harness::provider::register",
        "configuration::get",
        "configuration::set",
        "configuration::register",
        "oauth::anthropic::login",
        "oauth::openai-codex::login",
        "run::start",
        "router::stream_assistant",
        "run::abort",
        "harness::trigger",
        "models::register",
    ] {
        assert_eq!(check(&shipped, id, json!({})), deny(id));
    }
    assert_eq!(
        check(&shipped, "provider::openai::stream", json!({})),
        deny("provider::*")
    );
    for id in [
        "state::get",
        "state::list",
        "models::list",
        "models::get",
        "models::supports",
        "oauth::anthropic::status",
        "oauth::openai-codex::status",
        "directory::engine::functions::list",
        "directory::engine::functions::info",
        "directory::engine::triggers::list",
        "directory::engine::triggers::info",
        "directory::engine::workers::list",
        "directory::engine::workers::info",
        "directory::engine::registered_triggers::list",
        "directory::engine::registered_triggers::info",
        "directory::skills::list",
        "directory::skills::get",
        "directory::skills::download",
        "directory::prompts::list",
        "directory::prompts::get",
        "directory::prompts::download",
        "engine::functions::list",
        "engine::functions::info",
        "engine::workers::list",
        "engine::workers::info",
        "engine::triggers::list",
        "engine::triggers::info",
        "engine::registered-triggers::list",
        "worker::list",
    ] {
        assert_eq!(check(&shipped, id, json!({})), allow(id));
    }
    for id in ["shell::exec", "web::fetch", "approval::set_mode"] {
        assert_eq!(check(&shipped, id, json!({})), ask());
    }
    assert_eq!(shipped.len(), 50);
}

//! What happens when the `harness` entry changes: models are asked for where a key or an address changed, once, and nowhere else
//! (contract 09 B5).

use std::time::Duration;

use pretty_assertions::assert_eq;

use super::*;
use crate::support::timed::{leap, settle};

three_ways! {
    c09_case_24_a_mode_asks_no_provider,
    c09_case_25_a_new_key_is_used_at_once,
    c09_case_26_two_edits_at_once_ask_both,
    a_key_that_goes_takes_its_models_along,
    c09_weakness_3_a_bad_slice_disables_nobody_else,
}

/// Two hosted providers without a key, each with a server.
struct Two {
    test: TestBus,
    openai: Server,
    kimi: Server,
}

impl Two {
    async fn start() -> Self {
        let server = |id: &'static str| {
            Server::start(Script::answer(|_| Reply::says("x", 1)).with_models(Reply::models([id]))).unwrap()
        };
        let two = Self {
            test: TestBus::with(TestOptions::default()).await,
            openai: server("gpt-5"),
            kimi: server("kimi-k2.6"),
        };
        // The discoveries of the start are over: the three without a key have looked for what to remove.
        two.test
            .eventually(async || (two.test.calls_of("models::list") >= 3).then_some(()))
            .await;
        two
    }

    async fn set(&self, mode: &str, providers: Value) {
        let value = json!({"permissions": {"default_mode": mode}, "providers": providers});
        self.test
            .ok("configuration::set", json!({"id": "harness", "value": value}))
            .await;
    }

    fn slice(&self, id: &str) -> Value {
        let server = if id == "kimi" { &self.kimi } else { &self.openai };
        json!({"api_key": "k", "api_url": server.url()})
    }

    async fn listed(&self) -> Vec<String> {
        let list = self.test.ok("models::list", json!({})).await;
        let rows = list["models"].as_array().unwrap();
        rows.iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn lists(&self, ids: &[&str]) {
        self.test
            .eventually(async || (self.listed().await == ids).then_some(()))
            .await;
    }

    fn listings(&self) -> (usize, usize) {
        (self.openai.listings(), self.kimi.listings())
    }

    /// Lets the pause after an edit go by, so that whatever it leads to begins; then has the models of some providers asked
    /// for once more, which waits for that: a provider is asked by one at a time.
    async fn settled(&self, providers: &[&str]) {
        leap(Duration::from_secs(2)).await;
        // A head start of a few ways to the store, since none is known to come.
        for _ in 0..20 {
            settle().await;
            self.test.state("nothing", "here").await;
        }
        for provider in providers {
            let refresh = format!("provider::{provider}::refresh_models");
            self.test.ok(&refresh, json!({})).await;
        }
    }
}

async fn c09_case_24_a_mode_asks_no_provider() {
    let two = Two::start().await;
    let providers = json!({"openai": two.slice("openai")});
    two.set("manual", providers.clone()).await;
    two.lists(&["gpt-5"]).await;
    two.set("auto", providers).await;
    two.test
        .eventually(async || {
            let settings = two
                .test
                .ok("approval::get_settings", json!({"session_id": "s"}))
                .await;
            (settings["mode"] == "auto").then_some(())
        })
        .await;
    two.settled(&["openai"]).await;
    assert_eq!(two.listings(), (2, 0));
}

async fn c09_case_25_a_new_key_is_used_at_once() {
    let two = Two::start().await;
    assert_eq!(two.listed().await, Vec::<String>::new());
    let kimi = two.slice("kimi");
    two.set("manual", json!({ "kimi": kimi })).await;
    two.lists(&["kimi-k2.6"]).await;
    // The other one has a key too, and would be asked if it were meant.
    two.set("manual", json!({"kimi": kimi, "openai": two.slice("openai")}))
        .await;
    two.lists(&["kimi-k2.6", "gpt-5"]).await;
    two.settled(&["kimi", "openai"]).await;
    assert_eq!(two.listings(), (2, 2));
}

async fn c09_case_26_two_edits_at_once_ask_both() {
    let two = Two::start().await;
    two.set("manual", json!({"kimi": two.slice("kimi")})).await;
    two.set(
        "manual",
        json!({"kimi": two.slice("kimi"), "openai": two.slice("openai")}),
    )
    .await;
    two.lists(&["kimi-k2.6", "gpt-5"]).await;
    two.settled(&["kimi", "openai"]).await;
    assert_eq!(two.listings(), (2, 2));
}

async fn a_key_that_goes_takes_its_models_along() {
    let two = Two::start().await;
    let kimi = two.slice("kimi");
    two.set("manual", json!({"kimi": kimi, "openai": two.slice("openai")}))
        .await;
    two.lists(&["kimi-k2.6", "gpt-5"]).await;
    two.set("manual", json!({ "kimi": kimi })).await;
    two.lists(&["kimi-k2.6"]).await;
    // A server that is away for a while takes nothing along.
    two.kimi.set_models(Reply::fails(503, ""));
    let registered = two.test.ok("provider::kimi::refresh_models", json!({})).await;
    assert_eq!(registered, json!({"registered": []}));
    assert_eq!(two.listed().await, ["kimi-k2.6"]);
}

/// A variable that is not set, or a value that is wrong, in one provider's slice.
async fn c09_weakness_3_a_bad_slice_disables_nobody_else() {
    let two = Two::start().await;
    let providers = json!({"openai": two.slice("openai"), "kimi": {"api_key": "${NOT_SET_ANYWHERE}"}});
    two.set("manual", providers).await;
    two.lists(&["gpt-5"]).await;
    let list = two.test.ok("harness::provider::list", json!({})).await;
    let configured: Vec<_> = list["providers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["configured"] == true)
        .map(|row| row["id"].as_str().unwrap())
        .collect();
    assert_eq!(configured, ["openai"]);
}

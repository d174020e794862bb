//! The start of a program, and what a listing that goes wrong leaves in the catalog (contract 09 weaknesses 4 to 6).

use pretty_assertions::assert_eq;

use super::*;
use crate::support::spy::{Op, Spy};

/// Everything, with a provider whose key is in the environment.
async fn openai(spy: &Spy, models: Reply) -> Rig {
    let server = Server::start(Script::answer(|_| Reply::says("x", 1)).with_models(models)).unwrap();
    let mut options = TestOptions {
        wrap: spy.wrap(),
        ..TestOptions::default()
    };
    options.config.provider_openai.default_api_url = server.url();
    options.env.insert("OPENAI_API_KEY".into(), "k".into());
    let test = TestBus::with(options).await;
    Rig {
        test,
        server,
        id: "openai",
    }
}

fn ids(records: &Value) -> Vec<&str> {
    let records = records.as_array().unwrap().iter();
    records.map(|record| record["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn c09_weaknesses_4_5_one_registration_and_models_without_being_asked() {
    let spy = Spy::default();
    let rig = openai(&spy, Reply::models(["gpt-5"])).await;
    assert_eq!(rig.test.calls_of("harness::provider::register"), 5);
    rig.test
        .eventually(async || (ids(&rig.listed().await) == ["gpt-5"]).then_some(()))
        .await;
    assert_eq!(rig.server.listings(), 1);
    let calls = spy.calls();
    let registrations = calls.iter().filter(|(id, _)| id == "configuration::register");
    assert_eq!(registrations.count(), 1);
    rig.test.stop().await;
}

#[tokio::test]
async fn c09_weakness_6_what_was_not_stored_is_not_reported() {
    let spy = Spy::default();
    let rig = openai(&spy, Reply::fails(500, "")).await;
    rig.server.set_models(Reply::models(["gpt-5", "o3", "gpt-4o"]));
    let o3 = |op: &Op<'_>| match op {
        Op::Call(call) => call.payload["key"] == "models:openai:o3",
        Op::Commit(_) => false,
    };
    spy.fail_when(o3);
    assert_eq!(rig.refresh().await, json!(["gpt-5", "gpt-4o"]));
    assert_eq!(ids(&rig.listed().await), ["gpt-4o", "gpt-5"]);
    spy.heal();
    assert_eq!(rig.refresh().await, json!(["gpt-5", "o3", "gpt-4o"]));
    // One that cannot be removed stays where it is, and the others go.
    spy.fail_when(o3);
    rig.server.set_models(Reply::models(["gpt-5"]));
    assert_eq!(rig.refresh().await, json!(["gpt-5"]));
    assert_eq!(ids(&rig.listed().await), ["gpt-5", "o3"]);
    rig.test.stop().await;
}

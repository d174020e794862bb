//! Limits of requests per provider, over real connections.

use harness::scripted::Gate;
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    as_many_requests_at_a_time_as_allowed_in_their_order,
    a_place_is_not_waited_for_for_ever,
    a_new_limit_counts_for_those_who_wait,
}

async fn limited(script: Script, max_concurrent: u64) -> Rig {
    Rig::start("openai", script, |options, url| {
        url.clone_into(&mut options.config.provider_openai.default_api_url);
        options.config.provider_openai.max_concurrent = Some(max_concurrent);
        options.env.insert("OPENAI_API_KEY".into(), "k".into());
    })
    .await
}

async fn as_many_requests_at_a_time_as_allowed_in_their_order() {
    let gate = Gate::new();
    let door = gate.clone();
    let rig = limited(
        Script::answer(move |_| Reply::says("x", 1).after(door.clone())),
        2,
    )
    .await;
    let turns = futures::future::join_all((0..6).map(|_| rig.say("gpt-5", "hi")));
    let releases = async {
        for done in 0..6 {
            let open = (done + 2).min(6);
            rig.test
                .eventually(async || (rig.server.requests().len() == open).then_some(()))
                .await;
            gate.release();
        }
    };
    let (turns, ()) = tokio::join!(turns, releases);
    for turn in turns {
        assert_eq!(turn.message()["content"], says("x"));
    }
}

async fn a_place_is_not_waited_for_for_ever() {
    let gate = Gate::new();
    let door = gate.clone();
    let rig = limited(
        Script::answer(move |_| Reply::says("x", 1).after(door.clone())),
        1,
    )
    .await;
    rig.test
        .reconfigure(|config| config.provider.queue_timeout_ms = 100);
    let waits = async {
        rig.test
            .eventually(async || (rig.server.requests().len() == 1).then_some(()))
            .await;
        let turn = rig.say("gpt-5", "hi").await;
        assert_eq!(
            turn.failure(),
            (
                "error",
                "rate_limited",
                "openai is at its own limits: no place within 100 ms (provider_openai in the configuration)"
            )
        );
        gate.release();
    };
    let (first, ()) = tokio::join!(rig.say("gpt-5", "hi"), waits);
    assert_eq!(first.message()["content"], says("x"));
    assert_eq!(rig.server.requests().len(), 1);
}

async fn a_new_limit_counts_for_those_who_wait() {
    let gate = Gate::new();
    let door = gate.clone();
    let rig = limited(
        Script::answer(move |_| Reply::says("x", 1).after(door.clone())),
        1,
    )
    .await;
    let turns = futures::future::join_all((0..3).map(|_| rig.say("gpt-5", "hi")));
    let opens = async {
        rig.test
            .eventually(async || (rig.server.requests().len() == 1).then_some(()))
            .await;
        rig.test
            .reconfigure(|config| config.provider_openai.max_concurrent = None);
        gate.release();
        // The two that waited are both there before either is answered.
        rig.test
            .eventually(async || (rig.server.requests().len() == 3).then_some(()))
            .await;
        gate.release();
        gate.release();
    };
    let (turns, ()) = tokio::join!(turns, opens);
    assert_eq!(turns.len(), 3);
}

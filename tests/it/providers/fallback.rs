//! Other models for a run whose own one is not available.

use harness::scripted::{Gate, Step};
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    a_model_that_is_not_available_is_replaced_before_its_first_word,
    the_first_failure_is_told_when_nobody_does_better,
    other_failures_are_not_of_that_kind,
    what_was_said_is_never_said_again,
    nobody_else_is_asked_unless_somebody_is_named,
    w6_waiting_comes_first,
    w6_a_burst_meets_the_limits_of_the_next_provider_too,
}

const PRIMARY: &str = "gpt-5";

/// Runs on openai, with two models of Kimi behind it; the second one is the first that works.
struct Chain {
    test: TestBus,
    openai: Server,
    kimi: Server,
}

impl Chain {
    async fn start(first: Script, others: Script) -> Self {
        Self::with(
            first,
            others,
            &["kimi::k-one", "nobody::x", "openai::gpt-5", "kimi::k-two"],
        )
        .await
    }

    async fn with(first: Script, others: Script, models: &[&str]) -> Self {
        let (openai, kimi) = (Server::start(first).unwrap(), Server::start(others).unwrap());
        let mut options = TestOptions::default();
        options.config.provider.max_retries = 0;
        options.config.turn.step_retries = 0;
        options.config.turn.fallback_models = models.iter().map(|name| (*name).to_owned()).collect();
        options.config.provider_openai.default_api_url = openai.url();
        options.config.provider_kimi.default_api_url = kimi.url();
        for key in ["OPENAI_API_KEY", "MOONSHOT_API_KEY"] {
            options.env.insert(key.into(), "k".into());
        }
        let test = TestBus::with(options).await;
        Self { test, openai, kimi }
    }

    /// A run to its end: its events, and its last message.
    async fn run(&self) -> (Vec<Value>, Value) {
        let request = json!({
            "session_id": "s", "provider": "openai", "model": PRIMARY, "messages": [user("hi")],
        });
        self.test.ok("run::start", request).await;
        let events = self.test.ended("s", 1).await;
        let complete = events.iter().rfind(|event| event["type"] == "message_complete");
        let message = complete.unwrap()["message"].clone();
        (events, message)
    }

    fn asked(&self) -> Vec<String> {
        let requests = self.kimi.requests();
        requests
            .iter()
            .map(|request| request.model().to_owned())
            .collect()
    }
}

fn starts(events: &[Value]) -> usize {
    let inner = events
        .iter()
        .filter(|event| event["llm_event"]["type"] == "start");
    inner.count()
}

async fn a_model_that_is_not_available_is_replaced_before_its_first_word() {
    for refusal in [
        Reply::fails(429, "slow down"),
        Reply::fails(503, ""),
        Reply::raw([Step::Break]),
    ] {
        let others = Script::answer(|request| match request.model() {
            "k-two" => Reply::says("Hello", 2),
            _ => Reply::fails(401, "no"),
        });
        let chain = Chain::start(Script::answer(move |_| refusal.clone()), others).await;
        let (events, message) = chain.run().await;
        assert_eq!(
            (
                &message["content"],
                &message["provider"],
                &message["model"],
                &message["stop_reason"]
            ),
            (&says("Hello"), &json!("kimi"), &json!("k-two"), &json!("end"))
        );
        assert_eq!(chain.asked(), ["k-one", "k-two"]);
        assert_eq!(chain.openai.requests().len(), 1);
        assert_eq!(starts(&events), 1);
        chain.test.stop().await;
    }
}

async fn the_first_failure_is_told_when_nobody_does_better() {
    let first = Script::answer(|_| Reply::fails(429, "slow down"));
    let chain = Chain::start(first, Script::answer(|_| Reply::fails(400, "bad"))).await;
    let (_, message) = chain.run().await;
    assert_eq!(
        (
            &message["error_message"],
            &message["error_kind"],
            &message["model"]
        ),
        (&json!("slow down"), &json!("rate_limited"), &json!(PRIMARY))
    );
    assert_eq!(chain.asked(), ["k-one", "k-two"]);
}

async fn other_failures_are_not_of_that_kind() {
    for (status, kind) in [
        (400, "permanent"),
        (401, "auth_expired"),
        (413, "context_overflow"),
    ] {
        let first = Script::answer(move |_| Reply::fails(status, "no"));
        let chain = Chain::start(first, Script::answer(|_| Reply::says("x", 1))).await;
        let (_, message) = chain.run().await;
        assert_eq!(message["error_kind"], kind);
        assert_eq!(chain.asked(), Vec::<String>::new());
        chain.test.stop().await;
    }
}

async fn what_was_said_is_never_said_again() {
    let half = Reply::raw([Step::send(chunk("half")), Step::Break]);
    let first = Script::answer(move |_| half.clone());
    let chain = Chain::start(first, Script::answer(|_| Reply::says("x", 1))).await;
    let (_, message) = chain.run().await;
    assert_eq!(
        (&message["content"], &message["stop_reason"]),
        (&says("half"), &json!("error"))
    );
    assert_eq!(chain.asked(), Vec::<String>::new());
}

async fn nobody_else_is_asked_unless_somebody_is_named() {
    let first = Script::answer(|_| Reply::fails(429, "slow down"));
    let chain = Chain::with(first, Script::answer(|_| Reply::says("x", 1)), &[]).await;
    let (_, message) = chain.run().await;
    assert_eq!(message["error_message"], "slow down");
    assert_eq!(chain.asked(), Vec::<String>::new());
}

/// A wait that the server asks for, and that is short, is shorter than another model.
async fn w6_waiting_comes_first() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let first = Script::answer(
        move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Reply::fails(429, "slow down").with_header("retry-after", "0"),
            _ => Reply::says("Hello", 2),
        },
    );
    let chain = Chain::start(first, Script::answer(|_| Reply::says("x", 1))).await;
    chain.test.reconfigure(|config| config.provider.max_retries = 1);
    let (_, message) = chain.run().await;
    assert_eq!(
        (&message["content"], &message["model"]),
        (&says("Hello"), &json!(PRIMARY))
    );
    assert_eq!(chain.asked(), Vec::<String>::new());
    assert_eq!(chain.openai.requests().len(), 2);
}

/// All runs that one model turns away at once go to the next one as slowly as that one is to be asked.
async fn w6_a_burst_meets_the_limits_of_the_next_provider_too() {
    let gate = Gate::new();
    let door = gate.clone();
    let chain = Chain::with(
        Script::answer(|_| Reply::fails(429, "slow down")),
        Script::answer(move |_| Reply::says("Hello", 1).after(door.clone())),
        &["kimi::k-one"],
    )
    .await;
    chain
        .test
        .reconfigure(|config| config.provider_kimi.max_concurrent = Some(2));
    let runs = 6;
    for n in 0..runs {
        let request = json!({"session_id": format!("s{n}"), "provider": "openai", "model": PRIMARY, "messages": [user("hi")]});
        chain.test.ok("run::start", request).await;
    }
    // All were turned away, so those that are not at the second model wait for their place there.
    chain
        .test
        .eventually(async || (chain.openai.requests().len() == runs).then_some(()))
        .await;
    for done in 0..runs {
        let open = (done + 2).min(runs);
        chain
            .test
            .eventually(async || (chain.asked().len() == open).then_some(()))
            .await;
        gate.release();
    }
    for n in 0..runs {
        let events = chain.test.ended(&format!("s{n}"), 1).await;
        let complete = events.iter().rfind(|event| event["type"] == "message_complete");
        assert_eq!(complete.unwrap()["message"]["content"], says("Hello"));
    }
}

//! Servers that take a prompt that is too long without a word.

use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    v9_a_prompt_counted_above_the_window_is_not_sent_again,
}

const SUMMARY: &str = "SUM";
const WINDOW: u64 = 100_000;

/// What was answered stays an answer; the next request begins with a summary.
async fn v9_a_prompt_counted_above_the_window_is_not_sent_again() {
    let script = Script::answer(|request| {
        if request.last_user_text().starts_with("Summarise") {
            return Reply::says(SUMMARY, 1);
        }
        let counted = if request.last_user_text().starts_with('4') {
            WINDOW + 20_000
        } else {
            10_000
        };
        Reply::says("ok", 1).with_usage(counted, 2, 0)
    });
    let listing = json!({"data": [{"id": "gpt-5", "context_window": WINDOW, "max_output_tokens": 1_000}]});
    let rig = Rig::start("openai", script.with_models(answers(&listing)), |options, url| {
        url.clone_into(&mut options.config.provider_openai.default_api_url);
        options.env.insert("OPENAI_API_KEY".into(), "k".into());
    })
    .await;
    for n in 1..=5 {
        // Far from the window, as far as we can estimate.
        let text = format!("{n}: {}", "word ".repeat(2_000));
        let request =
            json!({"session_id": "s", "provider": "openai", "model": "gpt-5", "messages": [user(&text)]});
        rig.test.ok("run::start", request).await;
        let events = rig.test.ended("s", n).await;
        let complete = events.iter().rfind(|event| event["type"] == "message_complete");
        assert_eq!(complete.unwrap()["message"]["stop_reason"], "end");
    }
    let requests = rig.server.requests();
    let turns: Vec<_> = requests
        .iter()
        .filter(|request| !request.last_user_text().starts_with("Summarise"))
        .collect();
    assert_eq!(turns.len(), 5);
    let summarised = |n: usize| {
        turns[n].body["messages"]
            .to_string()
            .contains("<conversation-summary>")
    };
    assert_eq!(
        [0, 1, 2, 3, 4].map(summarised),
        [false, false, false, false, true]
    );
}

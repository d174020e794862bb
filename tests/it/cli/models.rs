//! `harness models`.

use harness::scripted::Reply;
use pretty_assertions::assert_eq;

use super::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn models_are_shown_as_known_and_asked_for_again() {
    let stage = Stage::start().await;
    let refreshed = stage.run(&["models", "--refresh", "--provider", "openai"]).await;
    assert_eq!(
        (refreshed.code, refreshed.err.as_str()),
        (Some(0), "openai: 1 listed\n")
    );
    assert_eq!(
        refreshed.out.split_whitespace().collect::<Vec<_>>(),
        ["openai::gpt-5", "400000", "128000", "$1.25", "in,", "$10", "out"]
    );
    stage.model.set_models(Reply::models(["gpt-5", "o3"]));
    let known = stage.run(&["models", "--provider", "openai"]).await;
    assert_eq!((known.code, known.err.as_str()), (Some(0), ""));
    assert_eq!(known.out, refreshed.out);

    let json = stage
        .run(&["models", "--refresh", "--provider", "openai", "--json"])
        .await;
    assert_eq!((json.code, json.err.as_str()), (Some(0), "openai: 2 listed\n"));
    let rows = json.json();
    let ids: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["gpt-5", "o3"]);

    stage.model.set_models(Reply::fails(500, ""));
    let failed = stage.run(&["models", "--refresh", "--provider", "openai"]).await;
    assert_eq!(
        (failed.code, failed.err.as_str()),
        (Some(0), "openai: nothing listed\n")
    );
    assert_eq!(failed.out.lines().count(), 2);
    let nobody = stage.run(&["models", "--refresh", "--provider", "nobody"]).await;
    assert_eq!(
        (nobody.code, nobody.out.as_str(), nobody.err.as_str()),
        (Some(0), "", "nobody: no provider of this name lists models\n")
    );
}

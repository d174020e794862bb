//! `harness call` and `harness functions --engine`.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::home::{Home, Ran};
use super::stage::Stage;

/// Exit code, stdout, stderr.
fn all(ran: &Ran) -> (Option<i32>, &str, &str) {
    (ran.code, &ran.out, &ran.err)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_prints_the_answer_as_json() {
    let stage = Stage::start().await;
    stage.offers("test::echo", |payload| async move { Ok(payload) });
    let ran = stage.run(&["call", "test::echo"]).await;
    assert_eq!(all(&ran), (Some(0), "{}\n", ""));
    let ran = stage
        .run(&["call", "test::echo", r#"{"b":1,"a":[null,"ü"]}"#])
        .await;
    assert_eq!(all(&ran), (Some(0), "{\"b\":1,\"a\":[null,\"ü\"]}\n", ""));
    let ran = stage
        .run_with(&["call", "test::echo", "-"], " {\"from\":\"stdin\"}\n")
        .await;
    assert_eq!(all(&ran), (Some(0), "{\"from\":\"stdin\"}\n", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_tells_code_and_message() {
    let stage = Stage::start().await;
    let ran = stage.run(&["call", "turn::get_state"]).await;
    assert_eq!(
        all(&ran),
        (
            Some(1),
            "",
            "invocation_failed: missing required string field: session_id\n"
        )
    );
    stage.offers("test::slow", |_| std::future::pending());
    let ran = stage.run(&["call", "test::slow", "--timeout-ms", "100"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.starts_with("TIMEOUT: "), "{}", ran.err);
    let ran = stage
        .run(&["call", "no::such_function", "--timeout-ms", "300"])
        .await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.starts_with("function_not_found: "), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_no_json_is_not_sent() {
    let stage = Stage::start().await;
    for (args, input) in [
        (["call", "state::set", "{"], ""),
        (["call", "state::set", "-"], "nonsense"),
    ] {
        let ran = stage.run_with(&args, input).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
        assert!(ran.err.starts_with("the payload is no JSON: "), "{}", ran.err);
    }
}

#[test]
fn without_an_engine_every_client_says_how_to_start_one() {
    // Nobody listens on a port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let home = Home::with(&format!("engine: {{listen: \"{free}\"}}\n"));
    for args in [
        &["call", "state::list"][..],
        &["functions", "--engine"],
        &["run", "hello"],
        &["chat"],
    ] {
        let ran = home.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(3), ""), "{args:?}");
        assert!(
            ran.err
                .starts_with(&format!("no engine answers at ws://{free}: "))
                && ran
                    .err
                    .ends_with("\nstart one with `harness serve`, or name another with --url\n"),
            "{}",
            ran.err
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flag_beats_the_variable_and_that_the_file() {
    let stage = Stage::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = format!("ws://{free}");
    let url = stage.url();
    let reaches = |file: Option<&str>, variable: Option<&str>, flag: Option<&str>| {
        let home = Home::with(&file.map_or(String::new(), |url| format!("engine: {{url: \"{url}\"}}\n")));
        let mut args = vec!["call", "engine::workers::list"];
        args.extend(flag.into_iter().flat_map(|url| ["--url", url]));
        let mut command = home.command(&args);
        command.envs(variable.map(|url| ("III_URL", url)));
        command.output().unwrap().status.code()
    };
    assert_eq!(reaches(Some(&url), None, None), Some(0));
    assert_eq!(reaches(Some(&nobody), Some(&url), None), Some(0));
    assert_eq!(reaches(Some(&url), Some(&nobody), None), Some(3));
    assert_eq!(reaches(Some(&nobody), Some(&nobody), Some(&url)), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_a_name_of_its_own() {
    let stage = Stage::start().await;
    let ran = stage.run(&["call", "engine::workers::list"]).await;
    let workers = ran.json();
    let names: Vec<&str> = workers["workers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["name"].as_str())
        .collect();
    assert!(
        names.iter().any(|name| name.starts_with("harness-cli-")),
        "{names:?}"
    );
    assert_eq!(names.iter().filter(|name| **name == "harness").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_of_all_workers_are_listed() {
    let stage = Stage::start().await;
    let json = stage.run(&["functions", "--engine", "--json"]).await;
    assert_eq!((json.code, json.err.as_str()), (Some(0), ""));
    let rows = json.json();
    let row = |id: &str| -> Value {
        let rows = rows.as_array().unwrap().iter();
        rows.filter(|row| row["function_id"] == id).cloned().collect()
    };
    assert_eq!(
        row("test::mail"),
        json!([{"function_id": "test::mail", "worker_name": "tools"}])
    );
    assert_eq!(row("run::start")[0]["worker_name"], "harness");
    assert_eq!(row("state::get")[0]["worker_name"], "iii-state");

    let plain = stage.run(&["functions", "--engine"]).await;
    assert_eq!((plain.code, plain.err.as_str()), (Some(0), ""));
    let ids: Vec<&str> = plain
        .out
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let listed: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["function_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, listed);
    let mail = plain
        .out
        .lines()
        .find(|line| line.starts_with("test::mail "))
        .unwrap();
    assert_eq!(
        mail.split_whitespace().collect::<Vec<_>>(),
        ["test::mail", "tools"]
    );
}

#[test]
fn a_client_of_the_same_configuration_shows_the_listeners_token() {
    let config = |address: &str| {
        format!(
            "engine: {{mode: embedded, listen: \"{address}\", listen_token: \"${{SECRET}}\"}}\nhttp: {{listen: \"\"}}\n"
        )
    };
    let home = Home::with(&config("127.0.0.1:0"));
    let mut serve = home.serve(&["serve"], &[("SECRET", "s3cret")]);
    let line = serve.says("listening for workers");
    let address = line.rsplit_once("address=").unwrap().1.trim().to_owned();
    home.write(&config(&address));
    let call = |secret: &str| {
        let mut command = home.command(&["call", "stream::list_groups", r#"{"stream_name":"x"}"#]);
        Ran::of(command.env("SECRET", secret).output().unwrap())
    };
    assert_eq!(all(&call("s3cret")), (Some(0), "[]\n", ""));
    let refused = call("guess");
    assert_eq!((refused.code, refused.out.as_str()), (Some(3), ""));
    assert!(!refused.err.contains("guess"), "{}", refused.err);
}

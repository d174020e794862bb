//! `policy::check_permissions` and its rule file (contract 03 §2.9, §3.1).

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::workers::harness as worker;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{TestBus, TestOptions, log, three_ways};

three_ways! {
    c03_case_33_bad_payloads_are_rejected,
    c03_case_34_one_bad_rule_at_the_start_means_no_rules,
    without_a_file_everything_needs_a_person,
    c03_case_35_the_file_is_followed,
    another_file_is_turned_to_when_the_configuration_names_one,
    p6_a_failing_example_is_a_bad_file,
    a_file_that_appears_later_is_taken_with_its_directory,
}

async fn rig(file: &Path) -> TestBus {
    log::listen();
    let mut options = TestOptions {
        workers: vec![worker::worker()],
        ..TestOptions::default()
    };
    options.config.permissions_path = file.to_owned();
    TestBus::with(options).await
}

async fn check(rig: &TestBus, function_id: &str) -> Value {
    rig.ok("policy::check_permissions", json!({ "function_id": function_id }))
        .await
}

fn allow(rule_id: &str) -> Value {
    json!({"decision": "allow", "rule_id": rule_id})
}

fn ask() -> Value {
    json!({"decision": "needs_approval"})
}

async fn c03_case_33_bad_payloads_are_rejected() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("rules.yaml");
    fs::write(&file, "rules: ['*']").unwrap();
    let rig = rig(&file).await;
    let missing = "missing required string field: function_id";
    for (payload, message) in [
        (json!({}), missing),
        (json!(null), missing),
        (json!({"function_id": ""}), missing),
        (json!({"function_id": 7}), missing),
        (
            json!({"function_id": "f", "args": [1]}),
            "args: invalid type: array, expected an object",
        ),
        (
            json!({"function_id": "f", "args": null}),
            "args: invalid type: null, expected an object",
        ),
        (
            json!({"function_id": "f", "args": "x"}),
            "args: invalid type: string \"x\", expected an object",
        ),
    ] {
        let error = rig.call("policy::check_permissions", payload).await.unwrap_err();
        assert_eq!(
            (error.wire_code(), error.to_string().as_str()),
            ("invocation_failed", message)
        );
    }
    assert_eq!(check(&rig, "f").await, allow("*"));
    assert_eq!(
        rig.ok(
            "policy::check_permissions",
            json!({"function_id": "f", "args": {}, "x": 1})
        )
        .await,
        allow("*")
    );
}

async fn c03_case_34_one_bad_rule_at_the_start_means_no_rules() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("rules.yaml");
    fs::write(&file, "rules: [a, b, c, d, e, '!', f, g, h, '*']").unwrap();
    let rig = rig(&file).await;
    let reason = format!(
        "no rules are in force, {} is unusable: line 1: rule 6: no function id",
        file.display()
    );
    for id in ["a", "h", "z"] {
        let answer = check(&rig, id).await;
        assert_eq!(answer, json!({"decision": "needs_approval", "reason": reason}));
    }
}

async fn p6_a_failing_example_is_a_bad_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("rules.yaml");
    let content = |pattern: &str, id: &str| {
        format!(
            "rules:\n- {id}\n- {{function: f, action: deny, args: {{c: {{matches: '{pattern}'}}}}, match: [{{args: {{c: git push -f}}}}]}}\n"
        )
    };
    fs::write(&file, content("--force", "one")).unwrap();
    let rig = rig(&file).await;
    let reason = format!(
        "no rules are in force, {} is unusable: line 3: rule 2 (`f`): match[0]: the rule does not match this example: argument `c` does not match `--force`",
        file.display()
    );
    assert_eq!(
        check(&rig, "one").await,
        json!({"decision": "needs_approval", "reason": reason})
    );
    let follows = async |id: &str| {
        rig.eventually(async || (check(&rig, id).await == allow(id)).then_some(()))
            .await;
    };
    fs::write(&file, content("--force|-f", "two")).unwrap();
    follows("two").await;
    // Later the last good rules stay, until a good file comes.
    fs::write(&file, content("--force", "three")).unwrap();
    log::says(&["permission rules not reloaded", file.to_str().unwrap()], 1).await;
    assert_eq!(check(&rig, "two").await, allow("two"));
    fs::write(&file, content("-f", "four")).unwrap();
    follows("four").await;
    assert_eq!(check(&rig, "three").await, ask());
}

async fn without_a_file_everything_needs_a_person() {
    let directory = TempDir::new().unwrap();
    for path in ["none.yaml", "no/such/directory/rules.yaml"] {
        let rig = rig(&directory.path().join(path)).await;
        assert_eq!(check(&rig, "state::get").await, ask(), "{path}");
    }
    let rig = rig(directory.path()).await;
    let reason = format!(
        "no rules are in force, {} is unusable: not a file",
        directory.path().display()
    );
    assert_eq!(
        check(&rig, "state::get").await,
        json!({"decision": "needs_approval", "reason": reason})
    );
}

async fn c03_case_35_the_file_is_followed() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("rules.yaml");
    fs::write(&file, "rules: [one]").unwrap();
    let rig = rig(&file).await;
    assert_eq!(check(&rig, "one").await, allow("one"));
    let follows = async |id: &str| {
        rig.eventually(async || (check(&rig, id).await == allow(id)).then_some(()))
            .await;
    };

    let path = file.to_str().unwrap();
    fs::write(&file, "rules: [one, '!']").unwrap();
    log::says(&["permission rules not reloaded", path], 1).await;
    assert_eq!(check(&rig, "one").await, allow("one"));
    fs::write(&file, "rules: [two]").unwrap();
    follows("two").await;
    assert_eq!(check(&rig, "one").await, ask());

    // Saved by rename.
    let draft = directory.path().join("draft");
    fs::write(&draft, "rules: [three]").unwrap();
    fs::rename(&draft, &file).unwrap();
    follows("three").await;

    // Deleted: the rules stay. Back with others: they are taken.
    fs::remove_file(&file).unwrap();
    log::says(&["there is no file of permission rules", path], 1).await;
    assert_eq!(check(&rig, "three").await, allow("three"));
    fs::write(&file, "rules: [four]").unwrap();
    follows("four").await;
}

async fn another_file_is_turned_to_when_the_configuration_names_one() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name);
    fs::write(file("one.yaml"), "rules: [one]").unwrap();
    fs::write(file("two.yaml"), "rules: [two]").unwrap();
    let rig = rig(&file("one.yaml")).await;
    assert_eq!(check(&rig, "one").await, allow("one"));

    rig.reconfigure(|config| config.permissions_path = file("two.yaml"));
    assert_eq!(check(&rig, "two").await, allow("two"));
    assert_eq!(check(&rig, "one").await, ask());
    // It is followed, and the other one is not.
    fs::write(file("one.yaml"), "rules: [one, two, three]").unwrap();
    fs::write(file("two.yaml"), "rules: [three]").unwrap();
    rig.eventually(async || (check(&rig, "three").await == allow("three")).then_some(()))
        .await;
    assert_eq!(check(&rig, "two").await, ask());

    // One that cannot be read takes no rules away, until it can.
    rig.reconfigure(|config| config.permissions_path = file("none.yaml"));
    assert_eq!(check(&rig, "three").await, allow("three"));
    fs::write(file("none.yaml"), "rules: [four]").unwrap();
    rig.eventually(async || (check(&rig, "four").await == allow("four")).then_some(()))
        .await;
    assert_eq!(check(&rig, "three").await, ask());
}

async fn a_file_that_appears_later_is_taken_with_its_directory() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("etc/harness/rules.yaml");
    let rig = rig(&file).await;
    assert_eq!(check(&rig, "late").await, ask());
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "rules: [late]").unwrap();
    rig.eventually(async || (check(&rig, "late").await == allow("late")).then_some(()))
        .await;
}

#[tokio::test]
async fn p8_a_file_replaced_meanwhile_gives_the_old_answer_or_the_new() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("rules.yaml");
    let content = |n: usize| {
        format!(
            "rules: [{{rule_id: 'a{n}', function: f, action: allow, args: {{x: {{equals: {n}}}}}}}, {{rule_id: 'd{n}', function: f, action: deny}}]"
        )
    };
    fs::write(&file, content(0)).unwrap();
    let rig = rig(&file).await;
    let done = AtomicBool::new(false);
    let checks = async {
        let mut seen = 0;
        while !done.load(Ordering::SeqCst) {
            let args = json!({"function_id": "f", "args": {"x": seen}});
            let verdict = rig.ok("policy::check_permissions", args).await;
            if verdict == allow(&format!("a{seen}")) {
                tokio::task::yield_now().await;
                continue;
            }
            // Not the old set any more, so wholly a later one.
            let rule_id = verdict["rule_id"].as_str().unwrap().to_owned();
            let later: usize = rule_id.strip_prefix('d').unwrap().parse().unwrap();
            assert!(later > seen, "{later} after {seen}");
            assert_eq!(
                verdict,
                json!({"decision": "deny", "rule_id": rule_id, "rule_action": "deny"})
            );
            seen = later;
        }
        seen
    };
    let changes = async {
        for n in 1..=3 {
            fs::write(&file, content(n)).unwrap();
            rig.eventually(async || {
                let verdict = rig
                    .ok("policy::check_permissions", json!({"function_id": "f"}))
                    .await;
                (verdict["rule_id"] == json!(format!("d{n}"))).then_some(())
            })
            .await;
        }
        done.store(true, Ordering::SeqCst);
    };
    let (seen, ()) = tokio::join!(checks, changes);
    assert!(seen >= 2);
}

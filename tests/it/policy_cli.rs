//! `harness policy`, and what the running program says about its rule file.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use pretty_assertions::assert_eq;
use tempfile::TempDir;

const RULES: &str = "\
version: 1
rules:
  - state::get
  - '!state::set'
  - rule_id: only-tmp
    function: shell::fs::write
    action: allow
    args:
      path: { matches: '^/tmp/' }
    match:
      - args: { path: /tmp/x }
    not_match:
      - args: { path: /etc/passwd }
      - shell::fs::read
  - rule_id: no-force
    function: shell::exec
    action: deny
    args:
      command: { matches: '^git push .*--force' }
";

/// A directory with a rule file, in which the program is run.
struct Home(TempDir);

impl Home {
    fn new(rules: &str) -> Self {
        let home = Self(TempDir::new().unwrap());
        home.write(rules);
        home
    }

    fn write(&self, rules: &str) {
        fs::write(self.0.path().join("iii-permissions.yaml"), rules).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.args(args).env_clear().current_dir(self.0.path());
        command
    }

    /// Exit code, standard output, standard error.
    fn run(&self, args: &[&str], stdin: &str) -> (Option<i32>, String, String) {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that does not read may be over already.
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn check_says_everything_about_a_file() {
    let home = Home::new(RULES);
    let ok = "iii-permissions.yaml: ok, 4 rules, 3 examples hold\n";
    assert_eq!(
        home.run(&["policy", "check", "iii-permissions.yaml"], ""),
        (Some(0), ok.into(), String::new())
    );
    // The configured file, when none is named.
    assert_eq!(
        home.run(&["policy", "check"], ""),
        (Some(0), format!("./{ok}"), String::new())
    );

    home.write("rules:\n- 'a::*'\n- a::b\n- {function: f, action: allow, arg: {}}\n");
    let odd = "\
iii-permissions.yaml:4: warning: rule 3 (`f`): arg: unknown, not looked at (known: rule_id, function, action, args, match, not_match)
iii-permissions.yaml:3: warning: rule 2 (`a::b`): never decides, rule 1 (`a::*`) matches all of its calls before
iii-permissions.yaml: ok, 3 rules, 0 examples hold
";
    assert_eq!(
        home.run(&["policy", "check", "iii-permissions.yaml"], ""),
        (Some(0), odd.into(), String::new())
    );

    home.write(
        &RULES
            .replace("^/tmp/", "^/tmp/(")
            .replace("action: deny", "action: ask"),
    );
    let wrong = "\
iii-permissions.yaml:9: error: rule 3 (`only-tmp`): args.path.matches: a group is not closed
iii-permissions.yaml:17: error: rule 4 (`no-force`): action: must be `allow` or `deny`
iii-permissions.yaml: refused; a running program keeps its rules, at a start there are none and every call needs a person
";
    assert_eq!(
        home.run(&["policy", "check", "iii-permissions.yaml"], ""),
        (Some(2), wrong.into(), String::new())
    );

    home.write(&RULES.replace("/tmp/x", "/home/x"));
    let (code, out, _) = home.run(&["policy", "check", "iii-permissions.yaml"], "");
    assert_eq!(
        (code, out.lines().next()),
        (
            Some(2),
            Some(
                "iii-permissions.yaml:11: error: rule 3 (`only-tmp`): match[0]: the rule does not match this example: argument `path` does not match `^/tmp/`"
            )
        )
    );

    // As the running program does.
    home.write(&" ".repeat(4 * 1024 * 1024 + 1));
    let (code, out, _) = home.run(&["policy", "check", "iii-permissions.yaml"], "");
    assert_eq!(
        (code, out.lines().next()),
        (Some(2), Some("iii-permissions.yaml: error: larger than 4 MiB"))
    );

    let (code, out, err) = home.run(&["policy", "check", "none.yaml"], "");
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.starts_with("none.yaml: "), "{err}");
}

#[test]
fn explain_names_the_rule_and_every_mode() {
    let home = Home::new(RULES);
    for (args, stdin, expected) in [
        (
            &["shell::exec", r#"{"command":"git push origin --force"}"#][..],
            "",
            "\
call        shell::exec {\"command\":\"git push origin --force\"}
rules say   deny, by rule 4 (line 15) `no-force`: argument `command` matches \"^git push .*--force\"
for people  no, agents may call it
manual      denied by `no-force`; runs once approved always
auto        denied by `no-force`; runs once approved always; runs when on the always-allow list
full        runs
",
        ),
        (
            &["shell::fs::write", "-"],
            r#"{"path": "/etc/passwd"}"#,
            "\
call        shell::fs::write {\"path\":\"/etc/passwd\"}
passed over rule 3 (line 5) `only-tmp`: argument `path` does not match `^/tmp/`
rules say   nothing, so a person is asked
for people  no, agents may call it
manual      asks a person; runs once approved always
auto        asks a person; runs once approved always; runs when on the always-allow list
full        runs
",
        ),
        (
            &[
                "state::set",
                r#"{"scope":"budgets"}"#,
                "--file",
                "iii-permissions.yaml",
            ],
            "",
            "\
call        state::set {\"scope\":\"budgets\"}
rules say   deny, by rule 2 (line 4) `state::set`
for people  only, in every mode: on the deny floor as `state::set`
manual      denied by `state::set`
auto        denied by `state::set`
full        denied by `state::set`
",
        ),
        (
            // A text that stands for an object.
            &["shell::exec", r#""{\"command\":\"git push --force\"}""#],
            "",
            "\
call        shell::exec {\"command\":\"git push --force\"}
rules say   deny, by rule 4 (line 15) `no-force`: argument `command` matches \"^git push .*--force\"
for people  no, agents may call it
manual      denied by `no-force`; runs once approved always
auto        denied by `no-force`; runs once approved always; runs when on the always-allow list
full        runs
",
        ),
        (
            &["shell::exec", r#"["git push --force"]"#],
            "",
            "\
call        shell::exec [\"git push --force\"]
rules say   deny, by rule 4 (line 15) `no-force`
for people  no, agents may call it
manual      denied by `no-force`; runs once approved always
auto        denied by `no-force`; runs once approved always; runs when on the always-allow list
full        runs
",
        ),
        (
            &[
                "engine::queue::enqueue",
                r#"{"queue":"q","function_id":"shell::exec","data":{"command":"git push --force"}}"#,
            ],
            "",
            "\
call        engine::queue::enqueue {\"queue\":\"q\",\"function_id\":\"shell::exec\",\"data\":{\"command\":\"git push --force\"}}
rules say   nothing, so a person is asked
for people  no, agents may call it
calls       shell::exec {\"command\":\"git push --force\"}
rules say   deny, by rule 4 (line 15) `no-force`: argument `command` matches \"^git push .*--force\"
for people  no, agents may call it
manual      denied by `no-force`; runs once approved always
auto        denied by `no-force`; runs once approved always; runs when on the always-allow list
full        runs
",
        ),
        (
            &[
                "engine::register_trigger",
                r#"{"trigger_type":"cron","function_id":"turn::on_approval"}"#,
            ],
            "",
            "\
call        engine::register_trigger {\"trigger_type\":\"cron\",\"function_id\":\"turn::on_approval\"}
rules say   nothing, so a person is asked
for people  no, agents may call it
calls       turn::on_approval with what an event brings
rules say   nothing, so a person is asked
for people  no, and agents neither: only the program calls it
manual      denied by `human_only_function`
auto        denied by `human_only_function`
full        denied by `human_only_function`
",
        ),
        (
            &["approval::set_mode"],
            "",
            "\
call        approval::set_mode {}
rules say   nothing, so a person is asked
for people  only, in every mode
manual      denied by `human_only_function`
auto        denied by `human_only_function`
full        denied by `human_only_function`
",
        ),
    ] {
        let args = [&["policy", "explain"], args].concat();
        assert_eq!(
            home.run(&args, stdin),
            (Some(0), expected.into(), String::new()),
            "{args:?}"
        );
    }
}

#[test]
fn explain_refuses_what_it_cannot_read() {
    let home = Home::new("rules: ['!']");
    let cases = [
        (&["f", "{"][..], "the arguments are not JSON: "),
        (&["f"], "./iii-permissions.yaml: line 1: rule 1: no function id"),
    ];
    for (args, message) in cases {
        let (code, out, err) = home.run(&[&["policy", "explain"], args].concat(), "");
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.starts_with(message), "{err}");
    }
    // Without a file there are no rules, as in the running program.
    let (code, out, err) = home.run(&["policy", "explain", "f", "--file", "none.yaml"], "");
    assert_eq!(
        (code, err.as_str()),
        (Some(0), "none.yaml: no such file, so there are no rules\n")
    );
    assert!(
        out.contains("\nrules say   nothing, so a person is asked\n"),
        "{out}"
    );
}

/// The program while it serves; killed when the test is over.
struct Serving {
    child: Child,
    lines: Receiver<String>,
}

impl Serving {
    fn start(home: &Home) -> Self {
        let config = "engine: {mode: embedded, listen: \"127.0.0.1:0\"}\nhttp: {listen: \"\"}\n";
        fs::write(home.0.path().join("config.yaml"), config).unwrap();
        let mut child = home
            .command(&["serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let log = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line with all of these in it.
    #[track_caller]
    fn says(&self, what: &[&str]) {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(Duration::from_secs(20)) else {
                panic!("never said {what:?}:\n{}", seen.join("\n"));
            };
            if what.iter().all(|part| line.contains(part)) {
                return;
            }
            seen.push(line);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn the_log_tells_what_becomes_of_the_file() {
    let home = Home::new("rules:\n- a\n- '!'\n");
    let serving = Serving::start(&home);
    serving.says(&[
        "ERROR",
        "NO PERMISSION RULES ARE IN FORCE",
        "line 3: rule 2: no function id",
    ]);
    home.write(RULES);
    serving.says(&[
        "INFO",
        "permission rules reloaded",
        "iii-permissions.yaml",
        "rules=4",
    ]);
    home.write("rules: [a, '!']");
    serving.says(&[
        "ERROR",
        "permission rules not reloaded, the previous ones stay in force",
        "rules=4",
    ]);
    fs::remove_file(home.0.path().join("iii-permissions.yaml")).unwrap();
    serving.says(&[
        "WARN",
        "there is no file of permission rules, the previous ones stay in force",
        "rules=4",
    ]);
    home.write("rules:\n- {function: f, action: deny, args: {c: {matches: '(?!x)y'}}}\n");
    serving.says(&["INFO", "permission rules reloaded", "rules=1"]);
    serving.says(&["WARN", "line 2: rule 1 (`f`): args.c.matches: lookaround"]);
}

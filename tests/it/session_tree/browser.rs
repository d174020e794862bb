//! The exported document in a real browser: chromium, as `.ci/run` installs it. Without one this is left out, unless
//! `HARNESS_TEST_BROWSER=required`.

use std::path::Path;
use std::process::Command;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::export::html;
use crate::clients::process::Process;
use crate::session_rig::Rig;
use crate::support::installed::is_installed;

const BROWSER: &str = "/usr/bin/chromium";

/// What each hostile text tries: to leave a mark on the page.
const MARK: &str = "document.documentElement.setAttribute('data-mark','1');document.title='taken'";

/// Each in the place of every text of a session.
fn hostile() -> Vec<String> {
    let forms = [
        "<script>MARK</script>",
        "</pre></div><script>MARK</script>",
        "\"><script>MARK</script>",
        "'><img src=x onerror=\"MARK\">",
        "<svg/onload=\"MARK\">",
        "</title></style><script>MARK</script>",
        "<iframe srcdoc=\"<script>parent.MARK</script>\"></iframe>",
        "<a href=\"javascript:MARK\" autofocus onfocus=\"MARK\">link</a>",
        "<style>.entry{display:none}</style>",
        "<base href=\"http://127.0.0.1:9/\"><link rel=stylesheet href=x>",
        "<meta http-equiv=refresh content=\"0;url=data:text/html,<script>MARK</script>\">",
        "<!--",
        "<plaintext>",
        "<textarea>",
        "&lt;script&gt;MARK&lt;/script&gt;",
        "\u{0}<\u{0}script>MARK</script>",
        "+ADw-script+AD4-MARK+ADw-/script+AD4-",
    ];
    forms.iter().map(|form| form.replace("MARK", MARK)).collect()
}

fn rows(text: &str, n: usize) -> Vec<Value> {
    let message = |id: String, message: Value| json!({"type": "message", "id": id, "message": message});
    vec![
        message(
            format!("u{n}"),
            json!({"role": "user", "content": [{"type": "text", "text": text}]}),
        ),
        message(
            format!("a{n}"),
            json!({"role": "assistant", "model": text, "content": [
                {"type": "thinking", "text": text},
                {"type": "image", "mime": text, "data": text},
                {"type": "function_call", "id": text, "function_id": text, "arguments": {text: text}},
                {"type": text, "text": text},
            ]}),
        ),
        message(
            format!("r{n}"),
            json!({"role": "function_result", "function_id": text, "content": [{"type": "text", "text": text}]}),
        ),
        message(
            format!("c{n}"),
            json!({"role": "custom", "custom_type": text, "content": {text: text}}),
        ),
        message(format!("x{n}"), json!({"role": text, "content": text})),
        json!({"type": "custom_message", "id": format!("m{n}"), "custom_type": text, "content": 1, "display": text}),
        json!({"type": "branch_summary", "id": format!("b{n}"), "summary": text, "from_id": text}),
        json!({"type": "compaction", "id": format!("k{n}"), "summary": text, "tokens_before": text,
               "details": {"read_files": [text], "modified_files": [text]}}),
        json!({"type": text, "id": text}),
    ]
}

/// The page as the browser has it after all that it does by itself.
async fn opened(dir: &TempDir, name: &str, page: &str) -> String {
    let file = dir.path().join(format!("{name}.html"));
    std::fs::write(&file, page).unwrap();
    let mut command = Command::new(BROWSER);
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--virtual-time-budget=2000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            dir.path().join("profile").display()
        ))
        .arg(format!("file://{}", file.display()));
    Process::start(command, dir, name).output().await
}

/// The page with a script of ours, which tells what a person sees.
fn watched(page: &str) -> String {
    let (before, after) = page
        .split_once("<meta http-equiv=\"Content-Security-Policy\"")
        .unwrap();
    let (_, after) = after.split_once(">\n").unwrap();
    let page = format!("{before}{after}");
    let (before, after) = page.rsplit_once("</body>").unwrap();
    let look = "document.documentElement.dataset.seen = JSON.stringify(\
                Array.from(document.querySelectorAll('.entry'), entry => entry.innerText))";
    format!("{before}<script>{look}</script></body>{after}")
}

#[tokio::test]
async fn field_lesson_s7_no_text_of_a_session_does_anything_in_a_browser() {
    if !is_installed(
        Path::new(BROWSER),
        "HARNESS_TEST_BROWSER",
        "apt-get install chromium",
    ) {
        return;
    }
    let rig = Rig::start().await;
    let dir = TempDir::new().unwrap();
    let session = format!("s<script>{MARK}</script>");
    let mut parent = Value::Null;
    let texts = hostile();
    for (n, text) in texts.iter().enumerate() {
        for (m, mut row) in rows(text, n).into_iter().enumerate() {
            row["parent_id"] = parent;
            row["timestamp"] = json!(n * 100 + m);
            parent = row["id"].clone();
            rig.write_row(&session, row).await;
        }
    }
    let page = html(&rig, json!({ "session_id": session })).await;

    // A browser that runs nothing would prove nothing.
    let control = opened(&dir, "control", &format!("<p>x<script>{MARK}</script>")).await;
    assert!(
        control.contains("<title>taken</title>") && control.contains("data-mark"),
        "{control}"
    );

    let untouched = |dom: &str, scripts: usize| {
        assert_eq!(dom.matches("data-mark=\"").count(), 0);
        let title = dom
            .split_once("<title>")
            .unwrap()
            .1
            .split_once("</title>")
            .unwrap()
            .0;
        assert_eq!(
            title.replace("&lt;", "<").replace("&gt;", ">"),
            format!("session {session}")
        );
        for (element, count) in [
            ("<script", scripts),
            ("<img", 0),
            ("<svg", 0),
            ("<iframe", 0),
            ("<a ", 0),
            ("<link", 0),
            ("<base", 0),
            ("<style", 1),
            ("<textarea", 0),
            ("<plaintext", 0),
        ] {
            assert_eq!(dom.matches(element).count(), count, "{element} in {dom}");
        }
    };
    untouched(&opened(&dir, "page", &page).await, 0);

    // The escaping alone is enough, and everything can be read.
    let dom = opened(&dir, "watched", &watched(&page)).await;
    untouched(&dom, 1);
    let seen = dom
        .split_once("data-seen=\"")
        .unwrap()
        .1
        .split_once('"')
        .unwrap()
        .0;
    let seen = seen
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    let seen: Vec<String> = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen.len(), 9 * texts.len());
    for (n, text) in texts.iter().enumerate() {
        let shown = text.replace('\u{0}', "\u{2400}");
        for m in [0, 1, 2, 4, 5, 6, 7, 8] {
            assert!(
                seen[n * 9 + m].contains(&shown),
                "{shown} is not in {}",
                seen[n * 9 + m]
            );
        }
    }
}

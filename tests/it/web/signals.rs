//! What a fetch leaves in the log, and what it takes from its surroundings: nothing.

use std::process::Command;

use pretty_assertions::assert_eq;
use serde_json::json;

use super::Rig;
use super::site::{Site, ok, to};
use crate::support::log;

/// Tells the process that is started to test the environment what to fetch.
const CHILD: &str = "HARNESS_TEST_FETCH";

/// Contract 05 §4, weakness 12, field lesson X3: one line for each call, and one for each contact with this machine; never a
/// path, a query, a header or a body.
#[tokio::test]
async fn one_line_for_each_call_and_nothing_secret_in_it() {
    log::listen();
    let site = Site::start(|asked| match asked.rest().split_once('?') {
        Some(("moved", _)) => to("302 Found", "/geheim"),
        _ => ok("geheim"),
    })
    .await;
    let t = Rig::start().await;
    let with = |path: &str| format!("http://geheim:geheim@{}{path}", site.address);
    let headers = json!({ "x-geheim": "geheim" });
    let request = json!({ "url": with("/moved?key=geheim"), "method": "POST", "body": "geheim", "headers": headers, "max_bytes": 3 });
    assert_eq!(t.fetch(request).await["bytes_truncated"], true);
    t.reconfigure(|config| config.web.allow_loopback = false);
    assert_eq!(t.get(&with("/geheim")).await["error"], "blocked_host");

    let host = format!("host=\"{}\"", site.address);
    let lines: Vec<String> = log::lines(&[&host])
        .iter()
        .map(|line| {
            let (_, line) = line.split_once(&host).unwrap();
            line.trim().split(" ms=").next().unwrap().to_owned()
        })
        .collect();
    let contact = format!("peer={}", site.address);
    let expected = [
        contact.as_str(),
        contact.as_str(),
        "method=\"POST\" outcome=\"2xx\" status=200 truncated=true redirects=1",
        "method=\"GET\" outcome=\"blocked_host\" truncated=false redirects=0",
    ];
    assert_eq!(lines, expected);
    assert_eq!(log::count(&["geheim"]), 0);
    t.stop().await;
}

/// Field lesson F5. A proxy would resolve names itself, and so reach what the guard keeps closed.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "that variable is this test's own")]
async fn f5_the_environment_names_no_proxy() {
    if let Ok(url) = std::env::var(CHILD) {
        let t = Rig::start().await;
        assert_eq!(t.get(&url).await["body"], "hello");
        t.blocked("http://169.254.169.254/latest/").await;
        t.blocked("https://169.254.169.254/latest/").await;
        return t.stop().await;
    }
    let proxy = Site::start(|_| ok("from the proxy")).await;
    let site = Site::start(|_| ok("hello")).await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    let this = std::thread::current().name().unwrap().to_owned();
    child.args(["--exact", &this]).env(CHILD, site.url("/"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        for name in [name.to_owned(), name.to_lowercase()] {
            child.env(&name, proxy.url("/"));
        }
    }
    let child = tokio::task::spawn_blocking(move || child.output());
    let output = child.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
    assert_eq!(
        (proxy.lines(), site.lines()),
        (Vec::new(), vec!["GET /".to_owned()])
    );
}

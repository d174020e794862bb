//! `format: "markdown"`: pages for reading.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Rig;
use super::site::{Site, answer};
use crate::support::three_ways;

three_ways! {
    html_becomes_markdown_and_everything_else_stays,
}

async fn html_becomes_markdown_and_everything_else_stays() {
    let page = "<html><head><title>T</title></head><body><h1>Grüße</h1><script>x()</script><p>One <b>two</b>.</p></body></html>";
    let site = Site::start(move |asked| match asked.path.as_str() {
        "/html" => answer(
            "200 OK",
            &[("content-type", "Text/HTML; charset=utf-8")],
            page.as_bytes(),
        ),
        "/xhtml" => answer(
            "404 Not Found",
            &[("content-type", "application/xhtml+xml")],
            page.as_bytes(),
        ),
        "/deep" => answer(
            "200 OK",
            &[("content-type", "text/html")],
            "<i>".repeat(1_000).as_bytes(),
        ),
        "/long" => {
            let page = format!("<p>{}</p>", "word ".repeat(300_000));
            answer("200 OK", &[("content-type", "text/html")], page.as_bytes())
        }
        _ => answer("200 OK", &[("content-type", "text/plain")], b"<h1>plain</h1>"),
    })
    .await;
    let t = Rig::start().await;
    let of = async |path: &str, request: Value| {
        let mut whole = json!({ "url": site.url(path), "format": "markdown" });
        whole
            .as_object_mut()
            .unwrap()
            .extend(request.as_object().unwrap().clone());
        let mut reply = t.fetch(whole).await;
        let members = [
            "body",
            "bytes_truncated",
            "content_type",
            "transformed",
            "response_format",
        ];
        json!(members.map(|name| reply[name].take()))
    };
    let markdown = "# Grüße\n\nOne **two**.";
    assert_eq!(
        of("/html", json!({})).await,
        json!([markdown, false, "text/html", true, "text"])
    );
    assert_eq!(
        of("/xhtml", json!({ "response_format": "base64" })).await,
        json!([markdown, false, "application/xhtml+xml", true, "text"])
    );
    assert_eq!(
        of("/html", json!({ "max_bytes": 5 })).await,
        json!(["# Gr", true, "text/html", true, "text"])
    );
    assert_eq!(
        of("/plain", json!({})).await,
        json!(["<h1>plain</h1>", false, "text/plain", false, "text"])
    );
    assert_eq!(
        of("/deep", json!({})).await,
        json!(["<i>".repeat(1_000), false, "text/html", false, "text"])
    );
    let long = of("/long", json!({})).await;
    assert_eq!(long[0].as_str().unwrap().len(), 262_144);
    assert_eq!((&long[1], &long[3]), (&json!(true), &json!(true)));

    let asked = site.asked();
    assert_eq!(asked[0].header("accept-language"), Some("en-US,en;q=0.9"));
    // Anything else under that name is nothing we know (contract 05 §6).
    let reply = t
        .fetch(json!({ "url": site.url("/html"), "format": "html" }))
        .await;
    assert_eq!(reply["body"], page);
    assert_eq!(
        (reply.get("content_type"), reply.get("transformed")),
        (None, None)
    );
    t.stop().await;
}

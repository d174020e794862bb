//! Acceptance cases of requests and answers, one way and the other.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Rig;
use super::site::{Act, Asked, Site, answer, ok};
use crate::support::three_ways;

three_ways! {
    c05_case_01_and_02_a_wrong_payload_is_answered,
    c05_case_03_a_url_that_cannot_be_fetched,
    c05_case_09_loopback_by_default_and_closed,
    c05_case_10_a_get,
    c05_case_11_and_12_json_is_sent_and_read,
    c05_case_13_no_body_on_get,
    c05_case_14_and_15_the_cap_is_exact,
    c05_case_16_the_ceiling_of_bytes,
    c05_case_23_and_24_and_25_formats,
    c05_case_26_and_27_status_and_headers,
    c05_case_28_and_29_headers_of_the_caller,
}

/// Answers with what it was asked, as JSON.
fn echo(asked: &Asked) -> Vec<Act> {
    let seen = json!({ "method": asked.method, "type": asked.header("content-type"), "body": asked.body });
    ok(&seen.to_string())
}

async fn c05_case_01_and_02_a_wrong_payload_is_answered() {
    let t = Rig::start().await;
    let url = "https://example.com/";
    for (payload, expected) in [
        (json!({}), "url: is required"),
        (json!(null), "<root>: must be an object"),
        (json!("x"), "<root>: must be an object"),
        (json!([]), "<root>: must be an object"),
        (json!({ "url": "" }), "url: must be a text that is not empty"),
        (json!({ "url": url, "body": 12345 }), "body: must be a text"),
        (
            json!({ "url": url, "method": "BREW", "headers": { "a": 1 } }),
            "method: must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS; headers.a: must be a text",
        ),
        (
            json!({ "url": url, "timeout_ms": 0 }),
            "timeout_ms: must be an integer above 0",
        ),
        (
            json!({ "url": url, "timeout_ms": -1 }),
            "timeout_ms: must be an integer above 0",
        ),
        (
            json!({ "url": url, "timeout_ms": 1.5 }),
            "timeout_ms: must be an integer above 0",
        ),
        (
            json!({ "url": url, "max_bytes": 0 }),
            "max_bytes: must be an integer above 0",
        ),
    ] {
        let expected = ("invalid_payload".to_owned(), expected.to_owned());
        assert_eq!(t.failure(payload).await, expected);
    }
    t.stop().await;
}

async fn c05_case_03_a_url_that_cannot_be_fetched() {
    let t = Rig::start().await;
    for url in [
        "file:///etc/passwd",
        "ftp://h/",
        "javascript:alert(1)",
        "data:text/plain,hi",
        "not a url",
        "http://",
        "http://127.0.0.1:0/",
    ] {
        let (error, message) = t.failure(json!({ "url": url })).await;
        assert_eq!(error, "invalid_url", "{url}: {message}");
    }
    t.stop().await;
}

async fn c05_case_09_loopback_by_default_and_closed() {
    let t = Rig::start().await;
    let (error, message) = t.failure(json!({ "url": "http://127.0.0.1:1/" })).await;
    assert_eq!(error, "transport_error", "{message}");
    t.reconfigure(|config| config.web.allow_loopback = false);
    for url in [
        "http://127.0.0.1:1/",
        "http://localhost/",
        "http://[::1]/",
        "http://[::ffff:7f00:1]/",
    ] {
        let message = t.blocked(url).await;
        assert!(
            message.contains("loopback") && message.contains("web.allow_loopback=true"),
            "{message}"
        );
    }
    t.stop().await;
}

async fn c05_case_10_a_get() {
    let site = Site::start(|_| answer("200 Fine", &[("X-Custom", "yes")], b"hello")).await;
    let t = Rig::start().await;
    let url = site.url("/ok?a=b#c");
    let expected = json!({
        "ok": true, "status": 200, "status_text": "Fine",
        "headers": { "content-length": "5", "x-custom": "yes" },
        "body": "hello", "response_format": "text", "bytes_truncated": false, "final_url": url,
    });
    assert_eq!(t.get(&url).await, expected);
    let asked = site.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/ok?a=b"));
    assert_eq!(asked.header("host"), Some(site.address.to_string().as_str()));
    assert_eq!(asked.header("user-agent"), Some("iii-harness/0.1 (+web::fetch)"));
    assert_eq!(asked.header("accept-encoding"), None);
    t.stop().await;
}

async fn c05_case_11_and_12_json_is_sent_and_read() {
    let site = Site::start(echo).await;
    let t = Rig::start().await;
    let typed = json!({ "Content-Type": "application/vnd.x+json" });
    for (request, expected) in [
        (
            json!({ "method": "post", "json": { "a": 1 } }),
            ("application/json", "{\"a\":1}"),
        ),
        (
            json!({ "method": "PUT", "json": null }),
            ("application/json", "null"),
        ),
        (
            json!({ "method": "POST", "json": 1, "body": "x" }),
            ("application/json", "1"),
        ),
        (
            json!({ "method": "PATCH", "json": [], "headers": typed }),
            ("application/vnd.x+json", "[]"),
        ),
    ] {
        let mut whole = request.clone();
        whole["url"] = json!(site.url("/"));
        whole["response_format"] = json!("json");
        let reply = t.fetch(whole).await;
        let method = request["method"].as_str().unwrap().to_uppercase();
        let seen = json!({ "method": method, "type": expected.0, "body": expected.1 });
        assert_eq!(reply["json"], seen);
        assert_eq!(reply["body"], seen.to_string());
    }
    // With a length, and all at once (contract 05 weakness 10).
    for asked in site.asked() {
        assert_eq!(
            asked.header("content-length"),
            Some(asked.body.len().to_string().as_str())
        );
        assert_eq!(asked.header("transfer-encoding"), None);
    }
    t.stop().await;
}

async fn c05_case_13_no_body_on_get() {
    let site = Site::start(|asked| {
        if asked.method == "HEAD" {
            answer("200 OK", &[], b"")
        } else {
            echo(asked)
        }
    })
    .await;
    let t = Rig::start().await;
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let request = json!({ "url": site.url("/"), "method": method, "body": "x", "json": "y" });
        assert_eq!(t.fetch(request).await["status"], 200);
    }
    let seen: Vec<_> = site.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!(seen, ["", "", "\"y\"", "\"y\""]);
    for asked in site.asked() {
        assert_eq!(asked.header("content-type"), Some("application/json"));
    }
    t.stop().await;
}

async fn c05_case_14_and_15_the_cap_is_exact() {
    let site = Site::start(|asked| ok(&"x".repeat(asked.rest().parse().unwrap()))).await;
    let t = Rig::start().await;
    for (length, truncated) in [(10_000, true), (101, true), (100, false), (99, false)] {
        let request = json!({ "url": site.url(&format!("/{length}")), "max_bytes": 100 });
        let reply = t.fetch(request).await;
        assert_eq!(reply["ok"], true);
        assert_eq!(reply["bytes_truncated"], truncated, "{length}");
        assert_eq!(reply["body"], "x".repeat(length.min(100)));
    }
    t.stop().await;
}

async fn c05_case_16_the_ceiling_of_bytes() {
    let site = Site::start(|_| ok(&"x".repeat(6 << 20))).await;
    let t = Rig::start().await;
    let reply = t
        .fetch(json!({ "url": site.url("/"), "max_bytes": 999_999_999 }))
        .await;
    assert_eq!(reply["body"].as_str().unwrap().len(), 5_242_880);
    assert_eq!(reply["bytes_truncated"], true);
    t.stop().await;
}

async fn c05_case_23_and_24_and_25_formats() {
    let site = Site::start(|asked| match asked.path.as_str() {
        "/bytes" => answer("200 OK", &[("content-type", "application/json")], &[0xff, 0]),
        "/nope" => ok("nope"),
        "/null" => ok("null"),
        _ => ok("{\"a\": 1}"),
    })
    .await;
    let t = Rig::start().await;
    let of = async |path: &str, format: &str, max_bytes: u64| {
        let request = json!({ "url": site.url(path), "response_format": format, "max_bytes": max_bytes });
        let mut reply = t.fetch(request).await;
        let members = reply.as_object_mut().unwrap();
        for name in ["ok", "status", "status_text", "headers", "final_url"] {
            assert!(members.remove(name).is_some());
        }
        reply
    };
    let shape = |format: &str, body: &str, truncated: bool| json!({ "body": body, "response_format": format, "bytes_truncated": truncated });
    let with = |mut value: Value, name: &str, member: Value| {
        value[name] = member;
        value
    };
    assert_eq!(of("/bytes", "base64", 9).await, shape("base64", "/wA=", false));
    assert_eq!(of("/bytes", "base64", 1).await, shape("base64", "/w==", true));
    assert_eq!(of("/bytes", "text", 9).await, shape("text", "\u{fffd}\0", false));
    assert_eq!(
        of("/null", "json", 9).await,
        with(shape("json", "null", false), "json", Value::Null)
    );
    assert_eq!(
        of("/", "json", 9).await,
        with(shape("json", "{\"a\": 1}", false), "json", json!({ "a": 1 }))
    );
    assert_eq!(of("/", "json", 7).await, shape("json", "{\"a\": 1", true));
    let error = json!("expected ident at line 1 column 2");
    assert_eq!(
        of("/nope", "json", 9).await,
        with(shape("json", "nope", false), "parse_error", error)
    );
    t.stop().await;
}

async fn c05_case_26_and_27_status_and_headers() {
    let site = Site::start(|asked| {
        let status = format!("{} Whatever", asked.rest());
        let cookies = [("Set-Cookie", "a=1"), ("x", "y"), ("set-cookie", "b=2; Path=/")];
        answer(&status, if asked.path == "/304" { &[] } else { &cookies }, b"")
    })
    .await;
    let t = Rig::start().await;
    for status in [200, 201, 299, 304, 400, 404, 418, 500, 503, 599] {
        let reply = t.get(&site.url(&format!("/{status}"))).await;
        assert_eq!((&reply["ok"], &reply["status"]), (&json!(true), &json!(status)));
        assert_eq!(reply["status_text"], "Whatever");
        if status != 304 {
            assert_eq!(reply["headers"]["set-cookie"], "a=1, b=2; Path=/");
        }
    }
    t.stop().await;
}

async fn c05_case_28_and_29_headers_of_the_caller() {
    let site = Site::start(|_| ok("")).await;
    let t = Rig::start().await;
    let headers = json!({
        "Host": "evil", "User-Agent": "me", "Content-Length": "3", "Transfer-Encoding": "chunked", "Connection": "upgrade",
        "Upgrade": "websocket", "TE": "trailers", "X-Mine": "a, b",
    });
    let request = json!({ "url": site.url("/"), "method": "POST", "body": "hello", "headers": headers });
    assert_eq!(t.fetch(request).await["status"], 200);
    let asked = site.only();
    let mut seen: Vec<_> = asked
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    seen.sort_unstable();
    let host = site.address.to_string();
    let expected = [
        ("accept", "*/*"),
        ("content-length", "5"),
        ("host", host.as_str()),
        ("user-agent", "me"),
        ("x-mine", "a, b"),
    ];
    assert_eq!((seen.as_slice(), asked.body.as_str()), (&expected[..], "hello"));
    for (name, value, problem) in [
        ("a b", "x", "headers.a b: is no valid header name"),
        ("a:", "x", "headers.a:: is no valid header name"),
        ("", "x", "headers.: is no valid header name"),
        ("a\r\nb", "x", "headers.a\\r\\nb: is no valid header name"),
        (
            "a",
            "x\r\nEvil: 1",
            "headers.a: has a character that no header may have",
        ),
        ("a", "x\0", "headers.a: has a character that no header may have"),
    ] {
        let request = json!({ "url": site.url("/"), "headers": { name: value } });
        let expected = ("invalid_payload".to_owned(), problem.to_owned());
        assert_eq!(t.failure(request).await, expected);
    }
    assert_eq!(site.asked().len(), 1);
    t.stop().await;
}

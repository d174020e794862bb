//! Odd things that a server may say between the lines: before, around and after a body.

use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::json;

use super::Rig;
use super::site::{Act, Site, answer, ok, to};

fn say(text: &str) -> Act {
    Act::Say(text.into())
}

/// Notices before the answer are not the answer, however many there are.
#[tokio::test]
async fn provisional_answers_are_passed_over() {
    let site = Site::start(|asked| match asked.path.as_str() {
        "/hints" => {
            let notice = "HTTP/1.1 103 Early Hints\r\nlocation: http://10.0.0.1/\r\nx: y\r\n\r\n";
            [
                vec![say("HTTP/1.1 100 Continue\r\n\r\n"), say(notice)],
                ok("hello"),
            ]
            .concat()
        }
        "/switch" => vec![say(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nPRI * HTTP/2.0",
        )],
        _ => vec![Act::Repeat(
            b"HTTP/1.1 102 Processing\r\n\r\n".repeat(100),
            Duration::ZERO,
        )],
    })
    .await;
    let t = Rig::start().await;
    let reply = t.get(&site.url("/hints")).await;
    assert_eq!(
        (&reply["status"], &reply["body"], &reply["headers"]),
        (&json!(200), &json!("hello"), &json!({ "content-length": "5" }))
    );
    // Nobody asked for another protocol: what comes in it is no body.
    let reply = t.get(&site.url("/switch")).await;
    assert_eq!((&reply["status"], &reply["body"]), (&json!(101), &json!("")));
    let request = json!({ "url": site.url("/endless"), "timeout_ms": 100 });
    let expected = (
        "timeout".to_owned(),
        "no complete answer within 100 ms".to_owned(),
    );
    assert_eq!(t.failure(request).await, expected);
    // It has hung up: the server would not be free for another question else.
    site.is_left_alone().await;
    t.stop().await;
}

#[tokio::test]
async fn chunks_have_no_endless_frills() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-late\r\n\r\n";
    let site = Site::start(|asked| {
        let line = format!("x-late: {}\r\n", "v".repeat(1000));
        match asked.path.as_str() {
            "/trailer" => vec![
                say(HEAD),
                say("5\r\nhello\r\n0\r\nx-late: evil\r\ncontent-type: evil\r\n\r\n"),
            ],
            "/extension" => vec![say(HEAD), say("5;a=b\r\nhello\r\n0\r\n\r\n")],
            "/trailers" => vec![
                say(HEAD),
                say("5\r\nhello\r\n0\r\n"),
                Act::Repeat(line.into(), Duration::ZERO),
            ],
            "/extensions" => vec![say(HEAD), say("5;"), Act::Repeat(line.into(), Duration::ZERO)],
            _ => vec![say(HEAD), say("fffffffffffffffff\r\nhello")],
        }
    })
    .await;
    let t = Rig::start().await;
    for path in ["/trailer", "/extension"] {
        let reply = t.get(&site.url(path)).await;
        let headers = json!({ "transfer-encoding": "chunked", "trailer": "x-late" });
        assert_eq!(
            (&reply["body"], &reply["headers"]),
            (&json!("hello"), &headers),
            "{path}"
        );
    }
    for path in ["/trailers", "/extensions", "/size"] {
        let (error, message) = t.failure(json!({ "url": site.url(path) })).await;
        assert_eq!(error, "transport_error", "{path}: {message}");
    }
    t.stop().await;
}

/// There is no jar: what one answer sets, no later request shows, neither of the same call nor of the next.
#[tokio::test]
async fn cookies_are_not_kept() {
    let site = Site::start(|asked| {
        let cookie = ("set-cookie", "id=1; Path=/");
        match asked.path.as_str() {
            "/" => answer("302 Found", &[cookie, ("location", "/next")], b""),
            _ => answer("200 OK", &[cookie], b"hello"),
        }
    })
    .await;
    let t = Rig::start().await;
    for _ in 0..2 {
        assert_eq!(t.get(&site.url("/")).await["body"], "hello");
    }
    let asked = site.asked();
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|asked| asked.all("cookie").is_empty()));
    t.stop().await;
}

/// Where a program goes next is nobody's business: no page is named to the next one.
#[tokio::test]
async fn a_redirect_tells_nobody_where_it_came_from() {
    let other = Site::start(|_| ok("hello")).await;
    let site = Site::start({
        let url = other.url("/");
        move |_| to("302 Found", &url)
    })
    .await;
    let t = Rig::start().await;
    assert_eq!(t.get(&site.url("/secret?key=1")).await["body"], "hello");
    assert_eq!(other.only().all("referer"), Vec::<&str>::new());
    t.stop().await;
}

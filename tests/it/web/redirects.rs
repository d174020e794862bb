//! Redirects: followed by hand, each hop checked like the first.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Rig;
use super::site::{Act, Asked, Site, answer, ok, to};
use crate::support::three_ways;

three_ways! {
    c05_case_18_and_20_where_a_redirect_leads,
    c05_case_19_a_redirect_to_what_is_blocked,
    c05_case_21_a_loop_ends,
    c05_case_22_secrets_stay_with_their_host,
    w3_a_form_is_not_sent_twice,
    w14_credentials_do_not_show_and_do_not_travel,
}

/// `/to/302/<location>` redirects there.
fn redirecting(asked: &Asked) -> Vec<Act> {
    match asked
        .path
        .strip_prefix("/to/")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((status, location)) => to(&format!("{status} Moved"), location),
        None if asked.path == "/no-location" => answer("302 Found", &[], b"here"),
        None => ok("hello"),
    }
}

async fn c05_case_18_and_20_where_a_redirect_leads() {
    let site = Site::start(redirecting).await;
    let t = Rig::start().await;
    let first = site.url("/a/../to/302//to/307//ok");
    let reply = t.get(&first).await;
    assert_eq!((&reply["body"], &reply["status"]), (&json!("hello"), &json!(200)));
    assert_eq!(reply["redirect_chain"], json!([first, site.url("/to/307//ok")]));
    assert_eq!(reply["final_url"], site.url("/ok"));

    for (location, error) in [
        ("file:///etc/passwd", "invalid_url"),
        ("javascript:alert(1)", "invalid_url"),
        ("http://127.0.0.1:0/", "invalid_url"),
        ("http://127.0.0.1:99999/", "transport_error"),
        ("http://[::1", "transport_error"),
    ] {
        let (found, message) = t
            .failure(json!({ "url": site.url(&format!("/to/302/{location}")) }))
            .await;
        assert_eq!(found, error, "{location}: {message}");
    }
    let reply = t.get(&site.url("/no-location")).await;
    assert_eq!(
        (&reply["ok"], &reply["status"], &reply["body"]),
        (&json!(true), &json!(302), &json!("here"))
    );
    assert_eq!(reply.get("redirect_chain"), None);
    let url = site.url("/to/302/file:///etc/passwd");
    let reply = t.fetch(json!({ "url": url, "follow_redirects": false })).await;
    assert_eq!((&reply["ok"], &reply["status"]), (&json!(true), &json!(302)));
    assert_eq!(reply["headers"]["location"], "file:///etc/passwd");
    t.stop().await;
}

async fn c05_case_19_a_redirect_to_what_is_blocked() {
    let site = Site::start(redirecting).await;
    let t = Rig::start().await;
    for (location, address) in [
        ("http://169.254.169.254/", "169.254.169.254"),
        ("//169.254.169.254/", "169.254.169.254"),
        ("http://2852039166/", "169.254.169.254"),
        ("http://[::ffff:a9fe:a9fe]/", "169.254.169.254"),
        ("http://10.0.0.1/", "10.0.0.1"),
        ("http://user@192.168.0.1:8080/", "192.168.0.1"),
    ] {
        let message = t.blocked(&site.url(&format!("/to/302/{location}"))).await;
        assert!(
            message.starts_with(address) || message.contains(&format!(":{address}")),
            "{location}: {message}"
        );
    }
    t.stop().await;
}

async fn c05_case_21_a_loop_ends() {
    let site = Site::start(|_| to("302 Found", "/")).await;
    let t = Rig::start().await;
    let url = json!({ "url": site.url("/") });
    let failure = |most: usize| {
        let message = format!("more than {most} redirects were not followed (web.max_redirects)");
        ("too_many_redirects".to_owned(), message)
    };
    assert_eq!(t.failure(url.clone()).await, failure(5));
    assert_eq!(site.asked().len(), 6);
    t.reconfigure(|config| config.web.max_redirects = 0);
    assert_eq!(t.failure(url).await, failure(0));
    assert_eq!(site.asked().len(), 7);
    t.stop().await;
}

async fn c05_case_22_secrets_stay_with_their_host() {
    let other = Site::start(redirecting).await;
    let site = Site::start(redirecting).await;
    let t = Rig::start().await;
    let headers = json!({
        "AUTHORIZATION": "Bearer x", "Cookie": "a=b", "Proxy-Authorization": "p", "X-Api-Key": "k", "x-auth-token": "t",
        "X-Client-Secret": "s", "X-Session-Id": "i", "apikey": "k", "Accept": "text/x", "X-Custom": "c",
    });
    let get = async |path: &str| {
        let reply = t
            .fetch(json!({ "url": site.url(path), "headers": headers }))
            .await;
        assert_eq!(reply["body"], "hello", "{reply}");
    };
    let names = |asked: &Asked| {
        let mut names: Vec<_> = asked
            .headers
            .iter()
            .map(|(name, _)| name.to_lowercase())
            .collect();
        names.sort();
        names
    };
    get("/to/302//ok").await;
    let seen = site.asked();
    assert_eq!(names(&seen[0]), names(&seen[1]));
    assert_eq!(seen[1].header("authorization"), Some("Bearer x"));

    let stripped = ["accept", "host", "user-agent", "x-custom"];
    // Another port, and from there back to the first host: what is gone stays gone.
    get(&format!(
        "/to/302/{}",
        other.url(&format!("/to/302/{}", site.url("/ok")))
    ))
    .await;
    assert_eq!(names(&other.only()), stripped);
    let back = site.asked();
    assert_eq!(names(back.last().unwrap()), stripped);
    // Another name of the same machine.
    get(&format!("/to/302/http://localhost:{}/ok", site.port())).await;
    assert_eq!(names(site.asked().last().unwrap()), stripped);
    t.stop().await;
}

async fn w3_a_form_is_not_sent_twice() {
    let other = Site::start(redirecting).await;
    let site = Site::start(redirecting).await;
    let t = Rig::start().await;
    for (status, method, became, body) in [
        (301, "POST", "GET", ""),
        (302, "POST", "GET", ""),
        (303, "POST", "GET", ""),
        (303, "PUT", "GET", ""),
        (302, "PUT", "PUT", "form"),
        (307, "POST", "POST", "form"),
        (308, "PATCH", "PATCH", "form"),
    ] {
        let url = site.url(&format!("/to/{status}/{}", other.url("/ok")));
        let request =
            json!({ "url": url, "method": method, "body": "form", "headers": { "content-type": "x/y" } });
        assert_eq!(t.fetch(request).await["status"], 200, "{status} {method}");
        let asked = other.asked().last().unwrap().clone();
        assert_eq!(
            (asked.method.as_str(), asked.body.as_str()),
            (became, body),
            "{status} {method}"
        );
        assert_eq!(
            asked.header("content-type").is_some(),
            !body.is_empty(),
            "{status} {method}"
        );
    }
    t.stop().await;
}

async fn w14_credentials_do_not_show_and_do_not_travel() {
    let other = Site::start(redirecting).await;
    let site = Site::start(redirecting).await;
    let t = Rig::start().await;
    let with = |credentials: &str, path: &str| format!("http://{credentials}@{}{path}", site.address);
    let given = "Basic dTpnZWhlaW0="; // u:geheim

    let reply = t.get(&with("u:geheim", "/to/302//ok")).await;
    assert_eq!(reply["redirect_chain"], json!([with("u:***", "/to/302//ok")]));
    assert_eq!(reply["final_url"], site.url("/ok"));
    let seen = site.asked();
    let of = |asked: &Asked| asked.header("authorization").map(str::to_owned);
    assert_eq!(
        (of(&seen[0]).as_deref(), of(&seen[1]).as_deref()),
        (Some(given), Some(given))
    );

    // The caller's own header wins; another host sees neither.
    let url = with("u:geheim", &format!("/to/302/{}", other.url("/ok")));
    let headers = json!({ "authorization": "mine" });
    t.fetch(json!({ "url": url, "headers": headers })).await;
    assert_eq!(of(site.asked().last().unwrap()).as_deref(), Some("mine"));
    assert_eq!(of(&other.only()), None);

    // What a server writes into a location is not the caller's, and does not show either.
    let reply = t
        .get(&site.url(&format!("/to/302/{}", with("x:fremd", "/to/302//ok"))))
        .await;
    let chain = reply["redirect_chain"].as_array().unwrap().clone();
    assert_eq!(chain.last(), Some(&Value::from(with("x:***", "/to/302//ok"))));
    assert_eq!(of(site.asked().last().unwrap()), None);
    t.stop().await;
}

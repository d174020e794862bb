//! What of this machine an agent must not reach although loopback is open (contract 05 weakness 12, field lesson F4).

use std::sync::Arc;

use harness::app::{App, Parts};
use harness::bus::{CallContext, CallOptions};
use harness::config::{Config, EngineChoice, MapEnv};
use harness::workers::web::Net;
use pretty_assertions::assert_eq;
use serde_json::json;

use super::dns::{Dns, address};
use super::site::{Site, ok, to};
use super::{Rig, with_an_outside};
use crate::support::engine::{served, within};
use crate::support::three_ways;

three_ways! {
    w12_our_own_ports_are_closed,
    w12_no_redirect_from_outside_comes_back_in,
}

async fn w12_our_own_ports_are_closed() {
    let control = Site::start(|_| ok("control")).await;
    let site = Site::start({
        let url = control.url("/");
        move |asked| {
            if asked.path == "/" {
                ok("hello")
            } else {
                to("302 Found", &url)
            }
        }
    })
    .await;
    let t = Rig::start().await;
    assert_eq!(t.get(&control.url("/")).await["body"], "control");
    t.bus().note_listener(control.address);
    let port = control.port();
    let why = format!("; port {port} is this program's own");
    for (url, address) in [
        (
            format!("http://127.0.0.1:{port}/"),
            "127.0.0.1 is a loopback address",
        ),
        (
            format!("http://127.0.0.2:{port}/"),
            "127.0.0.2 is a loopback address",
        ),
        (
            format!("http://2130706433:{port}/"),
            "127.0.0.1 is a loopback address",
        ),
        (
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            "::ffff:127.0.0.1 is a loopback address",
        ),
        (site.url("/to-control"), "127.0.0.1 is a loopback address"),
    ] {
        assert_eq!(t.blocked(&url).await, format!("{address}{why}"));
    }
    let message = t.blocked(&format!("http://localhost:{port}/")).await;
    assert!(
        message.starts_with("localhost resolves to ") && message.ends_with(&why),
        "{message}"
    );
    assert_eq!(control.lines(), ["GET /"]);
    assert_eq!(t.get(&site.url("/")).await["body"], "hello");
    t.stop().await;
}

/// A listener on a public address of this machine is ours too.
#[tokio::test]
async fn w12_our_own_ports_are_closed_from_outside_too() {
    let control = Site::at("127.0.0.2:0", |_| ok("control")).await;
    let t = Rig::on(Net {
        range_of: with_an_outside,
        ..Net::default()
    })
    .await;
    assert_eq!(t.get(&control.url("/")).await["body"], "control");
    t.bus().note_listener(control.address);
    let expected = format!(
        "127.0.0.2 is an address of this machine; port {} is this program's own",
        control.port()
    );
    assert_eq!(t.blocked(&control.url("/")).await, expected);
    t.stop().await;
}

async fn w12_no_redirect_from_outside_comes_back_in() {
    let inside = Site::start(|asked| match asked.path.as_str() {
        "/again" => to("302 Found", "/"),
        _ => ok("inside"),
    })
    .await;
    let outside = Site::at("127.0.0.2:0", {
        let port = inside.port();
        move |asked| match asked.path.as_str() {
            "/" => ok("outside"),
            "/on" => to("302 Found", "/name"),
            "/name" => to("302 Found", &format!("http://inside.test:{port}/")),
            _ => to("302 Found", &format!("http://127.0.0.1:{port}/")),
        }
    })
    .await;
    let dns = Dns::start(|name, _| match name {
        "inside.test" => vec![address("127.0.0.1")],
        _ => vec![address("127.0.0.2")],
    })
    .await;
    let t = Rig::on(Net {
        lookup: dns.lookup(),
        range_of: with_an_outside,
        ..Net::default()
    })
    .await;
    // Straight to it is fine.
    let by_name = format!("http://inside.test:{}", inside.port());
    for url in [
        inside.url("/"),
        inside.url("/again"),
        format!("{by_name}/"),
        format!("{by_name}/again"),
    ] {
        assert_eq!(t.get(&url).await["body"], "inside", "{url}");
    }
    let seen = inside.asked().len();
    let why = "; a redirect from another machine does not lead there";
    let literal = format!("127.0.0.1 is a loopback address{why}");
    let named = format!("inside.test resolves to 127.0.0.1, which is a loopback address{why}");
    let by_name = format!("http://outside.test:{}", outside.port());
    for (url, expected) in [
        (outside.url("/literal"), &literal),
        (outside.url("/name"), &named),
        (outside.url("/on"), &named),
        (format!("{by_name}/literal"), &literal),
        (format!("{by_name}/on"), &named),
    ] {
        assert_eq!(&t.blocked(&url).await, expected, "{url}");
    }
    assert_eq!(inside.asked().len(), seen);
    let reply = t
        .fetch(json!({ "url": outside.url("/name"), "follow_redirects": false }))
        .await;
    assert_eq!(reply["status"], 302);
    t.stop().await;
}

/// The program itself: its admin server, and the listener of its engine, or the engine it is connected to.
#[tokio::test]
async fn w12_the_program_knows_its_ports() {
    let (engine, engine_at) = served("127.0.0.1:0".parse().unwrap(), None).await;
    let choices = [
        EngineChoice::Embedded {
            reason: "test".into(),
        },
        EngineChoice::Connect {
            url: format!("ws://{engine_at}"),
            reason: "test".into(),
        },
    ];
    for choice in choices {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.engine.listen = "127.0.0.1:0".into();
        config.engine.data_dir = dir.path().join("data");
        config.http.listen = "127.0.0.1:0".into();
        config.permissions_path = dir.path().join("iii-permissions.yaml");
        let parts = Parts {
            config,
            engine: choice,
            env: Arc::new(MapEnv::default()),
            workers: harness::workers::all(),
        };
        let app = within(App::start(parts)).await.unwrap();
        let engine_at = app.listener().unwrap_or(engine_at);
        for url in [
            format!("http://{}/healthz", app.admin().unwrap()),
            format!("http://{engine_at}/"),
        ] {
            let (context, options) = (CallContext::default(), CallOptions::default());
            let fetch = app
                .bus()
                .invoke(&context, "web::fetch", json!({ "url": url }), options);
            let reply = fetch.await.unwrap();
            assert_eq!(reply["error"], "blocked_host", "{url}: {reply}");
            assert!(
                reply["message"]
                    .as_str()
                    .unwrap()
                    .ends_with(" is this program's own"),
                "{reply}"
            );
        }
        assert!(within(app.stop()).await);
    }
    assert!(engine.shutdown(std::time::Duration::from_secs(20)).await);
}

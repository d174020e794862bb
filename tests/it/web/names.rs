//! Names and what they resolve to, with a name server that changes its mind.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use harness::workers::web::{Lookup, Net};
use pretty_assertions::assert_eq;
use serde_json::json;

use super::dns::{Dns, Record, address};
use super::site::{Site, ok, to};
use super::{Rig, with_an_outside};

async fn rig(dns: &Dns) -> Rig {
    Rig::on(Net {
        lookup: dns.lookup(),
        ..Net::default()
    })
    .await
}

#[tokio::test]
async fn a_name_is_resolved_once_and_its_answer_is_what_is_connected_to() {
    let site = Site::start(|_| ok("hello")).await;
    let dns = Dns::start(|_, before| match before {
        0 => vec![address("127.0.0.1")],
        _ => vec![address("169.254.169.254")],
    })
    .await;
    let t = rig(&dns).await;
    let url = format!("http://rebind.test:{}/", site.port());
    assert_eq!(t.get(&url).await["body"], "hello");
    assert_eq!(dns.asked(), ["rebind.test"]);
    assert_eq!(
        site.only().header("host"),
        Some(format!("rebind.test:{}", site.port()).as_str())
    );
    // A connection serves one request: the next one asks anew.
    let message = t.blocked(&url).await;
    assert_eq!(
        message,
        "rebind.test resolves to 169.254.169.254, which is a link-local address"
    );
    assert_eq!(dns.asked().len(), 2);
    assert_eq!(site.asked().len(), 1);
    t.stop().await;
}

#[tokio::test]
async fn each_hop_is_resolved_and_checked_anew() {
    let site = Site::start(|_| to("302 Found", "/again")).await;
    let dns = Dns::start(|_, before| match before {
        0 => vec![address("127.0.0.1")],
        _ => vec![address("169.254.169.254")],
    })
    .await;
    let t = rig(&dns).await;
    let message = t.blocked(&format!("http://rebind.test:{}/", site.port())).await;
    assert_eq!(
        message,
        "rebind.test resolves to 169.254.169.254, which is a link-local address"
    );
    assert_eq!(dns.asked(), ["rebind.test", "rebind.test"]);
    assert_eq!(site.lines(), ["GET /"]);
    t.stop().await;
}

#[tokio::test]
async fn one_bad_address_or_alias_is_enough() {
    let site = Site::start(|_| ok("hello")).await;
    let dns = Dns::start(|name, _| match name {
        "mixed.test" => vec![address("127.0.0.1"), address("10.0.0.1")],
        "mixed6.test" => vec![address("127.0.0.1"), address("fd00::1")],
        "mapped.test" => vec![address("127.0.0.1"), address("::ffff:169.254.169.254")],
        "nat64.test" => vec![address("64:ff9b::a9fe:a9fe")],
        "alias.test" => vec![Record::Alias("metadata.internal"), address("169.254.169.254")],
        "twice.test" => vec![
            Record::Alias("one.test"),
            Record::Alias("two.test"),
            address("192.168.0.1"),
        ],
        "good-alias.test" => vec![Record::Alias("here.test"), address("127.0.0.1")],
        _ => Vec::new(),
    })
    .await;
    let t = rig(&dns).await;
    for (name, bad, range) in [
        ("mixed.test", "10.0.0.1", "private"),
        ("mixed6.test", "fd00::1", "unique-local"),
        ("mapped.test", "::ffff:169.254.169.254", "link-local"),
        ("nat64.test", "64:ff9b::a9fe:a9fe", "link-local"),
        ("alias.test", "169.254.169.254", "link-local"),
        ("twice.test", "192.168.0.1", "private"),
    ] {
        let message = t.blocked(&format!("http://{name}:{}/", site.port())).await;
        assert_eq!(
            message,
            format!("{name} resolves to {bad}, which is a {range} address")
        );
    }
    assert_eq!(site.lines(), Vec::<String>::new());
    assert_eq!(
        t.get(&format!("http://good-alias.test:{}/", site.port())).await["body"],
        "hello"
    );
    t.stop().await;
}

/// First and last address of every block, behind a name and beside a good one.
#[tokio::test]
async fn a_name_opens_no_block() {
    const EDGES: [&str; 26] = [
        "0.0.0.0-0.255.255.255",
        "10.0.0.0-10.255.255.255",
        "100.64.0.0-100.127.255.255",
        "169.254.0.0-169.254.255.255",
        "172.16.0.0-172.31.255.255",
        "192.0.0.0-192.0.0.255",
        "192.0.2.0-192.0.2.255",
        "192.88.99.0-192.88.99.255",
        "192.168.0.0-192.168.255.255",
        "198.18.0.0-198.19.255.255",
        "198.51.100.0-198.51.100.255",
        "203.0.113.0-203.0.113.255",
        "224.0.0.0-239.255.255.255",
        "240.0.0.0-255.255.255.255",
        "::-::2",
        "::7f00:1-::7fff:ffff",
        "::ffff:10.0.0.0-::ffff:10.255.255.255",
        "64:ff9b::a00:0-64:ff9b::aff:ffff",
        "64:ff9b:1::-64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
        "2002:a00::-2002:aff:ffff::",
        "2001:0:a00::-2001:0:aff:ffff::",
        "100::-100::ffff:ffff:ffff:ffff",
        "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        "fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "fe80::-feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "ff00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];
    let site = Site::start(|_| ok("hello")).await;
    let zone = |name: &str, _| {
        let (kind, number) = name.trim_end_matches(".test").split_once('-').unwrap();
        let (first, last) = EDGES[number.parse::<usize>().unwrap()].split_once('-').unwrap();
        vec![
            address("127.0.0.1"),
            address(if kind == "first" { first } else { last }),
        ]
    };
    let dns = Dns::start(zone).await;
    let t = rig(&dns).await;
    let checks = (0..EDGES.len()).flat_map(|number| ["first", "last"].map(|kind| (kind, number)));
    let checks = checks.map(|(kind, number)| {
        let (t, url) = (&t, format!("http://{kind}-{number}.test:{}/", site.port()));
        async move {
            let message = t.blocked(&url).await;
            assert!(message.contains(".test resolves to "), "{message}");
        }
    });
    futures::future::join_all(checks).await;
    assert_eq!(site.lines(), Vec::<String>::new());
    t.stop().await;
}

#[tokio::test]
async fn w7_a_failed_resolution_says_so() {
    let dns = Dns::start(|_, _| Vec::new()).await;
    let t = rig(&dns).await;
    let expected = "the name nowhere.test could not be resolved: it has no address";
    assert_eq!(t.blocked("http://nowhere.test/").await, expected);
    t.stop().await;

    let t = Rig::on(Net {
        lookup: Arc::new(Refuses),
        ..Net::default()
    })
    .await;
    let expected = "the name nowhere.test could not be resolved: no such name";
    assert_eq!(t.blocked("https://nowhere.test/").await, expected);
    t.stop().await;
}

#[derive(Debug)]
struct Refuses;

impl Lookup for Refuses {
    fn addresses(&self, _: &str) -> BoxFuture<'static, std::io::Result<Vec<std::net::IpAddr>>> {
        std::future::ready(Err(std::io::Error::other("no such name"))).boxed()
    }
}

#[derive(Debug)]
struct NeverAnswers;

impl Lookup for NeverAnswers {
    fn addresses(&self, _: &str) -> BoxFuture<'static, std::io::Result<Vec<std::net::IpAddr>>> {
        std::future::pending().boxed()
    }
}

/// Contract 05 weakness 1.
#[tokio::test]
async fn w1_the_time_of_a_resolution_counts() {
    let t = Rig::on(Net {
        lookup: Arc::new(NeverAnswers),
        ..Net::default()
    })
    .await;
    let expected = ("timeout".to_owned(), "no complete answer within 60 ms".to_owned());
    assert_eq!(
        t.failure(json!({ "url": "http://slow.test/", "timeout_ms": 60 }))
            .await,
        expected
    );
    t.stop().await;
}

/// Contract 05 weakness 5: one address refuses, one says nothing, the third answers.
#[tokio::test]
async fn w5_the_other_addresses_are_tried() {
    let site = Site::start(|_| ok("hello")).await;
    let silent = Silent::on(&format!("127.0.0.4:{}", site.port())).await;
    let dns = Dns::start(|_, _| ["127.0.0.3", "127.0.0.4", "127.0.0.1"].map(address).to_vec()).await;
    let t = Rig::on(Net {
        lookup: dns.lookup(),
        range_of: with_an_outside,
        ..Net::default()
    })
    .await;
    let url = format!("http://many.test:{}/", site.port());
    assert_eq!(
        t.fetch(json!({ "url": url, "timeout_ms": 1_500 })).await["body"],
        "hello"
    );
    assert_eq!(dns.asked().len(), 1);
    drop(silent);
    t.stop().await;
}

/// A port whose connections are never made: its queue is full, and nobody takes from it.
struct Silent {
    _listener: tokio::net::TcpListener,
    _queued: Vec<tokio::net::TcpStream>,
}

impl Silent {
    async fn on(address: &str) -> Self {
        let address = address.parse().unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = tokio::time::timeout(
            std::time::Duration::from_millis(100),
            tokio::net::TcpStream::connect(address),
        )
        .await
        {
            queued.push(stream.unwrap());
        }
        Self {
            _listener: listener,
            _queued: queued,
        }
    }
}

//! Hosts that are not public, in every spelling, and their neighbours.

use futures::future::join_all;

use super::Rig;
use crate::support::three_ways;

three_ways! {
    c05_case_04_and_05_addresses_that_are_not_public,
    c05_case_07_and_08_other_spellings_of_them,
}

/// Each URL is blocked, and the message says what with.
async fn all_blocked(t: &Rig, urls: &[(&str, &str, &str)]) {
    let checks = urls.iter().map(async |(url, address, range)| {
        let message = t.blocked(url).await;
        assert!(
            message.contains(address) && message.contains(range),
            "{url}: {message}"
        );
    });
    join_all(checks).await;
}

async fn c05_case_04_and_05_addresses_that_are_not_public() {
    let t = Rig::start().await;
    let urls = [
        ("http://169.254.169.254/latest/", "169.254.169.254", "link-local"),
        ("https://169.254.169.254/", "169.254.169.254", "link-local"),
        ("http://169.254.0.0/", "169.254.0.0", "link-local"),
        ("http://192.168.1.1/", "192.168.1.1", "private"),
        ("http://10.0.0.1/", "10.0.0.1", "private"),
        ("http://172.31.0.1/", "172.31.0.1", "private"),
        ("http://100.64.0.1/", "100.64.0.1", "carrier-grade NAT"),
        ("http://0.0.0.0/", "0.0.0.0", "unspecified"),
        ("http://0/", "0.0.0.0", "unspecified"),
        ("http://224.0.0.1/", "224.0.0.1", "multicast"),
        ("http://240.0.0.1/", "240.0.0.1", "reserved"),
        ("http://255.255.255.255/", "255.255.255.255", "reserved"),
        ("http://192.0.0.1/", "192.0.0.1", "protocol"),
        ("http://192.0.2.1/", "192.0.2.1", "documentation"),
        ("http://198.18.0.1/", "198.18.0.1", "benchmarking"),
        ("http://198.51.100.1/", "198.51.100.1", "documentation"),
        ("http://203.0.113.1/", "203.0.113.1", "documentation"),
        ("http://192.88.99.1/", "192.88.99.1", "relay"),
    ];
    all_blocked(&t, &urls).await;
    t.stop().await;
}

async fn c05_case_07_and_08_other_spellings_of_them() {
    let t = Rig::start().await;
    let metadata = [
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://0xA9.0xFE.0xA9.0xFE/",
        "http://0251.0376.0251.0376/",
        "http://025177524776/",
        "http://169.16689662/",
        "http://169.254.43518/",
        "http://169.254.169.254./",
        "http://169.254.169.254:80/",
        "http://8.8.8.8@169.254.169.254/",
        "http://user:pass@169.254.169.254/",
        "http://169.254.169.254#@8.8.8.8/",
        "http://169.254.169.254?@8.8.8.8/",
        "http://169.254.169.254\\@8.8.8.8/",
        "http:169.254.169.254/",
        "http:/169.254.169.254/",
        "http:\\\\169.254.169.254/",
        " http://169.254.169.254/ ",
        "ht\ntp://169.254.16\t9.254/",
        "HTTP://169.254.169.254/",
        "http://%31%36%39.254.169.254/",
        "http://１６９.２５４.１６９.２５４/",
        "http://169。254。169。254/",
        "http://⑯⑨.254.169.254/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
        "http://[::ffff:0:a9fe:a9fe]/",
        "http://[::169.254.169.254]/",
        "http://[64:ff9b::169.254.169.254]/",
        "http://[2002:a9fe:a9fe::1]/",
        "http://[2001:0:808:808::5601:5601]/",
        "http://[2a00::5efe:a9fe:a9fe]/",
        "http://[fe80::1]/",
        "http://[febf::1]/",
    ];
    let metadata = metadata.map(|url| (url, "", "link-local"));
    all_blocked(&t, &metadata).await;
    let others = [
        ("http://[fd00::1]/", "fd00::1", "unique-local"),
        ("http://[fc00::1]/", "fc00::1", "unique-local"),
        ("http://[fec0::1]/", "fec0::1", "site-local"),
        ("http://[ff02::1]/", "ff02::1", "multicast"),
        ("http://[::]/", "::", "unspecified"),
        ("http://[100::1]/", "100::1", "discard"),
        ("http://[2001:db8::1]/", "2001:db8::1", "documentation"),
        ("http://[2002:7f00:1::]/", "2002:7f00:1::", "loopback"),
        ("http://[64:ff9b::7f00:1]/", "64:ff9b::7f00:1", "loopback"),
        ("http://[::127.0.0.1]/", "::7f00:1", "loopback"),
    ];
    all_blocked(&t, &others).await;
    t.stop().await;
}

/// Contract 05 case 9, in every spelling.
#[tokio::test]
async fn loopback_is_closed_in_every_spelling() {
    let t = Rig::with(|web| web.allow_loopback = false).await;
    let urls = [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.255.255.254/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://①②⑦.0.0.1/",
        "http://[::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://localhost/",
        "http://LOCALHOST/",
    ];
    let urls = urls.map(|url| (url, "", "web.allow_loopback=true"));
    all_blocked(&t, &urls).await;
    t.stop().await;
}

//! The tables, and every way around them.

use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;

fn of(text: &str) -> Option<Range> {
    range_of(text.parse().unwrap())
}

/// First and last address of each block, with the neighbours outside it: what those are, or `None` for public.
#[test]
fn blocks_end_where_they_end() {
    use Range::*;
    let rows: &[(&str, &str, Range, &str, &str)] = &[
        ("0.0.0.0", "0.255.255.255", Unspecified, "", "1.0.0.0"),
        ("10.0.0.0", "10.255.255.255", Private, "9.255.255.255", "11.0.0.0"),
        (
            "100.64.0.0",
            "100.127.255.255",
            Shared,
            "100.63.255.255",
            "100.128.0.0",
        ),
        (
            "127.0.0.0",
            "127.255.255.255",
            Loopback,
            "126.255.255.255",
            "128.0.0.0",
        ),
        (
            "169.254.0.0",
            "169.254.255.255",
            LinkLocal,
            "169.253.255.255",
            "169.255.0.0",
        ),
        (
            "172.16.0.0",
            "172.31.255.255",
            Private,
            "172.15.255.255",
            "172.32.0.0",
        ),
        (
            "192.0.0.0",
            "192.0.0.255",
            Protocol,
            "191.255.255.255",
            "192.0.1.0",
        ),
        (
            "192.0.2.0",
            "192.0.2.255",
            Documentation,
            "192.0.1.255",
            "192.0.3.0",
        ),
        (
            "192.88.99.0",
            "192.88.99.255",
            Relay,
            "192.88.98.255",
            "192.88.100.0",
        ),
        (
            "192.168.0.0",
            "192.168.255.255",
            Private,
            "192.167.255.255",
            "192.169.0.0",
        ),
        (
            "198.18.0.0",
            "198.19.255.255",
            Benchmarking,
            "198.17.255.255",
            "198.20.0.0",
        ),
        (
            "198.51.100.0",
            "198.51.100.255",
            Documentation,
            "198.51.99.255",
            "198.51.101.0",
        ),
        (
            "203.0.113.0",
            "203.0.113.255",
            Documentation,
            "203.0.112.255",
            "203.0.114.0",
        ),
        ("224.0.0.0", "239.255.255.255", Multicast, "223.255.255.255", ""),
        ("240.0.0.0", "255.255.255.255", Reserved, "", ""),
        (
            "64:ff9b:1::",
            "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
            Relay,
            "64:ff9b:0:ffff::",
            "64:ff9b:2::",
        ),
        (
            "100::",
            "100::ffff:ffff:ffff:ffff",
            Discard,
            "ff:ffff::",
            "100:0:0:1::",
        ),
        (
            "2001:2::",
            "2001:2:0:ffff:ffff:ffff:ffff:ffff",
            Benchmarking,
            "2001:1:ffff::",
            "2001:2:1::",
        ),
        (
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            Documentation,
            "2001:db7:ffff::",
            "2001:db9::",
        ),
        (
            "3fff::",
            "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
            Documentation,
            "3ffe:ffff::",
            "3fff:1000::",
        ),
        ("5f00::", "5f00:ffff::", Protocol, "5eff:ffff::", "5f01::"),
        (
            "fc00::",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            UniqueLocal,
            "fbff:ffff::",
            "fe00::",
        ),
        (
            "fe80::",
            "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            LinkLocal,
            "fe7f:ffff::",
            "",
        ),
        (
            "fec0::",
            "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            SiteLocal,
            "",
            "",
        ),
        (
            "ff00::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            Multicast,
            "",
            "",
        ),
    ];
    for (first, last, range, below, above) in rows {
        assert_eq!((of(first), of(last)), (Some(*range), Some(*range)), "{first}");
        for neighbour in [below, above].into_iter().filter(|text| !text.is_empty()) {
            assert_eq!(of(neighbour), None, "{neighbour}");
        }
    }
}

#[test]
fn c05_case_06_public_addresses_pass() {
    for text in [
        "172.32.0.1",
        "8.8.8.8",
        "1.1.1.1",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
    ] {
        assert_eq!(of(text), None, "{text}");
    }
}

/// Contract 05 weakness 6: what text prefixes got wrong, both ways.
#[test]
fn w6_numbers_decide_and_not_text() {
    for text in [
        "fc::1",
        "fe8::1",
        "ff::1",
        "fd::1",
        "2002:808:808::1",
        "64:ff9b::808:808",
        "::ffff:8.8.8.8",
    ] {
        assert_eq!(of(text), None, "{text}");
    }
    for (text, range) in [
        ("::", Range::Unspecified),
        ("::1", Range::Loopback),
        ("::127.0.0.1", Range::Loopback),
        ("::2", Range::Unspecified),
        ("0:0:0:0:0:ffff:a9fe:a9fe", Range::LinkLocal),
        ("::ffff:169.254.169.254", Range::LinkLocal),
        ("::ffff:0:10.0.0.1", Range::Private),
        ("64:ff9b::a9fe:a9fe", Range::LinkLocal),
        ("64:ff9b:1::808:808", Range::Relay),
        ("2002:a9fe:a9fe::", Range::LinkLocal),
        ("2002:7f00:1::1", Range::Loopback),
        ("2001:0:808:808::5601:5601", Range::LinkLocal),
        ("2001:0:a00:1::f7f7:f7f7", Range::Private),
        ("2a00:1450::5efe:10.0.0.1", Range::Private),
        ("2a00:1450::200:5efe:169.254.169.254", Range::LinkLocal),
        ("fec0::1", Range::SiteLocal),
    ] {
        assert_eq!(of(text), Some(range), "{text}");
    }
}

#[test]
fn only_plain_spellings_of_loopback_can_be_opened() {
    for (text, expected) in [
        ("127.0.0.1", true),
        ("127.255.0.9", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("::127.0.0.1", false),
        ("64:ff9b::7f00:1", false),
        ("2002:7f00:1::", false),
        ("128.0.0.1", false),
        ("::ffff:128.0.0.1", false),
    ] {
        assert_eq!(is_plain_loopback(text.parse().unwrap()), expected, "{text}");
    }
}

/// The table again, as lines of a network tool would say it: first address and last address.
fn v4_by_comparison(address: Ipv4Addr) -> bool {
    let bounds = [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("224.0.0.0", "255.255.255.255"),
    ];
    let bound = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    bounds
        .iter()
        .any(|(first, last)| (bound(first)..=bound(last)).contains(&address))
}

/// Random addresses are almost never in a small block: half of them are put near the edge of one.
fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    let near = (0..V4.len(), -3_i64..=3, any::<bool>()).prop_map(|(row, step, at_end)| {
        let (network, prefix, _) = V4[row];
        let size = 1_u64 << (32 - prefix);
        let edge = u64::from(u32::from(network)) + if at_end { size } else { 0 };
        Ipv4Addr::from(u32::try_from((edge.cast_signed() + step).rem_euclid(1 << 32)).unwrap())
    });
    prop_oneof![any::<u32>().prop_map(Ipv4Addr::from), near]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn prefixes_say_what_bounds_say(address in any_v4()) {
        prop_assert_eq!(range_of(address.into()).is_some(), v4_by_comparison(address));
    }

    /// Whatever way an IPv4 address is wrapped, it is judged as itself. `tail` fills what does not matter.
    #[test]
    fn a_wrapped_address_is_judged_as_itself(address in any_v4(), tail in any::<u128>(), isatap in any::<bool>()) {
        // `::` and `::1` are addresses of their own.
        let expected = range_of(address.into());
        let v4 = u128::from(u32::from(address));
        let low = |bits: u32| tail & ((1 << bits) - 1);
        let mut forms = vec![
            (0xffff << 32) | v4,
            (0xffff << 48) | v4,
            (0x0064_ff9b_u128 << 96) | v4,
            (0x2002_u128 << 112) | (v4 << 80) | low(80),
            (0x2001_0000_0808_0808_u128 << 64) | (low(32) << 32) | u128::from(!u32::from(address)),
            (0x2001_0000_u128 << 96) | (v4 << 64) | (low(32) << 32) | u128::from(!0x0808_0808_u32),
            (0x2a00_1450_u128 << 96) | (low(32) << 64) | (if isatap { 0x0200_5efe } else { 0x5efe } << 32) | v4,
        ];
        if v4 > 1 {
            forms.push(v4);
        }
        for form in forms {
            let wrapped = Ipv6Addr::from(form);
            prop_assert_eq!(range_of(wrapped.into()), expected, "{} in {}", address, wrapped);
        }
    }

    /// No spelling of an IPv4 address that a URL may have gets it past the table.
    #[test]
    fn spellings_of_an_address_are_one_address(address in any_v4()) {
        let number = u32::from(address);
        let [a, b, c, d] = address.octets();
        let spellings = [
            format!("{number}"),
            format!("{number:#x}"),
            format!("0{number:o}"),
            format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
            format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            format!("{a}.{}", number & 0x00ff_ffff),
            format!("{a}.{b}.{}", number & 0xffff),
            format!("{a}.{b}.{c}.{d}."),
            format!("%{:02x}%{:02x}.{a}", 0x31, 0x32),
        ];
        let (odd, spellings) = spellings.split_last().unwrap();
        for spelling in spellings {
            let url = url::Url::parse(&format!("http://{spelling}/")).unwrap();
            prop_assert_eq!(url.host(), Some(url::Host::Ipv4(address)), "{}", spelling);
        }
        let url = url::Url::parse(&format!("http://{odd}/")).unwrap();
        prop_assert!(matches!(url.host(), Some(url::Host::Ipv4(_))), "{}", odd);
    }
}

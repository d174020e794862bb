//! Which addresses are not public, by number and never by text (contract 05 §5, weakness 6).
//!
//! An IPv6 address that carries an IPv4 address is what that IPv4 address is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses that agents must not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// `0.0.0.0/8`, `::`.
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`: also where clouds keep their metadata.
    LinkLocal,
    /// RFC 1918.
    Private,
    /// `100.64.0.0/10`, behind the NAT of a carrier.
    Shared,
    /// `fc00::/7`.
    UniqueLocal,
    /// `fec0::/10`, withdrawn and still routed by some.
    SiteLocal,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// Examples in documents.
    Documentation,
    /// Measurements of network devices.
    Benchmarking,
    /// `192.0.0.0/24`: protocols of the IETF.
    Protocol,
    /// `192.88.99.0/24`, `64:ff9b:1::/48`: doors to other networks.
    Relay,
    /// `100::/64`: thrown away.
    Discard,
    /// `240.0.0.0/4`, broadcast included.
    Reserved,
}

impl Range {
    /// In words, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Private => "private",
            Self::Shared => "carrier-grade NAT",
            Self::UniqueLocal => "unique-local",
            Self::SiteLocal => "site-local",
            Self::Multicast => "multicast",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Protocol => "protocol assignments",
            Self::Relay => "relay",
            Self::Discard => "discard-only",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Network, length of its prefix in bits, and what it is.
const V4: [(Ipv4Addr, u32, Range); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8, Range::Unspecified),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Range::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Range::Shared),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Range::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Range::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Range::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Range::Protocol),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Range::Documentation),
    (Ipv4Addr::new(192, 88, 99, 0), 24, Range::Relay),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Range::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Range::Benchmarking),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Range::Documentation),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Range::Documentation),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Range::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Range::Reserved),
];

/// The same for IPv6.
const V6: [(Ipv6Addr, u32, Range); 12] = [
    (Ipv6Addr::UNSPECIFIED, 128, Range::Unspecified),
    (Ipv6Addr::LOCALHOST, 128, Range::Loopback),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, Range::Relay),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, Range::Discard),
    (
        Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0),
        48,
        Range::Benchmarking,
    ),
    (
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
        32,
        Range::Documentation,
    ),
    (
        Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0),
        20,
        Range::Documentation,
    ),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Range::UniqueLocal),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Range::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, Range::SiteLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Range::Multicast),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, Range::Protocol),
];

/// The block an address is in; `None` for a public one.
pub fn range_of(address: IpAddr) -> Option<Range> {
    match address {
        IpAddr::V4(address) => range_of_v4(address),
        IpAddr::V6(address) => range_of_v6(address),
    }
}

fn range_of_v4(address: Ipv4Addr) -> Option<Range> {
    let bits = u32::from(address);
    let is_in = |network: Ipv4Addr, prefix: u32| (bits ^ u32::from(network)).leading_zeros() >= prefix;
    let row = V4.iter().find(|(network, prefix, _)| is_in(*network, *prefix));
    row.map(|(_, _, range)| *range)
}

fn range_of_v6(address: Ipv6Addr) -> Option<Range> {
    let bits = u128::from(address);
    let is_in = |network: Ipv6Addr, prefix: u32| (bits ^ u128::from(network)).leading_zeros() >= prefix;
    let row = V6.iter().find(|(network, prefix, _)| is_in(*network, *prefix));
    row.map(|(_, _, range)| *range)
        .or_else(|| embedded(address).into_iter().flatten().find_map(range_of_v4))
}

/// The IPv4 addresses that packets to an IPv6 address may end at.
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    let segments = address.segments();
    let [.., high, low] = segments;
    match segments {
        // 6to4.
        [0x2002, near, far, ..] => [v4(near, far), None],
        // Teredo: the client with its bits turned, and the server.
        [0x2001, 0, near, far, ..] => [v4(!high, !low), v4(near, far)],
        // Compatible and mapped, translated, NAT64, and ISATAP, which is under any prefix.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..]
        | [_, _, _, _, 0 | 0x200, 0x5efe, ..] => [v4(high, low), None],
        _ => [None, None],
    }
}

/// Whether an address is this machine in one of the spellings that `web.allow_loopback` opens: `127.0.0.0/8`, `::1`, and
/// the mapped form. The other forms that carry a loopback address stay closed.
pub fn is_plain_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests;

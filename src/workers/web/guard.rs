//! The resolver that connections are made with: looks a name up, and lets no address through that may not be reached
//! (contract 05 §5). What it answers is what is connected to; nobody asks again.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use futures::FutureExt;
use reqwest::Certificate;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error as ThisError;

use super::addresses::{self, Range};
use super::lookup::{Lookup, SystemLookup};

/// The network as the worker sees it.
#[derive(Debug, Clone)]
pub struct Net {
    /// Resolver of names.
    pub lookup: Arc<dyn Lookup>,
    /// What an address is; `None` for a public one.
    pub range_of: fn(IpAddr) -> Option<Range>,
    /// Certificates that are trusted beside those of the web.
    pub trusted: Vec<Certificate>,
}

impl Default for Net {
    fn default() -> Self {
        Self {
            lookup: Arc::new(SystemLookup::default()),
            range_of: addresses::range_of,
            trusted: Vec::new(),
        }
    }
}

/// How far a connection may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Public addresses and loopback.
    Loopback,
    /// Public addresses.
    Public,
    /// Public addresses, unless they are this machine's.
    Elsewhere,
}

/// Why an address is not connected to.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub(super) enum Refused {
    /// The name has no address, or nobody could say.
    #[error("the name {name} could not be resolved: {cause}")]
    Unresolved { name: String, cause: String },
    /// An address of the host is in a blocked range.
    #[error("{} is a {range} address", shown(.name.as_deref(), *.address))]
    Blocked {
        name: Option<String>,
        address: IpAddr,
        range: Range,
    },
    /// An address of the host is this machine's.
    #[error("{} is an address of this machine", shown(.name.as_deref(), *.address))]
    Own { name: Option<String>, address: IpAddr },
}

/// The name, if there is one, with the address.
fn shown(name: Option<&str>, address: IpAddr) -> String {
    match name {
        Some(name) => format!("{name} resolves to {address}, which"),
        None => address.to_string(),
    }
}

impl Net {
    /// Whether an address may be connected to.
    pub(super) fn check(&self, reach: Reach, name: Option<&str>, address: IpAddr) -> Result<(), Refused> {
        let name = || name.map(str::to_owned);
        match (self.range_of)(address) {
            Some(Range::Loopback) if reach == Reach::Loopback && addresses::is_plain_loopback(address) => {
                Ok(())
            }
            Some(range) => Err(Refused::Blocked {
                name: name(),
                address,
                range,
            }),
            None if reach == Reach::Elsewhere && is_of_this_machine(address) => Err(Refused::Own {
                name: name(),
                address,
            }),
            None => Ok(()),
        }
    }

    /// Whether an address is on this machine.
    pub(super) fn is_loopback(&self, address: IpAddr) -> bool {
        (self.range_of)(address) == Some(Range::Loopback)
    }
}

/// Only an address of this machine can be bound.
fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The resolver of one client.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) net: Net,
    pub(super) reach: Reach,
}

impl Guard {
    async fn checked(self, name: String) -> Result<Vec<SocketAddr>, Refused> {
        let unresolved = |cause: String| Refused::Unresolved {
            name: name.clone(),
            cause,
        };
        let found = self.net.lookup.addresses(&name).await;
        let found = found.map_err(|error| unresolved(error.to_string()))?;
        if found.is_empty() {
            return Err(unresolved("it has no address".into()));
        }
        let mut checked = Vec::with_capacity(found.len());
        for address in found {
            self.net.check(self.reach, Some(&name), address)?;
            // Port 0 stands for that of the URL.
            let address = SocketAddr::new(address, 0);
            if !checked.contains(&address) {
                checked.push(address);
            }
        }
        Ok(checked)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let checked = self.clone().checked(name.as_str().to_owned());
        let answer = checked.map(|found| match found {
            Ok(found) => Ok(Box::new(found.into_iter()) as Addrs),
            Err(refused) => Err(refused.into()),
        });
        answer.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::future::BoxFuture;
    use pretty_assertions::assert_eq;

    use super::*;

    /// Answers always the same.
    #[derive(Debug)]
    struct Fixed(Vec<&'static str>);

    impl Lookup for Fixed {
        fn addresses(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let found = self.0.iter().map(|text| text.parse().unwrap()).collect();
            std::future::ready(Ok(found)).boxed()
        }
    }

    async fn checked(reach: Reach, answer: &[&'static str]) -> Result<Vec<String>, String> {
        let net = Net {
            lookup: Arc::new(Fixed(answer.to_vec())),
            ..Net::default()
        };
        let found = Guard { net, reach }.checked("h.example".into()).await;
        let found = found.map_err(|refused| refused.to_string())?;
        Ok(found.iter().map(|address| address.ip().to_string()).collect())
    }

    #[tokio::test]
    async fn one_bad_address_spoils_the_answer() {
        let good = checked(Reach::Public, &["8.8.8.8", "2606:4700::1", "8.8.8.8"]).await;
        assert_eq!(good, Ok(vec!["8.8.8.8".into(), "2606:4700::1".into()]));
        for (answer, address, range) in [
            (["8.8.8.8", "10.0.0.1"], "10.0.0.1", "private"),
            (["169.254.169.254", "8.8.8.8"], "169.254.169.254", "link-local"),
            (
                ["8.8.8.8", "::ffff:a9fe:a9fe"],
                "::ffff:169.254.169.254",
                "link-local",
            ),
            (
                ["64:ff9b::a9fe:a9fe", "8.8.8.8"],
                "64:ff9b::a9fe:a9fe",
                "link-local",
            ),
            (["8.8.8.8", "127.0.0.1"], "127.0.0.1", "loopback"),
        ] {
            let expected = format!("h.example resolves to {address}, which is a {range} address");
            assert_eq!(checked(Reach::Public, &answer).await, Err(expected));
        }
    }

    #[tokio::test]
    async fn loopback_is_a_matter_of_reach() {
        for (reach, address, expected) in [
            (Reach::Loopback, "127.0.0.1", true),
            (Reach::Loopback, "::1", true),
            (Reach::Loopback, "::ffff:127.0.0.1", true),
            (Reach::Loopback, "64:ff9b::7f00:1", false),
            (Reach::Loopback, "10.0.0.1", false),
            (Reach::Public, "127.0.0.1", false),
            (Reach::Elsewhere, "127.0.0.1", false),
            (Reach::Elsewhere, "8.8.8.8", true),
        ] {
            assert_eq!(
                checked(reach, &[address]).await.is_ok(),
                expected,
                "{reach:?} {address}"
            );
        }
    }

    #[tokio::test]
    async fn an_address_of_this_machine_is_known_as_one() {
        let net = Net {
            range_of: |_| None,
            ..Net::default()
        };
        let here = "127.0.0.1".parse().unwrap();
        assert_eq!(net.check(Reach::Public, None, here), Ok(()));
        assert_eq!(
            net.check(Reach::Elsewhere, None, here).unwrap_err().to_string(),
            "127.0.0.1 is an address of this machine"
        );
    }

    #[tokio::test]
    async fn a_name_without_an_address() {
        let expected = "the name h.example could not be resolved: it has no address".to_owned();
        assert_eq!(checked(Reach::Loopback, &[]).await, Err(expected));
    }
}

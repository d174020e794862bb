//! HTTP clients, one for each reach and time limit. They keep what TLS remembers of a server, and no connection: each one
//! is made to an address that was checked for it, and what a server sends beyond its answer is nobody's answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, ClientBuilder, redirect};

use super::guard::{Guard, Net, Reach};

/// Clients that are kept; callers who choose their own limits would make ever more of them.
const KEPT: usize = 8;

/// The clients, those used last first.
#[derive(Debug, Default)]
pub(super) struct Clients {
    net: Net,
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug, Clone)]
struct Kept {
    reach: Reach,
    limit: Duration,
    client: Client,
}

impl Clients {
    pub(super) fn new(net: Net) -> Self {
        Self {
            net,
            kept: Mutex::default(),
        }
    }

    pub(super) fn net(&self) -> &Net {
        &self.net
    }

    /// A client that connects within `limit`, which all addresses of a host share: one that does not answer leaves time for
    /// the next (contract 05 weakness 5). It follows no redirect, asks no proxy and decodes nothing.
    pub(super) fn get(&self, reach: Reach, limit: Duration) -> reqwest::Result<Client> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept
            .iter()
            .position(|kept| kept.reach == reach && kept.limit == limit);
        let found = match known {
            Some(at) => kept.remove(at),
            None => Kept {
                reach,
                limit,
                client: self.build(reach, limit)?,
            },
        };
        let client = found.client.clone();
        kept.insert(0, found);
        kept.truncate(KEPT);
        Ok(client)
    }

    fn build(&self, reach: Reach, limit: Duration) -> reqwest::Result<Client> {
        let guard = Guard {
            net: self.net.clone(),
            reach,
        };
        let trusted = self.net.trusted.iter().cloned();
        let builder = trusted.fold(Client::builder(), ClientBuilder::add_root_certificate);
        builder
            .dns_resolver(Arc::new(guard))
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .http1_only()
            .connect_timeout(limit)
            .pool_max_idle_per_host(0)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn few_clients_are_kept_and_each_reach_has_its_own() {
        let clients = Clients::default();
        let of = |reach, ms| clients.get(reach, Duration::from_millis(ms)).unwrap();
        for ms in 1..=20 {
            of(Reach::Public, ms);
        }
        of(Reach::Loopback, 20);
        of(Reach::Public, 20);
        let kept = clients.kept.lock().unwrap();
        let kept: Vec<_> = kept
            .iter()
            .map(|kept| (kept.reach, kept.limit.as_millis()))
            .collect();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(
            kept.iter().take(3).collect::<Vec<_>>(),
            [&(Reach::Public, 20), &(Reach::Loopback, 20), &(Reach::Public, 19)]
        );
    }
}

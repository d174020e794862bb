//! A vendor that speaks Chat Completions, as data. All there is to a provider like it is one constant and its `worker()`.

use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::header::HeaderMap;
use serde_json::Value;
use url::Url;

use super::{Quirks, bearer};
use crate::bus::WorkerDef;
use crate::config::Config;
use crate::workers::providers::access::Access;
use crate::workers::providers::failure::Failure;
use crate::workers::providers::local;
use crate::workers::providers::protocol::{Call, Encoded, ModelFacts, Provider, Settings, Spec, http_url};
use crate::workers::providers::records::Known;
use crate::workers::providers::{discovery, worker};

/// Facts of a vendor.
#[derive(Debug, Clone, Copy)]
pub struct Vendor {
    /// Names, credential, descriptions.
    pub spec: Spec,
    /// Name of its worker.
    pub worker: &'static str,
    /// What that does, one sentence.
    pub about: &'static str,
    /// Address and limits now in force.
    pub settings: fn(&Config) -> Settings,
    /// How its form of the protocol differs.
    pub quirks: Quirks,
    /// What is known of its models beside the listing.
    pub known: Known,
    /// Whether a listed model is offered: its id, its entry.
    pub offers: fn(&str, &Value) -> bool,
    /// What a server of one's own does otherwise; `None`: a hosted service.
    pub local: Option<Local>,
}

/// What differs with a server of one's own.
#[derive(Debug, Clone, Copy)]
pub struct Local {
    /// Sent as the key to a server of this machine when there is none.
    pub placeholder_key: Option<&'static str>,
    /// Path of the model listing at the server's root; `None`: beside the chat endpoint.
    pub models_path: Option<&'static str>,
    /// Where the server tells more than in its listing.
    pub probe: Option<Probe>,
}

/// A question beside the listing.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Path at the server's root.
    pub path: &'static str,
    /// What the answer adds to a record.
    pub add: fn(&Value, &mut Value),
}

impl Vendor {
    /// Its worker, for the list of all workers.
    pub fn worker(&'static self) -> WorkerDef {
        worker(self.worker, self.about, Arc::new(self)).build()
    }
}

impl Provider for &'static Vendor {
    fn spec(&self) -> &'static Spec {
        let vendor: &'static Vendor = self;
        &vendor.spec
    }

    fn settings(&self, config: &Config) -> Settings {
        (self.settings)(config)
    }

    fn is_local(&self) -> bool {
        self.local.is_some()
    }

    fn endpoint(&self, api_url: &str) -> Option<Url> {
        let url = http_url(api_url)?;
        Some(if self.is_local() {
            local::chat_endpoint(url)
        } else {
            url
        })
    }

    fn headers(&self, access: &Access) -> Result<HeaderMap, Failure> {
        match self.local {
            Some(local) => bearer(&local::with_key(access, self.spec.id, local.placeholder_key)),
            None => bearer(access),
        }
    }

    fn encode(&self, call: &Call, model: &ModelFacts) -> Result<Encoded, Failure> {
        self.quirks.encode(call, model)
    }

    fn models_url(&self, endpoint: &Url) -> Url {
        match self.local.and_then(|local| local.models_path) {
            Some(path) => local::at_root(endpoint, path),
            None => discovery::models_url(endpoint),
        }
    }

    fn models(&self, listing: &Value) -> Option<Vec<Value>> {
        let offered = discovery::entries(listing)?.filter(|(id, entry)| (self.offers)(id, entry));
        let record = |(id, entry)| self.known.record(self.spec.id, id, entry);
        Some(offered.map(record).collect())
    }

    fn refine<'a>(
        &'a self,
        mut records: Vec<Value>,
        access: &'a Access,
        client: &'a reqwest::Client,
    ) -> BoxFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let Some(Probe { path, add }) = self.local.and_then(|local| local.probe) else {
                return records;
            };
            let url = local::at_root(&access.url, path);
            match discovery::get_json(self, access, client, url).await {
                Ok(answer) => records.iter_mut().for_each(|record| add(&answer, record)),
                Err(problem) => tracing::debug!(provider = self.spec.id, path, problem, "not probed"),
            }
            records
        })
    }
}

//! Where a turn goes and with which credential, asked anew for each turn (contract 08 §4).

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::Host;
use super::failure::Failure;
use crate::bus::{CallOptions, Cx};
use crate::model::ErrorKind;
use crate::model::api::provider::{Credential, Resolve, ResolveRequest};

/// Limit of the call to the registry.
const RESOLVE_MS: u64 = 5_000;

/// How to reach a provider.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Endpoint.
    pub(super) url: Url,
    /// The credential.
    pub(super) secret: Option<Secret>,
    /// The operator's own output limit, tokens.
    pub(super) max_tokens: Option<u64>,
}

/// A credential; some vendors take the two kinds under different headers.
#[derive(Debug, Clone)]
pub(super) enum Secret {
    /// A key.
    ApiKey(SecretString),
    /// A token.
    Oauth(SecretString),
}

impl Secret {
    /// The guarded text.
    pub(super) fn text(&self) -> &SecretString {
        match self {
            Self::ApiKey(text) | Self::Oauth(text) => text,
        }
    }

    /// The value of a header that is the bare credential.
    ///
    /// # Errors
    /// It holds characters that no header can.
    pub(super) fn bare(&self) -> Result<HeaderValue, Failure> {
        header_value(self.text().expose_secret())
    }

    /// The value of an `authorization` header.
    ///
    /// # Errors
    /// The credential holds characters that no header can.
    pub(super) fn bearer(&self) -> Result<HeaderValue, Failure> {
        header_value(&format!("Bearer {}", self.text().expose_secret()))
    }
}

fn header_value(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Failure::new(
            ErrorKind::AuthExpired,
            "the api key holds characters that cannot be sent in a header",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl From<Credential> for Secret {
    fn from(credential: Credential) -> Self {
        match credential {
            Credential::ApiKey { key } => Self::ApiKey(key.into()),
            Credential::Oauth { access_token } => Self::Oauth(access_token.into()),
        }
    }
}

/// Asks the registry. A missing credential is a failure only where the provider needs one.
pub(super) async fn resolve(cx: &Cx<Host>) -> Result<Access, Failure> {
    let provider = &cx.state().provider;
    let spec = provider.spec();
    let request = ResolveRequest {
        provider: spec.id.into(),
    };
    let answer = cx
        .call_with::<Resolve>(request, CallOptions::timeout_ms(RESOLVE_MS))
        .await;
    let (credential, api_url, max_tokens) = match answer {
        Ok(resolved) => {
            let own_limit = resolved.max_tokens.filter(|_| resolved.max_tokens_stored);
            (resolved.credential, resolved.api_url, own_limit)
        }
        Err(error) if spec.needs_credential => {
            return Err(Failure::transient(format!(
                "provider settings could not be read: {error}"
            )));
        }
        Err(error) => {
            let code = format!("{}_auth_fetch_failed", spec.id);
            tracing::warn!(code, %error, "provider settings could not be read; going on without a credential");
            (None, None, None)
        }
    };
    let secret = credential
        .map(Secret::from)
        .filter(|secret| !secret.text().expose_secret().is_empty());
    if secret.is_none() && spec.needs_credential {
        return Err(missing(spec.id, spec.credential_env_var));
    }
    Ok(Access {
        url: endpoint(cx, api_url)?,
        secret,
        max_tokens: max_tokens.and_then(whole_tokens),
    })
}

/// All that a request beside a turn needs.
pub(super) struct Door {
    pub(super) access: Access,
    pub(super) client: reqwest::Client,
    pub(super) headers: HeaderMap,
}

/// Where a provider is, with a client for it and the headers it wants; else why not, for people.
pub(super) async fn door(cx: &Cx<Host>) -> Result<Door, String> {
    let access = resolve(cx).await.map_err(|failure| failure.message)?;
    let connect = Duration::from_millis(cx.config().provider.connect_timeout_ms);
    let client = cx.state().clients.for_url(&access.url, connect);
    let client = client.map_err(|error| error.to_string())?;
    let headers = cx.state().provider.headers(&access);
    let headers = headers.map_err(|failure| failure.message)?;
    Ok(Door {
        access,
        client,
        headers,
    })
}

fn missing(id: &str, variable: &str) -> Failure {
    let message = format!(
        "no credential for {id}: set providers.{id}.api_key in the `harness` configuration entry, \
         or the environment variable {variable}"
    );
    Failure::new(ErrorKind::AuthExpired, message)
}

fn endpoint(cx: &Cx<Host>, api_url: Option<String>) -> Result<Url, Failure> {
    let provider = &cx.state().provider;
    let default = provider.settings(&cx.config()).api_url;
    api_url
        .and_then(|text| provider.endpoint(&text))
        .or_else(|| provider.endpoint(&default))
        .ok_or_else(|| {
            let id = provider.spec().id;
            Failure::new(
                ErrorKind::Permanent,
                format!("the api_url of {id} is not an http or https URL"),
            )
        })
}

/// Tokens as a whole number above zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be within range"
)]
pub(super) fn whole_tokens(value: f64) -> Option<u64> {
    (1.0..9e15).contains(&value).then_some(value.floor() as u64)
}

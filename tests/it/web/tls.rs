//! HTTPS: whose certificate counts, and what a change of scheme does to secrets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use harness::workers::web::Net;
use pretty_assertions::assert_eq;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::Acceptor;

use super::Rig;
use super::dns::{Dns, address};
use super::site::{Site, ok, to};

/// Of `good.test`, signed by itself.
const CERTIFICATE: &[u8] = include_bytes!("../../fixtures/tls/good.test.pem");
const KEY: &[u8] = include_bytes!("../../fixtures/tls/good.test.key");

/// The first byte of a TLS connection.
const HANDSHAKE: u8 = 22;

/// What a client says before it has seen a certificate: the name it wants, and the protocols it speaks.
type Hello = (Option<String>, Vec<Vec<u8>>);

/// A port in front of a site that speaks HTTPS, and HTTP too.
struct Door {
    address: SocketAddr,
    hellos: Arc<Mutex<Vec<Hello>>>,
    _tasks: JoinSet<()>,
}

impl Door {
    async fn to(site: &Site) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hellos = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, site.address, Arc::clone(&hellos)));
        Self {
            address,
            hellos,
            _tasks: tasks,
        }
    }

    fn url(&self, scheme: &str, host: &str, path: &str) -> String {
        format!("{scheme}://{host}:{}{path}", self.address.port())
    }

    fn hellos(&self) -> Vec<Hello> {
        self.hellos.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, site: SocketAddr, hellos: Arc<Mutex<Vec<Hello>>>) {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    let config = Arc::new(config.unwrap());
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (config, hellos) = (Arc::clone(&config), Arc::clone(&hellos));
        connections.spawn(async move {
            let mut first = [0];
            if stream.peek(&mut first).await.unwrap_or_default() == 0 {
                return;
            }
            if first != [HANDSHAKE] {
                return pass_on(stream, site).await;
            }
            let Ok(start) = LazyConfigAcceptor::new(Acceptor::default(), stream).await else {
                return;
            };
            let hello = start.client_hello();
            let name = hello.server_name().map(str::to_owned);
            let protocols = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec);
            hellos.lock().unwrap().push((name, protocols.collect()));
            // Fails for a client that does not trust us.
            if let Ok(stream) = start.into_stream(config).await {
                pass_on(stream, site).await;
            }
        });
    }
}

async fn pass_on(mut stream: impl AsyncRead + AsyncWrite + Unpin, site: SocketAddr) {
    let mut inside = TcpStream::connect(site).await.unwrap();
    copy_bidirectional(&mut stream, &mut inside).await.ok();
}

async fn rig(trusts: bool) -> (Rig, Dns) {
    let dns = Dns::start(|_, _| vec![address("127.0.0.1")]).await;
    let own = reqwest::Certificate::from_pem(CERTIFICATE).unwrap();
    let t = Rig::on(Net {
        lookup: dns.lookup(),
        trusted: if trusts { vec![own] } else { Vec::new() },
        ..Net::default()
    })
    .await;
    (t, dns)
}

/// The socket goes to the address that was checked; the name of the URL is what the server is asked for and must prove.
#[tokio::test]
async fn tls_is_for_the_host_of_the_url() {
    let site = Site::start(|_| ok("hello")).await;
    let door = Door::to(&site).await;
    let (t, _dns) = rig(true).await;
    assert_eq!(t.get(&door.url("https", "good.test", "/")).await["body"], "hello");
    let named = |host: Option<&str>| (host.map(str::to_owned), vec![b"http/1.1".to_vec()]);
    assert_eq!(door.hellos(), [named(Some("good.test"))]);

    // Not its name, and no name at all: the same server.
    for (host, asked_for) in [("evil.test", Some("evil.test")), ("127.0.0.1", None)] {
        let url = door.url("https", host, "/");
        let (error, message) = t.failure(json!({ "url": url })).await;
        assert_eq!(error, "transport_error", "{message}");
        assert!(message.contains("certificate"), "{message}");
        assert_eq!(door.hellos().last(), Some(&named(asked_for)));
    }
    t.stop().await;

    let (t, _dns) = rig(false).await;
    let url = door.url("https", "good.test", "/");
    let (error, message) = t.failure(json!({ "url": url })).await;
    assert_eq!(error, "transport_error", "{message}");
    assert_eq!(site.asked().len(), 1);
    t.stop().await;
}

/// Host and port are the same all along: only the scheme changes.
#[tokio::test]
async fn c05_case_22_secrets_do_not_go_from_https_to_http() {
    let site = Site::start(|asked| match asked.path.split_once("?to=") {
        Some((_, location)) => to("302 Found", location),
        None => ok("hello"),
    })
    .await;
    let door = Door::to(&site).await;
    let (t, _dns) = rig(true).await;
    let headers = json!({ "authorization": "a", "cookie": "b", "x-api-key": "c", "accept": "d" });
    for (from, onto, arrives) in [("http", "https", true), ("https", "http", false)] {
        let last = door.url(onto, "good.test", "/last");
        let url = door.url(from, "good.test", &format!("/first?to={last}"));
        let reply = t.fetch(json!({ "url": url, "headers": headers })).await;
        assert_eq!(
            (&reply["body"], &reply["final_url"]),
            (&json!("hello"), &json!(last))
        );
        let asked = site.asked().last().unwrap().clone();
        for secret in ["authorization", "cookie", "x-api-key"] {
            assert_eq!(asked.header(secret).is_some(), arrives, "{from} {secret}");
        }
        assert_eq!(asked.header("accept"), Some("d"));
    }
    t.stop().await;
}

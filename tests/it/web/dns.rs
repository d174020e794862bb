//! A name server on a UDP socket, and a resolver that asks it: names that answer what a test wants, each time anew.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use harness::workers::web::Lookup;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// A line of the zone.
#[derive(Debug, Clone)]
pub(super) enum Record {
    Address(IpAddr),
    /// Another name, whose records follow.
    Alias(&'static str),
}

/// An address of a zone.
pub(super) fn address(text: &str) -> Record {
    Record::Address(text.parse().unwrap())
}

/// The server; it is gone when this is dropped.
pub(super) struct Dns {
    address: SocketAddr,
    /// Names that were asked for their IPv4 addresses.
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

type Zone = dyn Fn(&str, usize) -> Vec<Record> + Send + Sync;

impl Dns {
    /// `zone` has a name and how often it was asked before.
    pub(super) async fn start(zone: impl Fn(&str, usize) -> Vec<Record> + Send + Sync + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(socket, Box::new(zone), Arc::clone(&asked)));
        Self {
            address,
            asked,
            _tasks: tasks,
        }
    }

    pub(super) fn lookup(&self) -> Arc<dyn Lookup> {
        Arc::new(Resolver(self.address))
    }

    /// Names that were looked up so far, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(socket: UdpSocket, zone: Box<Zone>, asked: Arc<Mutex<Vec<String>>>) {
    let mut buffer = [0; 512];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            return;
        };
        let query = &buffer[..length];
        let (name, end) = read_name(query, 12);
        let kind = number(query, end);
        let before = {
            let mut asked = asked.lock().unwrap();
            // A pair of questions is one look-up; the first of them is for IPv4.
            let before = asked.iter().filter(|known| **known == name).count();
            if kind == A {
                asked.push(name.clone());
                before
            } else {
                before - 1
            }
        };
        let records = zone(&name, before);
        let mut reply = query[..2].to_vec();
        reply.extend([0x81, 0x80, 0, 1]);
        let mut answers = Vec::new();
        let mut owner = name;
        let mut count = 0_u16;
        for record in records {
            let (of, data) = match &record {
                Record::Alias(name) => (CNAME, encode(name)),
                Record::Address(IpAddr::V4(address)) => (A, address.octets().to_vec()),
                Record::Address(IpAddr::V6(address)) => (AAAA, address.octets().to_vec()),
            };
            if of != CNAME && of != kind {
                continue;
            }
            answers.extend(encode(&owner));
            answers.extend(of.to_be_bytes());
            answers.extend([0, 1, 0, 0, 0, 0]);
            answers.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            answers.extend(data);
            count += 1;
            if let Record::Alias(name) = record {
                owner = name.to_owned();
            }
        }
        reply.extend(count.to_be_bytes());
        reply.extend([0, 0, 0, 0]);
        reply.extend(&query[12..end + 4]);
        reply.extend(answers);
        socket.send_to(&reply, client).await.unwrap();
    }
}

/// Asks for both kinds of address, as a stub resolver does; the server follows aliases.
#[derive(Debug)]
struct Resolver(SocketAddr);

impl Lookup for Resolver {
    fn addresses(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let (server, name) = (self.0, name.to_owned());
        async move {
            let mut found = ask(server, &name, A).await?;
            found.extend(ask(server, &name, AAAA).await?);
            Ok(found)
        }
        .boxed()
    }
}

async fn ask(server: SocketAddr, name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(server).await?;
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(encode(name));
    query.extend(kind.to_be_bytes());
    query.extend([0, 1]);
    socket.send(&query).await?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).await?;
    let reply = &buffer[..length];
    let (_, end) = read_name(reply, 12);
    let mut at = end + 4;
    let mut found = Vec::new();
    for _ in 0..number(reply, 6) {
        let (_, end) = read_name(reply, at);
        let (kind, length) = (number(reply, end), usize::from(number(reply, end + 8)));
        let data = &reply[end + 10..end + 10 + length];
        match kind {
            A => found.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).unwrap()).into()),
            AAAA => found.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).unwrap()).into()),
            _ => {}
        }
        at = end + 10 + length;
    }
    Ok(found)
}

fn encode(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

/// A name, and where it ends.
fn read_name(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(message[at]);
        at += 1;
        if length == 0 {
            return (labels.join("."), at);
        }
        labels.push(String::from_utf8(message[at..at + length].to_vec()).unwrap());
        at += length;
    }
}

fn number(message: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([message[at], message[at + 1]])
}

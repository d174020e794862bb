//! A TCP proxy that spoils what passes it: splits, delays, withholds and cuts. It never changes, drops or doubles a byte
//! of a connection that goes on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::Either;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing.
    Pass,
    /// They arrive in single bytes and odd pieces, each sent by itself.
    Split,
    /// They arrive later.
    Delay(Duration),
    /// They do not arrive while this lasts; the sockets stay open.
    Hole,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the target.
    Up,
    /// From the target.
    Down,
}

/// How a connection ends, at both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a FIN, as when a process exits.
    Fin,
    /// With a RST, as when a machine is gone.
    Rst,
}

/// Listens on a free port and passes on to a target.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Ends when it is dropped, with all connections.
    _accepting: JoinSet<()>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    mode: watch::Sender<Mode>,
    /// The latest cut; connections see those that come while they are open.
    cut: watch::Sender<End>,
    /// Bytes that may still pass before the cut, per way.
    left: [Mutex<Option<(usize, End)>>; 2],
    is_shut: AtomicBool,
    open: AtomicUsize,
}

/// Counts an open connection.
struct Opened<'a>(&'a AtomicUsize);

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            mode: watch::Sender::new(Mode::Pass),
            cut: watch::Sender::new(End::Fin),
            left: Default::default(),
            is_shut: AtomicBool::new(false),
            open: AtomicUsize::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            _accepting: accepting,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens to bytes, on open connections too.
    pub(crate) fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Ends all open connections now.
    pub(crate) fn cut(&self, end: End) {
        self.shared.cut.send_replace(end);
    }

    /// Lets so many more bytes pass one way, then ends the connection that sent them.
    pub(crate) fn cut_after(&self, way: Way, bytes: usize, end: End) {
        *self.shared.left[way as usize].lock().unwrap() = Some((bytes, end));
    }

    /// Ends all open connections and lets nobody in any more.
    pub(crate) fn shut(&self, end: End) {
        self.shared.is_shut.store(true, Ordering::Release);
        self.cut(end);
    }

    /// Lets connections in again.
    pub(crate) fn reopen(&self) {
        self.shared.is_shut.store(false, Ordering::Release);
    }

    /// New connections go there.
    pub(crate) fn retarget(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        // Before the look: a cut behind it is seen.
        let (cut, shared) = (shared.cut.subscribe(), Arc::clone(&shared));
        if shared.is_shut.load(Ordering::Acquire) {
            finish(&client, End::Rst);
            continue;
        }
        connections.spawn(async move { carry(client, cut, &shared).await });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(mut client: TcpStream, mut cut: watch::Receiver<End>, shared: &Shared) {
    let _opened = Opened::new(&shared.open);
    let target = *shared.target.lock().unwrap();
    let Ok(mut server) = TcpStream::connect(target).await else {
        return finish(&client, End::Rst);
    };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let end = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let up = pump(from_client, to_server, Way::Up, shared);
        let down = pump(from_server, to_client, Way::Down, shared);
        tokio::select! {
            end = both(up, down) => end,
            Ok(()) = cut.changed() => Some(*cut.borrow()),
        }
    };
    for socket in [&client, &server] {
        finish(socket, end.unwrap_or(End::Fin));
    }
}

/// Until both ways are at their end, or one of them ends the connection.
async fn both(up: impl Future<Output = Option<End>>, down: impl Future<Output = Option<End>>) -> Option<End> {
    tokio::pin!(up, down);
    match futures::future::select(up, down).await {
        Either::Left((None, other)) => other.await,
        Either::Right((None, other)) => other.await,
        Either::Left((end, _)) | Either::Right((end, _)) => end,
    }
}

/// One way, to its end; `Some` when that ends the connection.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    shared: &Shared,
) -> Option<End> {
    let mut buffer = vec![0; 64 * 1024];
    let mut mode = shared.mode.subscribe();
    loop {
        let Ok(read) = from.read(&mut buffer).await else {
            return Some(End::Rst);
        };
        if read == 0 {
            // The other side may have closed altogether.
            to.shutdown().await.ok();
            return None;
        }
        let how = *mode.wait_for(|mode| *mode != Mode::Hole).await.ok()?;
        let (passing, end) = shared.allow(way, read);
        if pass(&mut to, &buffer[..passing], how).await.is_err() {
            return Some(End::Rst);
        }
        if end.is_some() {
            return end;
        }
    }
}

async fn pass(to: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8], how: Mode) -> std::io::Result<()> {
    match how {
        Mode::Pass | Mode::Hole => to.write_all(bytes).await,
        Mode::Delay(time) => {
            tokio::time::sleep(time).await;
            to.write_all(bytes).await
        }
        Mode::Split => {
            // Single bytes where frames are small, larger pieces so that large ones end.
            for size in [1; 16]
                .into_iter()
                .chain([3, 1, 7, 1, 61, 1, 251, 2, 1021, 1, 4093].into_iter().cycle())
            {
                if bytes.is_empty() {
                    break;
                }
                let (piece, rest) = bytes.split_at(bytes.len().min(size));
                to.write_all(piece).await?;
                to.flush().await?;
                tokio::task::yield_now().await;
                bytes = rest;
            }
            Ok(())
        }
    }
}

fn finish(socket: &TcpStream, end: End) {
    if end == End::Rst {
        socket.set_zero_linger().unwrap();
    }
}

impl Shared {
    /// How much of what came may pass, and whether that is all.
    fn allow(&self, way: Way, bytes: usize) -> (usize, Option<End>) {
        let mut left = self.left[way as usize].lock().unwrap();
        match *left {
            Some((allowed, end)) if allowed <= bytes => {
                *left = None;
                (allowed, Some(end))
            }
            Some((allowed, end)) => {
                *left = Some((allowed - bytes, end));
                (bytes, None)
            }
            None => (bytes, None),
        }
    }
}

impl<'a> Opened<'a> {
    fn new(open: &'a AtomicUsize) -> Self {
        open.fetch_add(1, Ordering::AcqRel);
        Self(open)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

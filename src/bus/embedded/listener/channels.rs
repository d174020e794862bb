//! Sockets of data channels (contract 00 §8): frames pass one by one, in order, and a full channel holds its writer up.

use futures::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::socket::{self, CloseCode, Socket};
use crate::bus::embedded::Core;
use crate::bus::socket::{Inward, inward, outward};
use crate::bus::{ChannelReader, ChannelWriter, Frame};

/// From the socket into the channel, until either side ends. What was taken is delivered even after the socket is gone.
pub(super) async fn write(core: &Core, mut socket: Socket, writer: ChannelWriter) {
    while let Some(frame) = next(core, &mut socket, &writer).await {
        let sent = tokio::select! {
            sent = writer.send(frame) => sent,
            () = core.listener.stopping() => break,
        };
        if sent.is_err() {
            // The reader is gone; the socket is dropped, as the iii engine does.
            return;
        }
    }
    // The reader sees the end now, not after the farewell.
    drop(writer);
    close(&mut socket).await;
}

/// The next frame from the socket; `None` when there is no more.
async fn next(core: &Core, socket: &mut Socket, writer: &ChannelWriter) -> Option<Frame> {
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = writer.closed() => return None,
            () = core.listener.stopping() => return None,
        };
        match inward(message?) {
            Inward::Frame(frame) => return Some(frame),
            Inward::Nothing => {}
            Inward::End => return None,
        }
    }
}

/// From the channel to the socket; a Close after the last frame.
pub(super) async fn read(core: &Core, socket: Socket, mut reader: ChannelReader) {
    let (mut sink, mut stream) = socket.split();
    let sending = async {
        while let Some(frame) = reader.next().await {
            let Some(message) = outward(frame) else {
                return;
            };
            if socket::send(&mut sink, message).await.is_err() {
                return;
            }
        }
    };
    // Reading answers pings and shows at once that the other side has gone.
    let watching = async {
        while let Some(Ok(message)) = stream.next().await {
            if message.is_close() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = sending => {}
        () = watching => {}
        () = core.listener.stopping() => {}
    }
    // The writer learns now that nobody reads any more.
    drop(reader);
    // Refused when the other side has closed first.
    sink.send(socket::close(CloseCode::Normal, "")).await.ok();
    await_end(stream).await;
}

/// An end that somebody else has.
pub(super) async fn refuse(mut socket: Socket) {
    close(&mut socket).await;
}

async fn close(socket: &mut Socket) {
    // Refused when the other side has closed first.
    socket.send(socket::close(CloseCode::Normal, "")).await.ok();
    await_end(socket).await;
}

/// Waits for the other side's Close, so that ours is not lost with the connection.
async fn await_end(mut stream: impl futures::Stream<Item = Result<Message, socket::Error>> + Unpin) {
    let end = async { while let Some(Ok(_)) = stream.next().await {} };
    // Late or not, it is over.
    tokio::time::timeout(socket::FAREWELL, end).await.ok();
}

//! Ends of engine channels (contract 00 §8), on sockets of their own.
//!
//! Not through the SDK: its reader hands text to callbacks that cannot wait, so a slow reader would pile frames up without
//! a bound, tells text and bytes apart only by losing their order, and loses the socket when a read is cancelled; its
//! writer does not see that the reader has gone and sleeps before it closes.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use url::Url;

use super::super::socket::{self, Inward, inward, outward};
use super::greet::{self, Socket};
use super::{Core, IiiOptions};
use crate::bus::transport::no_channel;
use crate::bus::{CallFuture, ChannelReader, ChannelWriter, Frame};
use crate::error::{Error, Result};
use crate::model::api::provider::ChannelRef;

/// Frames that wait between a task of ours and its socket.
const BUFFER: usize = 64;

/// Most time to open an end.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// How long the other side may take to answer our Close.
const FAREWELL: Duration = Duration::from_secs(1);

/// Opens the writing end.
pub(super) fn writer(core: &Arc<Core>, channel: &ChannelRef) -> CallFuture<ChannelWriter> {
    let (core, channel) = (Arc::clone(core), channel.clone());
    let url = address(&core.options, &channel, "write");
    async move {
        let socket = open(&core, &url?, &channel).await?;
        let (writer, frames) = ChannelWriter::remote(BUFFER);
        core.bus()?.spawn(write(socket, frames));
        Ok(writer)
    }
    .boxed()
}

/// Opens the reading end.
pub(super) fn reader(core: &Arc<Core>, channel: &ChannelRef) -> CallFuture<ChannelReader> {
    let (core, channel) = (Arc::clone(core), channel.clone());
    let url = address(&core.options, &channel, "read");
    async move {
        let socket = open(&core, &url?, &channel).await?;
        let (frames, reader) = ChannelReader::remote(BUFFER);
        core.bus()?.spawn(read(socket, frames));
        Ok(reader)
    }
    .boxed()
}

/// Address of one end. What the engine's own address asks for, such as a token, is kept.
fn address(options: &IiiOptions, channel: &ChannelRef, direction: &str) -> Result<Url> {
    let mut url = Url::parse(&options.url)
        .map_err(|error| Error::Unavailable(format!("engine address {}: {error}", options.shown_url())))?;
    url.path_segments_mut()
        .map_err(|()| Error::Unavailable(format!("engine address {} has no path", options.shown_url())))?
        .pop_if_empty()
        .extend(["ws", "channels", channel.channel_id.as_str()]);
    url.query_pairs_mut()
        .append_pair("key", &channel.access_key)
        .append_pair("dir", direction);
    Ok(url)
}

async fn open(core: &Core, url: &Url, channel: &ChannelRef) -> Result<Socket> {
    let opening = greet::open(url.as_str(), core.options.token.as_ref());
    match tokio::time::timeout(OPEN_WITHIN, opening).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(SocketError::Http(response))) if response.status() == 404 => Err(no_channel(channel)),
        Ok(Err(error)) => Err(Error::Unavailable(format!(
            "channel: {}",
            greet::refusal_of(&error)
        ))),
        Err(_) => Err(Error::Unavailable("channel: the engine did not answer".into())),
    }
}

/// From the process to the socket, until the writer is dropped or the socket ends.
async fn write(socket: Socket, mut frames: mpsc::Receiver<Frame>) {
    let (mut sink, mut stream) = socket.split();
    let sending = async {
        while let Some(message) = frames.recv().await.and_then(outward) {
            if socket::send(&mut sink, message).await.is_err() {
                return false;
            }
        }
        true
    };
    // Reading answers pings and shows at once that the channel is over.
    let watching = async {
        while let Some(message) = stream.next().await {
            if matches!(inward(message), Inward::End) {
                return;
            }
        }
    };
    let is_complete = tokio::select! {
        biased;
        complete = sending => complete,
        () = watching => false,
    };
    if is_complete && sink.send(Message::Close(None)).await.is_ok() {
        // So that nothing on its way is lost with the connection.
        let end = async { while let Some(Ok(_)) = stream.next().await {} };
        tokio::time::timeout(FAREWELL, end).await.ok();
    }
}

/// From the socket to the process, one frame at a time: while nobody takes them, none is read.
async fn read(mut socket: Socket, frames: mpsc::Sender<Frame>) {
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = frames.closed() => break,
        };
        match message.map_or(Inward::End, inward) {
            Inward::Frame(frame) => {
                if frames.send(frame).await.is_err() {
                    break;
                }
            }
            Inward::Nothing => {}
            Inward::End => break,
        }
    }
    socket.close(None).await.ok();
}

//! A body, unpacked and up to a cap (contract 05 §4, weakness 8). What it unpacks to is what counts, and it is unpacked piece
//! by piece: a small body that would become a large one is cut like any other.

use std::io;

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder};
use futures::TryStreamExt;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio_util::io::StreamReader;

use super::headers;
use crate::http;

/// The most encodings on top of each other that are taken off.
const LAYERS: usize = 3;

/// How much larger than what it unpacks to a body may be on its way, in bytes. Encodings have parts that unpack to nothing: one
/// made of them would keep a decoder busy long after the call is over, above all when another encoding packs it to almost
/// nothing.
const OVERHEAD: usize = 64 * 1024;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) is_truncated: bool,
}

type Source = Box<dyn AsyncBufRead + Send + Unpin>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Gzip,
    Deflate,
    Brotli,
}

/// Reads exactly `cap` bytes at most; more of them is said, and left on the connection, which is closed.
///
/// # Errors
/// The connection broke, or the body is not what its headers say.
pub(super) async fn read(response: Response, cap: usize, unpack: bool) -> Result<Body, String> {
    let encodings = if unpack {
        encodings(response.headers())?
    } else {
        Vec::new()
    };
    let chunks = response
        .bytes_stream()
        .map_err(|error| io::Error::other(http::explain(error)));
    let source: Source = Box::new(StreamReader::new(chunks));
    read_from(source, &encodings, cap)
        .await
        .map_err(|error| format!("the body could not be read: {error}"))
}

async fn read_from(mut source: Source, encodings: &[Encoding], cap: usize) -> io::Result<Body> {
    for encoding in encodings {
        source = Box::new(source.take(bytes_u64(cap.saturating_mul(2).saturating_add(OVERHEAD))));
        source = unpacked(source, *encoding).await?;
    }
    let mut bytes = Vec::new();
    let one_more = bytes_u64(cap.saturating_add(1));
    source.take(one_more).read_to_end(&mut bytes).await?;
    let is_truncated = bytes.len() > cap;
    bytes.truncate(cap);
    Ok(Body { bytes, is_truncated })
}

fn bytes_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The source without its outermost encoding. An empty body is empty whatever it is said to be.
async fn unpacked(mut source: Source, encoding: Encoding) -> io::Result<Source> {
    let Some(first) = source.fill_buf().await?.first().copied() else {
        return Ok(source);
    };
    Ok(match encoding {
        Encoding::Gzip => Box::new(BufReader::new(GzipDecoder::new(source))),
        Encoding::Brotli => Box::new(BufReader::new(BrotliDecoder::new(source))),
        // Meant to be zlib; some servers leave its frame away, whose first byte no raw stream begins with.
        Encoding::Deflate if first & 0x0f == 8 => Box::new(BufReader::new(ZlibDecoder::new(source))),
        Encoding::Deflate => Box::new(BufReader::new(DeflateDecoder::new(source))),
    })
}

/// The encodings of a body, the outermost first. None when one of them is unknown: what cannot be taken off whole stays.
fn encodings(answered: &HeaderMap) -> Result<Vec<Encoding>, String> {
    let mut found = Vec::new();
    for value in answered.get_all(CONTENT_ENCODING) {
        for name in headers::text(value).split(',') {
            match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => {}
                "gzip" | "x-gzip" => found.push(Encoding::Gzip),
                "deflate" => found.push(Encoding::Deflate),
                "br" => found.push(Encoding::Brotli),
                _ => return Ok(Vec::new()),
            }
        }
    }
    if found.len() > LAYERS {
        return Err(format!(
            "the body is packed {} times, more than {LAYERS} are not unpacked",
            found.len()
        ));
    }
    found.reverse();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::bufread::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder};
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use tokio::io::AsyncRead;

    use super::*;

    async fn all(mut reader: impl AsyncRead + Unpin) -> Vec<u8> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    async fn packed(kind: &str, plain: &[u8]) -> Vec<u8> {
        match kind {
            "gzip" => all(GzipEncoder::new(plain)).await,
            "br" => all(BrotliEncoder::new(plain)).await,
            "zlib" => all(ZlibEncoder::new(plain)).await,
            _ => all(DeflateEncoder::new(plain)).await,
        }
    }

    /// Arrives in pieces of this size.
    fn source(bytes: &[u8], piece: usize) -> Source {
        let pieces: Vec<_> = bytes
            .chunks(piece)
            .map(|piece| Ok::<_, io::Error>(bytes::Bytes::copy_from_slice(piece)))
            .collect();
        Box::new(StreamReader::new(futures::stream::iter(pieces)))
    }

    const KINDS: [(&str, Encoding); 4] = [
        ("gzip", Encoding::Gzip),
        ("br", Encoding::Brotli),
        ("zlib", Encoding::Deflate),
        ("raw", Encoding::Deflate),
    ];

    #[tokio::test]
    async fn w8_every_encoding_and_every_piece_size() {
        let plain: Vec<u8> = (0..3_000_u32).flat_map(|n| (n * 7 % 251).to_be_bytes()).collect();
        for (kind, encoding) in KINDS {
            let packed = packed(kind, &plain).await;
            for piece in [1, 7, 4096] {
                let body = read_from(source(&packed, piece), &[encoding], plain.len())
                    .await
                    .unwrap();
                assert!(!body.is_truncated && body.bytes == plain, "{kind} {piece}");
            }
            let body = read_from(source(&packed, 64), &[encoding], 100).await.unwrap();
            assert_eq!(
                (body.bytes.as_slice(), body.is_truncated),
                (&plain[..100], true),
                "{kind}"
            );
        }
    }

    #[tokio::test]
    async fn a_bomb_is_cut_and_a_bomb_in_a_bomb_too() {
        let zeros = vec![0; 32 << 20];
        let once = packed("gzip", &zeros).await;
        let twice = packed("gzip", &once).await;
        assert!(once.len() < 64 << 10 && twice.len() < 1 << 10);
        for (bytes, encodings) in [
            (&once, &[Encoding::Gzip][..]),
            (&twice, &[Encoding::Gzip, Encoding::Gzip][..]),
        ] {
            let body = read_from(source(bytes, 1024), encodings, 1_000).await.unwrap();
            assert_eq!((body.bytes.len(), body.is_truncated), (1_000, true));
            // Nothing is set aside for what might come.
            assert!(body.bytes.capacity() < 100_000);
        }
    }

    /// Millions of empty blocks: nothing comes out that a cap could count.
    #[tokio::test]
    async fn a_body_that_unpacks_to_nothing_is_given_up() {
        let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        let end = [&[1, 0, 0, 255, 255][..], &[0; 8]].concat();
        let with = |blocks: usize| [&head[..], &[0, 0, 0, 255, 255].repeat(blocks), &end].concat();
        for (blocks, is_read) in [(0, true), (10_000, true), (20_000, false)] {
            let once = with(blocks);
            let twice = packed("br", &once).await;
            for (bytes, encodings) in [
                (&once, &[Encoding::Gzip][..]),
                (&twice, &[Encoding::Brotli, Encoding::Gzip][..]),
            ] {
                let read = read_from(source(bytes, 4096), encodings, 1_000).await;
                assert_eq!(read.is_ok_and(|body| body.bytes.is_empty()), is_read, "{blocks}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_such_encoding_is_an_error_and_nothing_is_nothing() {
        for (_, encoding) in KINDS {
            let empty = read_from(source(b"", 1), &[encoding], 10).await.unwrap();
            assert_eq!(empty.bytes, b"");
            assert!(
                read_from(source(b"\xffplain text", 64), &[encoding], 100)
                    .await
                    .is_err()
            );
        }
        let cut: Vec<u8> = packed("gzip", &[7; 100]).await.into_iter().take(15).collect();
        assert!(
            read_from(source(&cut, 64), &[Encoding::Gzip], 1_000)
                .await
                .is_err()
        );
    }

    #[test]
    fn headers_name_the_encodings() {
        let of = |values: &[&str]| {
            let pairs = values
                .iter()
                .map(|value| (CONTENT_ENCODING, value.parse().unwrap()));
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name, value);
            }
            encodings(&headers)
        };
        assert_eq!(of(&[]), Ok(vec![]));
        assert_eq!(of(&["identity"]), Ok(vec![]));
        assert_eq!(of(&["X-GZIP"]), Ok(vec![Encoding::Gzip]));
        assert_eq!(of(&["gzip, br"]), Ok(vec![Encoding::Brotli, Encoding::Gzip]));
        assert_eq!(
            of(&["deflate", "br"]),
            Ok(vec![Encoding::Brotli, Encoding::Deflate])
        );
        assert_eq!(of(&["gzip, zstd"]), Ok(vec![]));
        assert!(of(&["gzip,gzip,gzip,gzip"]).is_err());
    }

    proptest! {
        /// The cap is exact, whatever the body and however it arrives.
        #[test]
        fn the_cap_is_exact(plain in proptest::collection::vec(any::<u8>(), 0..300), cap in 1_usize..300, piece in 1_usize..50, kind in 0..5_usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let body = runtime.block_on(async {
                match KINDS.get(kind) {
                    Some((kind, encoding)) => {
                        let packed = packed(kind, &plain).await;
                        read_from(source(&packed, piece), &[*encoding], cap).await.unwrap()
                    }
                    None => read_from(source(&plain, piece), &[], cap).await.unwrap(),
                }
            });
            prop_assert_eq!(body.is_truncated, plain.len() > cap);
            prop_assert_eq!(body.bytes, plain.into_iter().take(cap).collect::<Vec<_>>());
        }
    }
}

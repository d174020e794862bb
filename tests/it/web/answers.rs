//! Bodies: packed, in other charsets, cut.

use async_compression::tokio::bufread::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pretty_assertions::assert_eq;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Rig;
use super::site::{Site, answer};
use crate::support::three_ways;

three_ways! {
    w8_packed_text_is_readable_and_packed_bytes_are_raw,
    w9_charsets_and_whole_characters,
}

async fn all(mut reader: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.unwrap();
    bytes
}

async fn w8_packed_text_is_readable_and_packed_bytes_are_raw() {
    let plain = "{\"text\": \"grüße\"}".as_bytes();
    let packed = [
        ("gzip", all(GzipEncoder::new(plain)).await),
        ("x-gzip", all(GzipEncoder::new(plain)).await),
        ("deflate", all(ZlibEncoder::new(plain)).await),
        ("Deflate", all(DeflateEncoder::new(plain)).await),
        ("br", all(BrotliEncoder::new(plain)).await),
        (
            "gzip, br",
            all(BrotliEncoder::new(all(GzipEncoder::new(plain)).await.as_slice())).await,
        ),
    ];
    let site = Site::start({
        let packed = packed.clone();
        move |asked| {
            let (encoding, bytes) = &packed[asked.rest().parse::<usize>().unwrap()];
            answer("200 OK", &[("content-encoding", encoding)], bytes)
        }
    })
    .await;
    let t = Rig::start().await;
    for (at, (encoding, bytes)) in packed.iter().enumerate() {
        let headers = json!({ "accept-encoding": "gzip, deflate, br" });
        let mut request =
            json!({ "url": site.url(&format!("/{at}")), "headers": headers, "response_format": "json" });
        let reply = t.fetch(request.clone()).await;
        assert_eq!(reply["json"], json!({ "text": "grüße" }), "{encoding}");
        assert_eq!(reply["headers"]["content-encoding"], *encoding);
        request["response_format"] = json!("base64");
        assert_eq!(
            t.fetch(request).await["body"],
            STANDARD.encode(bytes),
            "{encoding}"
        );
    }
    let asked = site.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("accept-encoding") == Some("gzip, deflate, br"))
    );
    t.stop().await;
}

async fn w9_charsets_and_whole_characters() {
    let site = Site::start(|asked| match asked.path.as_str() {
        "/latin" => answer(
            "200 OK",
            &[("content-type", "text/html; charset=iso-8859-1")],
            b"caf\xe9",
        ),
        "/head" => answer("200 OK", &[("content-encoding", "gzip")], b""),
        _ => answer("200 OK", &[], "漢字".as_bytes()),
    })
    .await;
    let t = Rig::start().await;
    assert_eq!(t.get(&site.url("/latin")).await["body"], "café");
    assert_eq!(t.get(&site.url("/head")).await["body"], "");
    for (max_bytes, body, truncated) in [
        (2, "", true),
        (3, "漢", true),
        (5, "漢", true),
        (6, "漢字", false),
    ] {
        let reply = t
            .fetch(json!({ "url": site.url("/"), "max_bytes": max_bytes }))
            .await;
        assert_eq!(
            (&reply["body"], &reply["bytes_truncated"]),
            (&json!(body), &json!(truncated))
        );
    }
    t.stop().await;
}

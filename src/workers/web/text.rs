//! Bytes of a body as text (contract 05 weakness 9).

use encoding_rs::{Encoding, UTF_8};

/// The text, in the charset that the content type names, else UTF-8; a byte order mark beats both and is no part of it.
/// What is no text becomes U+FFFD. A truncated body ends with its last whole character.
pub(super) fn decode(bytes: Vec<u8>, content_type: &str, is_truncated: bool) -> String {
    let encoding = charset(content_type).unwrap_or(UTF_8);
    let has_mark = Encoding::for_bom(&bytes).is_some();
    let bytes = if encoding == UTF_8 && !has_mark {
        // Almost always, and without a copy.
        match String::from_utf8(bytes) {
            Ok(text) => return text,
            Err(error) => error.into_bytes(),
        }
    } else {
        bytes
    };
    let mut decoder = encoding.new_decoder();
    let mut text = String::new();
    let most = decoder.max_utf8_buffer_length(bytes.len());
    text.reserve(most.unwrap_or(bytes.len() * 3));
    // All of it fits, and what is wrong is replaced: nothing is left to be told.
    let (_, _, _) = decoder.decode_to_string(&bytes, &mut text, !is_truncated);
    text.shrink_to_fit();
    text
}

/// The first `most_bytes` of a text, or a little less: whole characters. True when something was cut.
pub(super) fn cut(text: &mut String, most_bytes: usize) -> bool {
    if text.len() <= most_bytes {
        return false;
    }
    text.truncate(text.floor_char_boundary(most_bytes));
    true
}

/// The media type of a content type, in small letters and without parameters.
pub(super) fn media_type(content_type: &str) -> String {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().to_ascii_lowercase()
}

fn charset(content_type: &str) -> Option<&'static Encoding> {
    let parameters = content_type.split(';').skip(1);
    let charset = parameters
        .filter_map(|parameter| parameter.split_once('='))
        .find_map(|(name, value)| {
            name.trim()
                .eq_ignore_ascii_case("charset")
                .then(|| value.trim().trim_matches('"'))
        });
    // Labels that stand for "do not decode" count as unknown.
    Encoding::for_label_no_replacement(charset?.as_bytes())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn w9_charsets() {
        for (bytes, content_type, expected) in [
            (&b"caf\xc3\xa9"[..], "text/html", "café"),
            (b"caf\xe9", "text/html; charset=ISO-8859-1", "café"),
            (b"caf\xe9", "text/html;charset=\"latin1\"; x=y", "café"),
            (b"\x82\xa0", "text/html; Charset=Shift_JIS", "あ"),
            (b"\xff\xfea\0", "text/html; charset=utf-8", "a"),
            (b"a\0b\0", "text/plain; charset=utf-16le", "ab"),
            (b"\xef\xbb\xbf{}", "application/json", "{}"),
            (b"caf\xe9!", "text/html", "caf\u{fffd}!"),
            (b"caf\xc3\xa9", "text/html; charset=nonsense", "café"),
            (b"caf\xc3\xa9", "text/html; charset=iso-2022-kr", "café"),
            (b"", "", ""),
        ] {
            assert_eq!(
                decode(bytes.to_vec(), content_type, false),
                expected,
                "{content_type}"
            );
        }
    }

    #[test]
    fn a_cut_text_ends_with_a_whole_character() {
        let text = "aé漢🦀".as_bytes();
        let whole = [1, 1, 3, 3, 3, 6, 6, 6, 6, 10];
        for (at, len) in (1..=text.len()).zip(whole) {
            let (head, _) = text.split_at(at);
            assert_eq!(decode(head.to_vec(), "", true).as_bytes(), &text[..len], "{at}");
            let mut copy = "aé漢🦀".to_owned();
            assert_eq!((cut(&mut copy, at), copy.len()), (at < 10, len));
        }
        // Without a cut, half a character is what the server sent.
        assert_eq!(decode(b"a\xc3".to_vec(), "", false), "a\u{fffd}");
    }

    #[test]
    fn media_types() {
        for (content_type, expected) in [("Text/HTML; charset=x", "text/html"), (" a/b ", "a/b"), ("", "")] {
            assert_eq!(media_type(content_type), expected);
        }
    }

    proptest! {
        /// Never a part of a character at the end, and never more than what there was.
        #[test]
        fn truncated_text_is_a_prefix(text in ".{0,40}", at in 0_usize..160) {
            prop_assume!(!text.starts_with('\u{feff}'));
            let head: Vec<u8> = text.bytes().take(at).collect();
            let decoded = decode(head, "text/plain", true);
            prop_assert!(text.starts_with(&decoded));
            prop_assert!(decoded.len() + 4 > at.min(text.len()));
        }
    }
}

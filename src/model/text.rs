//! Text of unknown length in messages for people.

use std::borrow::Cow;

/// Longest id the program keeps, in bytes, where its owner sets no smaller limit.
pub const MAX_ID_BYTES: usize = 1024;

/// At most `max_chars` characters of a text, with an ellipsis where it was cut.
pub fn clip(text: &str, max_chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => Cow::Owned(text.get(..end).unwrap_or_default().to_owned() + "…"),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn cut_between_characters_only() {
        for (text, clipped) in [("", ""), ("ab", "ab"), ("éàü", "éà…"), ("🦀🦀", "🦀🦀")] {
            assert_eq!(clip(text, 2), clipped);
        }
    }
}

//! Escapes outside classes, and the characters that escapes stand for.

use super::Translator;
use super::class::set;

const BOUNDARY: &str = r"(?-u:\b)";
const NO_BOUNDARY: &str = r"(?-u:\B)";
/// The same without inline flags, which the backtracking engine lacks.
const BOUNDARY_BY_LOOKING: &str = "(?:(?<=[0-9A-Z_a-z])(?![0-9A-Z_a-z])|(?<![0-9A-Z_a-z])(?=[0-9A-Z_a-z]))";
const NO_BOUNDARY_BY_LOOKING: &str =
    "(?:(?<=[0-9A-Z_a-z])(?=[0-9A-Z_a-z])|(?<![0-9A-Z_a-z])(?![0-9A-Z_a-z]))";

impl Translator<'_> {
    pub(super) fn escape(&mut self) -> Result<(), String> {
        let c = self.next().ok_or("the pattern ends in `\\`")?;
        match c {
            'b' => self.boundary(BOUNDARY, BOUNDARY_BY_LOOKING),
            'B' => self.boundary(NO_BOUNDARY, NO_BOUNDARY_BY_LOOKING),
            'k' if self.names.iter().any(Option::is_some) => {
                if !self.eat("<") {
                    return Err("`\\k` without a name".into());
                }
                let name = self.group_name()?;
                let number = self.names.iter().position(|known| known.as_ref() == Some(&name));
                let number = number.ok_or_else(|| format!("no group is named `{name}`"))?;
                self.reference(number + 1);
            }
            '1'..='9' => {
                let start = self.at - 1;
                self.at = start;
                let number = self.decimal().and_then(|digits| digits.parse().ok());
                match number {
                    Some(number) if number <= self.names.len() => self.reference(number),
                    _ => {
                        self.at = start + 1;
                        let unit = self.legacy_octal(c);
                        self.unit(unit);
                    }
                }
            }
            c => {
                if let Some((negated, members)) = set(c) {
                    let text = format!("[{}{members}]", if negated { "^" } else { "" });
                    self.atom(&text);
                } else {
                    let unit = self.character_escape(c, false);
                    self.unit(unit);
                }
            }
        }
        Ok(())
    }

    fn boundary(&mut self, linear: &str, by_looking: &str) {
        self.assertion(if self.backtracking { by_looking } else { linear });
    }

    /// A group that has no value matches nothing at all, not no text, in our engine; ECMAScript wants no text.
    fn reference(&mut self, number: usize) {
        self.needs_backtracking = true;
        if self.closed.get(number - 1).copied().unwrap_or(false) {
            let text = format!(r"(?:(?({number})\{number}|))");
            self.atom(&text);
        } else {
            self.atom("(?:|)");
        }
    }

    /// Code unit of an escape that stands for one character.
    pub(super) fn character_escape(&mut self, c: char, in_class: bool) -> u32 {
        match c {
            't' => 0x09,
            'n' => 0x0a,
            'v' => 0x0b,
            'f' => 0x0c,
            'r' => 0x0d,
            'b' if in_class => 0x08,
            '0'..='7' => self.legacy_octal(c),
            'x' => self.hex(2).unwrap_or('x' as u32),
            'u' => self.utf16().unwrap_or('u' as u32),
            'c' => match self.peek() {
                Some(letter)
                    if letter.is_ascii_alphabetic()
                        || (in_class && (letter.is_ascii_digit() || letter == '_')) =>
                {
                    self.at += 1;
                    u32::from(letter) % 32
                }
                // The backslash is then a character of its own, and so is the `c`.
                _ => {
                    self.at -= 1;
                    u32::from('\\')
                }
            },
            c => u32::from(c),
        }
    }

    fn legacy_octal(&mut self, first: char) -> u32 {
        let Some(mut value) = first.to_digit(8) else {
            return u32::from(first);
        };
        for _ in 0..2 {
            match self.peek().and_then(|c| c.to_digit(8)) {
                Some(digit) if value * 8 + digit <= 0o377 => {
                    value = value * 8 + digit;
                    self.at += 1;
                }
                _ => break,
            }
        }
        value
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text = self.chars.get(self.at..self.at + digits)?;
        let value = text
            .iter()
            .try_fold(0, |value, c| Some(value * 16 + c.to_digit(16)?))?;
        self.at += digits;
        Some(value)
    }

    /// `XXXX` after `\u`; two that form a surrogate pair are one character.
    fn utf16(&mut self) -> Option<u32> {
        let high = self.hex(4)?;
        let start = self.at;
        if (0xd800..0xdc00).contains(&high) && self.eat("\\u") {
            match self.hex(4) {
                Some(low) if (0xdc00..0xe000).contains(&low) => {
                    return Some(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                }
                _ => self.at = start,
            }
        }
        Some(high)
    }
}

//! Function ids with wildcards (contract 03 §3.2 item 2).

/// Characters that `*` does not run over, as in ECMAScript.
const LINE_TERMINATORS: [char; 4] = ['\n', '\r', '\u{2028}', '\u{2029}'];

/// An exact function id, or one in which `*` stands for any run of characters, `::` and none included, but no line
/// terminator. All other characters stand for themselves, and the whole id must fit.
///
/// ```
/// use harness::rules::IdPattern;
/// assert!(IdPattern::new("shell::*").matches("shell::fs::ls"));
/// assert!(!IdPattern::new("shell::*").matches("Xshell::ls"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPattern {
    text: Box<str>,
    /// None when the text has no star, and is the id.
    glob: Option<Glob>,
}

/// Lines of the pattern with the terminators between them. Since `*` crosses no terminator, each line of the pattern must
/// fit the same line of the id. Nearly always there is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob {
    lines: Vec<Line>,
    terminators: Vec<char>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Exact(Box<str>),
    /// What is between the stars: the leftmost place is always a right one for a middle piece.
    Pieces {
        prefix: Box<str>,
        middle: Box<[Box<str>]>,
        suffix: Box<str>,
    },
}

impl IdPattern {
    /// Reads a pattern; every text is one.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            glob: text.contains('*').then(|| Glob {
                lines: text.split(LINE_TERMINATORS).map(Line::new).collect(),
                terminators: terminators(text).collect(),
            }),
        }
    }

    /// Whether the whole id fits.
    pub fn matches(&self, id: &str) -> bool {
        let Some(Glob { lines, terminators }) = &self.glob else {
            return *self.text == *id;
        };
        match lines.as_slice() {
            [line] => line.matches(id) && !id.contains(LINE_TERMINATORS),
            lines => {
                terminators.iter().copied().eq(self::terminators(id))
                    && lines
                        .iter()
                        .zip(id.split(LINE_TERMINATORS))
                        .all(|(line, text)| line.matches(text))
            }
        }
    }

    /// Whether surely every id that fits `other` fits this too: it fits the text of `other`, whose stars only a star can
    /// have run over.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.matches(&other.text)
    }

    /// What every id that fits begins with, as far as that is quick to tell.
    pub(super) fn prefix(&self) -> &str {
        match &self.glob {
            None => &self.text,
            Some(glob) => match glob.lines.as_slice() {
                [Line::Pieces { prefix, .. }] => prefix,
                _ => "",
            },
        }
    }

    /// The id, when the pattern has no `*`.
    pub(super) fn exact(&self) -> Option<&str> {
        self.glob.is_none().then_some(&*self.text)
    }
}

fn terminators(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| LINE_TERMINATORS.contains(c))
}

impl Line {
    fn new(text: &str) -> Self {
        let Some((prefix, rest)) = text.split_once('*') else {
            return Self::Exact(text.into());
        };
        let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        Self::Pieces {
            prefix: prefix.into(),
            middle: middle
                .split('*')
                .filter(|piece| !piece.is_empty())
                .map(Into::into)
                .collect(),
            suffix: suffix.into(),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(line) => **line == *text,
            Self::Pieces {
                prefix,
                middle,
                suffix,
            } => text
                .strip_prefix(&**prefix)
                .and_then(|rest| rest.strip_suffix(&**suffix))
                .is_some_and(|rest| in_order(middle, rest)),
        }
    }
}

fn in_order(pieces: &[Box<str>], text: &str) -> bool {
    let mut rest = text;
    pieces.iter().all(|piece| match rest.split_once(&**piece) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn p5_whole_ids_only() {
        let shell = IdPattern::new("shell::*");
        let exec = IdPattern::new("shell::exec");
        for (id, glob, exact) in [
            ("shell::exec", true, true),
            ("shell::", true, false),
            ("shell::exec::more", true, false),
            ("shell::exec ", true, false),
            ("shell::exec\0", true, false),
            ("shell::exec/", true, false),
            (" shell::exec", false, false),
            ("Shell::exec", false, false),
            ("SHELL::EXEC", false, false),
            ("shell:exec", false, false),
            ("shell", false, false),
            ("xshell::exec", false, false),
            ("\u{455}hell::exec", false, false),
            ("shell::\u{435}xec", true, false),
            ("shell::exec\u{200b}", true, false),
            ("shell::exec\n", false, false),
            ("shell::exec\r", false, false),
            ("shell::exec\u{2028}", false, false),
            ("shell::exec\u{2029}", false, false),
            ("", false, false),
        ] {
            assert_eq!((shell.matches(id), exec.matches(id)), (glob, exact), "{id:?}");
        }
    }

    #[test]
    fn stars_do_not_overlap_their_neighbours() {
        assert!(!IdPattern::new("ab*ba").matches("aba"));
        assert!(IdPattern::new("ab*ba").matches("abba"));
        assert!(IdPattern::new("a*b*c").matches("abbc"));
        assert!(!IdPattern::new("a*bb*b").matches("abb"));
        assert!(IdPattern::new("**").matches(""));
        assert!(!IdPattern::new("*").matches("\n"));
    }

    /// The rule as written down: the ECMAScript `^…$` with `.*` for each star.
    fn naive(pattern: &[char], id: &[char]) -> bool {
        match pattern.split_first() {
            None => id.is_empty(),
            Some(('*', rest)) => {
                let run = id.iter().take_while(|c| !LINE_TERMINATORS.contains(c)).count();
                (0..=run).any(|skip| naive(rest, id.get(skip..).unwrap_or_default()))
            }
            Some((c, rest)) => id
                .split_first()
                .is_some_and(|(first, id)| first == c && naive(rest, id)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn agrees_with_the_naive_matcher(pattern in "[ab:*\n\u{2028}é]{0,8}", id in "[ab:\n\r\u{2028}é]{0,10}") {
            let naive = naive(&pattern.chars().collect::<Vec<_>>(), &id.chars().collect::<Vec<_>>());
            prop_assert_eq!(IdPattern::new(&pattern).matches(&id), naive);
        }

        #[test]
        fn what_a_covered_pattern_fits_the_covering_one_fits(
            wide in "[ab*\n]{0,4}",
            narrow in "[ab*\n]{0,5}",
            ids in proptest::collection::vec("[ab\n]{0,6}", 20),
        ) {
            let (wide, narrow) = (IdPattern::new(&wide), IdPattern::new(&narrow));
            let is_covered = wide.covers(&narrow);
            for id in ids.iter().filter(|id| is_covered && narrow.matches(id)) {
                prop_assert!(wide.matches(id), "{id:?}");
            }
        }
    }
}

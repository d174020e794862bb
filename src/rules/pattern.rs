//! A `matches` pattern, ready to run (contract 03 §3.2 item 5, weakness 10).

use super::ecma;

/// Steps of the backtracking engine times bytes of the text, before it gives up. It counts each place where it turns back;
/// between two of them it usually runs over the text once at most, so that this bounds the work.
const MOST_WORK: usize = 50_000_000;

/// The same for short texts, where steps count more than bytes.
const MOST_STEPS: usize = 200_000;

/// Longest text that the backtracking engine searches, bytes.
const MAX_TEXT: usize = 32 * 1024;

/// The number of steps is compiled in: a pattern is compiled once for texts up to each of these lengths, bytes.
const LENGTHS: [usize; 4] = [250, 2_000, 4_900, MAX_TEXT];

/// Memory of one compiled pattern, bytes.
const SIZE_LIMIT: usize = 4 * 1024 * 1024;

/// A compiled pattern with its source.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    source: Box<str>,
    engine: Engine,
}

#[derive(Debug, Clone)]
enum Engine {
    /// Time linear in the text, whatever the pattern.
    Linear(regex::Regex),
    /// For lookaround and backreferences only.
    Backtracking(Vec<(usize, fancy_regex::Regex)>),
}

/// Outcome of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Somewhere in the text.
    Yes,
    /// Nowhere.
    No,
    /// A limit came first.
    Unknown,
}

impl Pattern {
    /// Compiles an ECMAScript pattern, or says what is wrong with it.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        let translated = ecma::translate(source)?;
        let engine = if translated.backtracking {
            let compiled = LENGTHS.map(|length| {
                let regex = fancy_regex::RegexBuilder::new(&translated.text)
                    .backtrack_limit(MOST_STEPS.min(MOST_WORK / length))
                    .delegate_size_limit(SIZE_LIMIT)
                    .build();
                regex.map(|regex| (length, regex))
            });
            let compiled: Result<_, _> = compiled.into_iter().collect();
            Engine::Backtracking(compiled.map_err(|error: fancy_regex::Error| error.to_string())?)
        } else {
            regex::RegexBuilder::new(&translated.text)
                .size_limit(SIZE_LIMIT)
                .build()
                .map(Engine::Linear)
                .map_err(|error| last_line(&error.to_string()))?
        };
        Ok(Self {
            source: source.into(),
            engine,
        })
    }

    /// The pattern as written.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether any text is searched in time linear in its length.
    pub(super) fn is_linear(&self) -> bool {
        match self.engine {
            Engine::Linear(_) => true,
            Engine::Backtracking(_) => false,
        }
    }

    /// Searches a text.
    pub(super) fn search(&self, text: &str) -> Found {
        let found = match &self.engine {
            Engine::Linear(regex) => Some(regex.is_match(text)),
            Engine::Backtracking(compiled) => compiled
                .iter()
                .find(|(length, _)| text.len() <= *length)
                .and_then(|(_, regex)| regex.is_match(text).ok()),
        };
        match found {
            Some(true) => Found::Yes,
            Some(false) => Found::No,
            None => Found::Unknown,
        }
    }
}

/// The engine draws the pattern over several lines first; the translated pattern would only confuse.
fn last_line(text: &str) -> String {
    text.lines().next_back().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn found(pattern: &str, text: &str) -> Found {
        Pattern::new(pattern)
            .unwrap_or_else(|error| panic!("{pattern}: {error}"))
            .search(text)
    }

    /// Pattern, texts it is found in, texts it is not found in; the answers are those of an ECMAScript engine.
    type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

    fn check(rows: &[Row]) {
        for (pattern, yes, no) in rows {
            for text in *yes {
                assert_eq!(found(pattern, text), Found::Yes, "/{pattern}/ in {text:?}");
            }
            for text in *no {
                assert_eq!(found(pattern, text), Found::No, "/{pattern}/ in {text:?}");
            }
        }
    }

    #[test]
    fn classes_are_those_of_ecmascript() {
        check(&[
            (r"^\d$", &["0", "9"], &["\u{661}", "\u{ff11}", "a", ""]),
            (r"^\D$", &["\u{661}", "a", "\n"], &["5"]),
            (
                r"^\w$",
                &["a", "Z", "_", "7"],
                &["é", "ß", "\u{17f}", "\u{212a}", "-"],
            ),
            (r"^\W$", &["é", "-", " "], &["a", "_"]),
            (
                r"^\s$",
                &[
                    " ", "\t", "\n", "\u{b}", "\u{c}", "\r", "\u{a0}", "\u{1680}", "\u{2000}", "\u{200a}",
                    "\u{2028}", "\u{2029}", "\u{202f}", "\u{205f}", "\u{3000}", "\u{feff}",
                ],
                &["\u{85}", "\u{180e}", "\u{200b}", "\u{1c}", "x"],
            ),
            (r"^\S$", &["\u{85}", "\u{200b}"], &["\u{feff}", "\u{b}"]),
            (r"^[\d\s]+$", &["1 2\u{feff}"], &["1a"]),
            (r"^[^\d]$", &["\u{661}"], &["1"]),
            (r"^[\D]$", &["a"], &["1"]),
            (r"^[^\D]$", &["1"], &["a"]),
            (r"^[\W_]$", &["_", "é"], &["a"]),
            (
                r"^.$",
                &["x", "\u{85}", "\u{b}"],
                &["\n", "\r", "\u{2028}", "\u{2029}"],
            ),
            (r"\bcat\b", &["a cat!", "écaté", "cat"], &["cats", "_cat"]),
            (r"a\Bb", &["ab"], &["a b"]),
            (r"^\B$", &[""], &["a"]),
            (r"^a$", &["a"], &["a\n", "b\na"]),
        ]);
    }

    #[test]
    fn odd_syntax_means_what_ecmascript_says() {
        check(&[
            (r"^[[]$", &["["], &["[]"]),
            (r"^[a&&b]$", &["a", "&", "b"], &["c"]),
            (r"^[+--]$", &["+", ",", "-"], &["."]),
            (r"^[--0]$", &["-", ".", "/", "0"], &["1", ","]),
            (r"^[a~~b]$", &["~"], &["c"]),
            (r"^[\w-]$", &["-", "a"], &["+"]),
            (r"^[a-\d]$", &["a", "-", "5"], &["b"]),
            (r"^[]$|x", &["x"], &["", "]"]),
            (r"^[^]$", &["\n", "é"], &[""]),
            (r"^[\b]$", &["\u{8}"], &["b"]),
            (r"^[\]\\^-]$", &["]", "\\", "^", "-"], &["["]),
            (r"^[^^]$", &["a"], &["^"]),
            (r"^\u0041\x42$", &["AB"], &["ab"]),
            (r"^\u{3}$", &["uuu"], &["\u{3}"]),
            (r"^\p{2}$", &["pp"], &["a"]),
            (r"^\p{L}$", &["p{L}"], &["a"]),
            (r"^\a\e\z$", &["aez"], &["\u{7}ez"]),
            (r"^\A$", &["A"], &[""]),
            (r"^\cJ$", &["\n"], &["J"]),
            (r"^\c1$", &["\\c1"], &["1"]),
            (r"^[\c1]$", &["\u{11}"], &["c"]),
            (r"^\101\0$", &["A\0"], &["101"]),
            (r"^\8$", &["8"], &[""]),
            (r"^\/tmp\/", &["/tmp/x"], &["tmp/"]),
            (r"^{,2}$", &["{,2}"], &["^"]),
            (r"^a{,2}$", &["a{,2}"], &["aa", ""]),
            (r"^a{2}$", &["aa"], &["a", "aaa"]),
            (r"^a{2,}$", &["aa", "aaaa"], &["a"]),
            (r"^a{1,2}?$", &["a", "aa"], &["aaa"]),
            (r"^}]$", &["}]"], &[""]),
            (r"^\uD83D\uDE00$", &["\u{1f600}"], &["\u{1f601}"]),
            (r"^\uD83D$|ok", &["ok"], &["\u{1f600}"]),
            (r"^[\u0000-\uFFFF]+$", &["a\u{1f600}"], &[""]),
            (r"^(a|)b$", &["ab", "b"], &["a"]),
            (r"", &["", "x"], &[]),
            (r"#x -&~", &["#x -&~"], &["#x"]),
        ]);
    }

    #[test]
    fn lookaround_and_references_work() {
        check(&[
            (
                r"^(?!.*--force)git push",
                &["git push origin"],
                &["git push --force"],
            ),
            (r"(?<!sudo )rm", &["rm x"], &["sudo rm x"]),
            (r"(?<=a+)b$", &["aab"], &["b"]),
            (r"^(?=.*\d)(?=.*[a-z&-]).+$", &["a1", "&1"], &["a", "1"]),
            (r"^(['\x22])x\1$", &["'x'", "\"x\""], &["'x\""]),
            (r"^(?<q>['\x22])x\k<q>$", &["'x'"], &["'x\""]),
            (r"^(?:(a)|b)\1$", &["aa", "b"], &["ba"]),
            (r"^\1(a)$", &["a"], &["aa"]),
            (r"^(a\1)$", &["a"], &["aa"]),
            (r"(?=x)\bx\b", &["x", "éxé"], &["xx"]),
            (r"(?!z)a\Bb", &["ab"], &["a b"]),
            (r"^(?!x)[\]\[\\^&~-]+$", &["][\\^&~-"], &["x"]),
            (r"^(?!x)[--0]$", &["-", "0"], &["1"]),
            (r"^(?!x)[^\d\s]$", &["a"], &["1", "\u{feff}"]),
            (r"^(?!x).$", &["a"], &["\u{2028}"]),
        ]);
    }

    #[test]
    fn what_ecmascript_refuses_is_refused() {
        for pattern in [
            "(",
            ")",
            "a)",
            "[",
            "[a",
            "*",
            "+a",
            "a**",
            "a++",
            "a?+",
            "^*",
            r"\b+",
            "|*",
            "(*)",
            "(?<=a)+",
            "a{2,1}",
            "a{2}{3}",
            "{2}",
            "[b-a]",
            "[a--]",
            "\\",
            "[\\",
            "(?i)a",
            "(?P<n>a)",
            "(?>a)",
            "(?#c)",
            "(?<>a)",
            "(?<n>a)(?<n>b)",
            r"(?<n>a)\k<m>",
            r"(?<n>a)\k",
            "(?",
        ] {
            assert!(Pattern::new(pattern).is_err(), "/{pattern}/");
        }
        assert!(Pattern::new(&"(".repeat(200_000)).is_err());
        assert!(Pattern::new(&format!("{}a{}", "(".repeat(51), ")".repeat(51))).is_err());
        assert!(Pattern::new("((a{1000}){1000}){1000}").is_err());
    }

    #[test]
    fn hopeless_searches_are_linear_or_give_up() {
        // Ruinous for a backtracking engine, so none of them may meet one.
        for pattern in [
            "^(a+)+b$",
            "^(a|aa)+b$",
            "^(a|a?)+b$",
            "(.*)*b",
            "(a*)*(a*)*(a*)*b",
            "^(([a-z])+.)+b$",
            r"^(\w+\s?)*b$",
        ] {
            assert!(Pattern::new(pattern).unwrap().is_linear(), "{pattern}");
            assert_eq!(found(pattern, &"a".repeat(100_000)), Found::No, "{pattern}");
        }
        for pattern in [
            r"^(?:(a+)+)(?!a)\1b$",
            r"^(?=(a+)+b)",
            r"(a*)*(?=b)\1",
            r"(?<!x)(a|aa)+\1b$",
        ] {
            assert!(!Pattern::new(pattern).unwrap().is_linear(), "{pattern}");
            let found = found(pattern, &"a".repeat(200));
            assert!(found != Found::Yes, "{pattern}");
        }
        assert_eq!(found(r"^(?:(a+)+)(?!a)\1b$", &"a".repeat(40)), Found::Unknown);
        // The longer the text, the fewer steps: what remains of quadratic work is bounded.
        let quantified = r"^(?:(?=a*y)a)*b";
        for (length, expected) in [
            (2_000, Found::No),
            (MAX_TEXT, Found::Unknown),
            (MAX_TEXT + 1, Found::Unknown),
        ] {
            let text = format!("{}y", "a".repeat(length - 1));
            assert_eq!(found(quantified, &text), expected, "{length}");
        }
        for (length, expected) in [(4_800, Found::Yes), (MAX_TEXT, Found::Unknown)] {
            let text = format!("{}x", "b".repeat(length - 1));
            assert_eq!(found("(?<!a)x", &text), expected, "{length}");
        }
        // A pattern that can match in one place only needs no steps to find it.
        let long = "a".repeat(MAX_TEXT);
        assert_eq!(found("^(?!.*--force)", &long), Found::Yes);
        assert_eq!(found("^(?!.*--force)", &format!("{long}a")), Found::Unknown);
    }

    #[test]
    fn large_counts_beside_lookaround_are_refused() {
        for pattern in [
            "(?<=((a{1000}){1000}){1000}b*)x",
            "(?=((a{1000}){1000}){1000})x",
            r"(a)\1{30000}",
            r"(?:(a)(?:bcd){0,7000})\1",
            "(?!x)a{99999999999999999999}",
        ] {
            let error = Pattern::new(pattern).unwrap_err();
            assert!(error.starts_with("too large: "), "{pattern}: {error}");
        }
        for pattern in [r"(?!x)a{1000}b{1000}", r"(?!x)(?:a{100}){100}"] {
            assert!(Pattern::new(pattern).is_ok(), "{pattern}");
        }
    }
}

//! Which paths a Rust file names. Enough of a reader for that: comments and literals are skipped, groups are expanded,
//! `super` is followed through inline modules.

/// A path as it is written, `["std", "env", "var"]`, with the module it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: Vec<String>,
    pub(super) module: Vec<String>,
}

impl Named {
    /// The path from the root of the crate; `None` for a path of another crate, or a relative one.
    pub(super) fn in_crate(&self, root: &str) -> Option<Vec<String>> {
        let first = self.path.first()?;
        let mut absolute = match first.as_str() {
            "super" | "self" => self.module.clone(),
            first if first == root => Vec::new(),
            _ => return None,
        };
        for part in &self.path {
            match part.as_str() {
                "super" => drop(absolute.pop()),
                "self" => {}
                part if part == root && absolute.is_empty() => {}
                part => absolute.push(part.to_owned()),
            }
        }
        Some(absolute)
    }

    pub(super) fn starts_with(&self, path: &str) -> bool {
        let mut parts = self.path.iter();
        path.split("::")
            .all(|part| parts.next().is_some_and(|own| own == part))
    }
}

/// All paths of a file that stands for `module`.
pub(super) fn paths(text: &str, module: &[String]) -> Vec<Named> {
    let tokens = tokens(text);
    let mut reader = Reader {
        tokens: &tokens,
        at: 0,
    };
    let mut found = Vec::new();
    let mut open: Vec<bool> = Vec::new(); // per open brace: whether it is a module's
    let mut module = module.to_vec();
    while let Some(token) = reader.next() {
        match token {
            "mod" if reader.peek(1) == Some("{") => {
                module.extend(reader.next().map(str::to_owned));
                reader.next();
                open.push(true);
            }
            "{" => open.push(false),
            "}" if open.pop() == Some(true) => drop(module.pop()),
            "use" => {
                let mut tree = Vec::new();
                reader.tree(&[], &mut tree);
                found.extend(tree.into_iter().map(|path| (path, module.clone())));
            }
            token if is_word(token) && reader.peek(0) == Some("::") => {
                reader.at -= 1;
                let mut tree = Vec::new();
                reader.tree(&[], &mut tree);
                found.extend(tree.into_iter().map(|path| (path, module.clone())));
            }
            _ => {}
        }
    }
    found
        .into_iter()
        .map(|(path, module)| Named { path, module })
        .collect()
}

struct Reader<'a> {
    tokens: &'a [String],
    at: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        Some(token)
    }

    fn peek(&self, ahead: usize) -> Option<&'a str> {
        self.tokens.get(self.at + ahead).map(String::as_str)
    }

    /// Reads `a::b`, `a::{b, c::d}`, `a::*`, each with an optional `as x`, behind a prefix.
    fn tree(&mut self, prefix: &[String], found: &mut Vec<Vec<String>>) {
        let mut path = prefix.to_vec();
        if self.peek(0) == Some("::") {
            self.at += 1;
        }
        loop {
            match self.peek(0) {
                Some("{") => return self.group(&path, found),
                Some(word) if is_word(word) => {
                    path.push(word.to_owned());
                    self.at += 1;
                }
                _ => break,
            }
            if self.peek(0) != Some("::") {
                break;
            }
            self.at += 1;
        }
        found.push(path);
    }

    fn group(&mut self, prefix: &[String], found: &mut Vec<Vec<String>>) {
        self.at += 1;
        loop {
            match self.peek(0) {
                None => return,
                Some("}") => {
                    self.at += 1;
                    return;
                }
                Some("," | "*" | "as") => self.at += 1,
                Some(_) => {
                    let before = self.at;
                    self.tree(prefix, found);
                    if self.at == before {
                        self.at += 1;
                    }
                }
            }
        }
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Words, `::` and single signs; comments and the insides of literals left out.
fn tokens(text: &str) -> Vec<String> {
    let text: Vec<char> = text.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < text.len() {
        match at(i) {
            '/' if at(i + 1) == '/' => i = skip(&text, i, |i| at(i) == '\n'),
            '/' if at(i + 1) == '*' => i = after_comment(&text, i),
            '"' => i = after_string(&text, i),
            '\'' => i = after_quote(&text, i),
            ':' if at(i + 1) == ':' => {
                tokens.push("::".to_owned());
                i += 2;
            }
            c if c.is_alphanumeric() || c == '_' => {
                let end = skip(&text, i, |i| !(at(i).is_alphanumeric() || at(i) == '_'));
                let word: String = text.iter().skip(i).take(end - i).collect();
                i = end;
                let is_raw_string = matches!(word.as_str(), "r" | "br" | "cr") && matches!(at(i), '"' | '#');
                match is_raw_string.then(|| after_raw_string(&text, i)).flatten() {
                    Some(end) => i = end,
                    None => tokens.push(word),
                }
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
                i += 1;
            }
        }
    }
    tokens
}

fn skip(text: &[char], from: usize, is_end: impl Fn(usize) -> bool) -> usize {
    (from..text.len()).find(|i| is_end(*i)).unwrap_or(text.len())
}

/// Block comments nest.
fn after_comment(text: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut i = from;
    while i < text.len() {
        match (text.get(i), text.get(i + 1)) {
            (Some('/'), Some('*')) => (depth, i) = (depth + 1, i + 2),
            (Some('*'), Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn after_string(text: &[char], from: usize) -> usize {
    let mut i = from + 1;
    while let Some(c) = text.get(i) {
        match c {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    text.len()
}

/// Behind `r`: hashes, a quote, anything, a quote, as many hashes. `None` for a raw name such as `r#type`.
fn after_raw_string(text: &[char], from: usize) -> Option<usize> {
    let open = skip(text, from, |i| text.get(i) != Some(&'#'));
    if text.get(open) != Some(&'"') {
        return None;
    }
    let hashes = open - from;
    let closes = |i: usize| {
        text.get(i) == Some(&'"')
            && text
                .iter()
                .skip(i + 1)
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
    };
    let close = skip(text, open + 1, closes);
    Some((close + 1 + hashes).min(text.len()))
}

/// A character literal is skipped, a lifetime is a sign.
fn after_quote(text: &[char], from: usize) -> usize {
    match (text.get(from + 1), text.get(from + 2)) {
        (Some('\\'), _) => skip(text, from + 3, |i| text.get(i) == Some(&'\'')) + 1,
        (Some(_), Some('\'')) => from + 3,
        _ => from + 1,
    }
}

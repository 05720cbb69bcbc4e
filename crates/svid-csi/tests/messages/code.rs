//! The texts of driver, approver and tools. The demo is not explained.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::rust_text::{Token, tokens};
use crate::{fixed_parts, trimmed};

#[derive(Debug)]
pub struct Message {
    pub text: String,
    #[expect(dead_code, reason = "it is printed")]
    file: PathBuf,
}

#[derive(Default)]
pub struct Code {
    pub messages: Vec<Message>,
    /// The ids of the findings that errors, events and log lines name.
    pub findings: BTreeSet<String>,
    /// All strings, a line each.
    texts: String,
    /// The fixed parts of all strings, short ones too.
    parts: HashSet<String>,
}

impl Code {
    pub fn read() -> Self {
        let mut code = Self::default();
        for folder in ["core", "svid-csi"] {
            code.read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src"));
        }
        code
    }

    fn read_folder(&mut self, folder: &Path) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.file_name().unwrap().to_str().unwrap() {
                "tests" | "tests.rs" | "demo" => {}
                _ if path.metadata().unwrap().is_dir() => self.read_folder(&path),
                name if name.ends_with(".rs") => self.read_file(&path),
                _ => {}
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        let file = fs::read_to_string(path).unwrap();
        let tokens = without_tests(&tokens(&file));
        for token in tokens.iter().filter(|token| token.is_string) {
            let text = text(token);
            self.parts.extend(in_pieces(&text).split('…').map(|part| trimmed(part).to_owned()));
            self.texts.push_str(&text);
            self.texts.push('\n');
        }
        for at in 0..tokens.len().saturating_sub(3) {
            if begins(&tokens[at..], &["finding", "!", "("]) && tokens[at + 3].is_string {
                self.findings.insert(text(&tokens[at + 3]));
            }
        }
        let messages = messages(&tokens).into_iter().map(|text| Message { text, file: path.to_owned() });
        self.messages.extend(messages);
    }

    /// Whether it has each fixed part of a documented message, between values and the pieces that messages are joined from.
    pub fn says(&self, message: &str) -> bool {
        let values = message.split(' ').map(|word| if is_value(word) { "…" } else { word });
        let message = in_pieces(&values.collect::<Vec<_>>().join(" "));
        fixed_parts(&message).into_iter().all(|part| self.texts.contains(part) || self.is_joined(part))
    }

    /// Whether a text is one or two whole parts.
    fn is_joined(&self, text: &str) -> bool {
        let mut ends = text.match_indices(' ').map(|(at, _)| at);
        self.parts.contains(text)
            || ends.any(|at| self.parts.contains(&text[..at]) && self.parts.contains(trimmed(&text[at..])))
    }
}

/// A text in the pieces that it may be joined from.
fn in_pieces(text: &str) -> String {
    text.replace("; ", "…").replace(": ", "…").replace(", ", "…")
}

/// A word that may be a constant in the code: a flag, a path, a key, a variable.
fn is_value(word: &str) -> bool {
    let inner = word.trim_end_matches(['.', ',', ':', ';', ')']);
    inner.contains(['/', '_', '.', '-'])
}

/// The text of a string, in which values are `…`, without backticks.
fn text(string: &Token<'_>) -> String {
    let inner = string.text.trim_start_matches(['r', '#']).trim_end_matches('#');
    let inner = inner[1..inner.len() - 1].replace('`', "");
    let (mut found, mut rest) = (String::new(), inner.chars().peekable());
    while let Some(c) = rest.next() {
        match c {
            '\\' if string.text.starts_with('"') => match rest.next() {
                Some('\n') => while rest.next_if(|c| c.is_whitespace()).is_some() {},
                Some('n') => found.push('\n'),
                other => found.extend(other),
            },
            '{' | '}' if rest.next_if_eq(&c).is_some() => found.push(c),
            '{' => {
                rest.by_ref().find(|c| *c == '}');
                found.push('…');
            }
            c => found.push(c),
        }
    }
    found
}

/// The tokens that are compiled into the program.
fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if begins(&tokens[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            at += 7;
            while !matches!(tokens[at].text, "{" | ";") {
                at += 1;
            }
            at += if tokens[at].text == "{" { length_of_group(&tokens[at..]) } else { 1 };
        } else {
            found.push(tokens[at]);
            at += 1;
        }
    }
    found
}

fn begins(tokens: &[Token<'_>], with: &[&str]) -> bool {
    tokens.len() >= with.len() && tokens.iter().zip(with).all(|(token, text)| token.text == *text)
}

/// How many tokens there are from a bracket to the one that closes it.
fn length_of_group(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0;
    let end = tokens.iter().position(|token| {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.unwrap() + 1
}

/// Errors, warnings and errors in the log, answers to calls, and events.
fn messages(tokens: &[Token<'_>]) -> Vec<String> {
    let constants: BTreeMap<_, _> = tokens.windows(6).filter_map(constant).collect();
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let rest = &tokens[at..];
        let group = |from: usize| &rest[from..from + length_of_group(&rest[from..])];
        if begins(rest, &["#", "[", "error", "("]) {
            found.extend(strings(group(3)).next());
        } else if begins(rest, &["warn", "!", "("]) || begins(rest, &["error", "!", "("]) {
            // The fields come before the message.
            found.extend(message_of_log(group(2)));
        } else if begins(rest, &["Status", "::"]) && rest[3].text == "(" {
            found.extend(strings(group(3)).next());
        } else if begins(rest, &["tell_pod", "("]) || begins(rest, &[".", "warn", "("]) {
            let of_event = group(rest.iter().position(|token| token.text == "(").unwrap());
            found.extend(strings(of_event));
            found.extend(of_event.iter().filter_map(|token| constants.get(token.text).cloned()));
        }
    }
    found
}

/// `NAME: &str = "text"`, with its name.
fn constant<'a>(tokens: &[Token<'a>]) -> Option<(&'a str, String)> {
    let is_one = begins(&tokens[1..], &[":", "&", "str", "="]) && tokens[5].is_string;
    is_one.then(|| (tokens[0].text, text(&tokens[5])))
}

fn strings<'a>(tokens: &'a [Token<'_>]) -> impl Iterator<Item = String> + 'a {
    tokens.iter().filter(|token| token.is_string).map(text)
}

/// The last of the arguments that are strings.
fn message_of_log(group: &[Token<'_>]) -> Option<String> {
    let (mut depth, mut found) = (0, None);
    for pair in group.windows(2) {
        match pair[0].text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 1 && pair[1].is_string && matches!(pair[0].text, "(" | ",") {
            found = Some(text(&pair[1]));
        }
    }
    found
}

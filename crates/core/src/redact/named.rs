//! Values of keys whose names say that they are secret, in JSON, YAML, logs, flags and URLs.

use std::ops::Range;

use super::MARK;

const WORDS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "apikey",
    "api-key",
    "api_key",
    "private-key",
    "private_key",
    "authorization",
];
/// Words in which a map or list of secrets ends.
const SEVERAL: [&str; 4] = ["passwords", "secrets", "tokens", "credentials"];
/// Values that say nothing.
const PLAIN: [&str; 3] = ["true", "false", "null"];
/// Words after which a credential follows.
const SCHEMES: [&str; 2] = ["bearer", "basic"];
const LONGEST_NAME: usize = 256;

pub(super) fn find(text: &str, spans: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for word in WORDS {
        let mut done = 0;
        for (at, _) in lower.match_indices(word) {
            // Words inside of a value that is removed already.
            if at >= done
                && let Some(span) = value(text, &lower, at, at + word.len())
            {
                done = span.end;
                spans.push(span);
            }
        }
    }
}

/// The value of the key of which `start..end` is a part.
fn value(text: &str, lower: &str, start: usize, end: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let before = bytes[..start].iter().rev().take(LONGEST_NAME).take_while(|byte| is_in_name(**byte)).count();
    let (name_start, name_end) =
        (start - before, end + bytes[end..].iter().take(LONGEST_NAME).take_while(|byte| is_in_name(**byte)).count());
    let quoted = name_end + quote(&text[name_end..]).map_or(0, str::len);
    let begins = separated(&text[quoted..], bytes[name_start] == b'-')? + quoted;
    let rest = &text[begins..];
    if rest.starts_with(MARK) {
        return None;
    }
    if let Some(quote) = quote(rest) {
        let value = begins + quote.len();
        return Some(value..value + quoted_length(&text[value..], quote));
    }
    if rest.starts_with(['[', '{']) {
        let is_several = SEVERAL.iter().any(|word| lower[..name_end].ends_with(word));
        return is_several.then(|| begins + 1..begins + balanced(rest));
    }
    let ends = |c: char| c.is_whitespace() || ",;&}])\"'<>\\`".contains(c);
    let word = |text: &str| text.find(ends).unwrap_or(text.len());
    let mut length = word(rest);
    if SCHEMES.contains(&rest[..length].to_ascii_lowercase().as_str()) {
        length += spaces(&rest[length..]);
        length += word(&rest[length..]);
    }
    (!PLAIN.contains(&&rest[..length])).then_some(begins..begins + length)
}

fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./".contains(&byte)
}

/// The quotation mark at the beginning, with the backslashes that JSON inside of JSON has before it.
fn quote(text: &str) -> Option<&str> {
    let backslashes = text.bytes().take_while(|byte| *byte == b'\\').count();
    let is_quote = matches!(text.as_bytes().get(backslashes), Some(b'"' | b'\''));
    is_quote.then(|| &text[..=backslashes])
}

/// Up to the quotation mark that closes this one, or to the end of the line. In each JSON that is inside of another, twice as
/// many backslashes and one more are before a quotation mark.
fn quoted_length(text: &str, quote: &str) -> usize {
    let (backslashes, mark) = (quote.len() - 1, quote.as_bytes()[quote.len() - 1]);
    let mut before = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\n' => return at,
            b'\\' => before += 1,
            byte if byte == mark && before % (2 * backslashes + 2) == backslashes => return at - backslashes,
            _ => before = 0,
        }
    }
    text.len()
}

/// How long the separator of a name and its value is: `=`, `:`, or spaces after a flag.
fn separated(text: &str, is_flag: bool) -> Option<usize> {
    let before = spaces(text);
    match text.as_bytes().get(before) {
        Some(b'=' | b':') => Some(before + 1 + spaces(&text[before + 1..])),
        _ => (is_flag && before > 0).then_some(before),
    }
}

fn spaces(text: &str) -> usize {
    text.bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

/// Up to the bracket that closes the first one, or to the end.
fn balanced(text: &str) -> usize {
    let (mut depth, mut inside, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' => {
                escaped = !escaped;
                continue;
            }
            b'"' if !escaped => inside = !inside,
            b'[' | b'{' if !inside => depth += 1,
            b']' | b'}' if !inside => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
        escaped = false;
    }
    text.len()
}

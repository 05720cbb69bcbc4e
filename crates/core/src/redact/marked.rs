//! Secrets that show what they are: PEM, JWTs, bearer tokens, credentials in URLs.

use std::ops::Range;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// The longest text in PEM that is followed.
const LONGEST_PEM: usize = 64 * 1024;
/// A shorter word is not a JWT, however it begins.
const SHORTEST_JWT: usize = 13;

pub(super) fn find(text: &str, spans: &mut Vec<Range<usize>>) {
    pem(text, spans);
    ends_of_pem(text, spans);
    jwts(text, spans);
    credentials(text, spans);
    urls(text, spans);
}

/// Private keys, whole or cut.
fn pem(text: &str, spans: &mut Vec<Range<usize>>) {
    let mut done = 0;
    for (start, _) in text.match_indices(BEGIN) {
        if start < done {
            continue;
        }
        let rest = &text[start + BEGIN.len()..];
        let Some(label) = rest.find(DASHES).filter(|label| *label < 64) else { continue };
        if !is_private(&rest[..label]) {
            continue;
        }
        let body = start + BEGIN.len() + label + DASHES.len();
        let covered = text[body..].bytes().take(LONGEST_PEM).take_while(|byte| is_in_pem(*byte)).count();
        let inside = &text[body..body + covered];
        let end = inside.find(END).map(|end| end + END.len()).and_then(|end| {
            let closing = inside[end..].find(DASHES)?;
            Some(end + closing + DASHES.len())
        });
        done = body + end.unwrap_or(covered);
        spans.push(start..done);
    }
}

/// The end of a private key whose beginning was cut off.
fn ends_of_pem(text: &str, spans: &mut Vec<Range<usize>>) {
    for (start, _) in text.match_indices(END) {
        let rest = &text[start + END.len()..];
        if !rest.find(DASHES).is_some_and(|label| label < 64 && is_private(&rest[..label])) {
            continue;
        }
        let is_body = |byte: &u8| is_in_pem(*byte) && *byte != b'-' && *byte != b':' && *byte != b',';
        let before = text.as_bytes()[..start].iter().rev().take(LONGEST_PEM).take_while(|byte| is_body(byte)).count();
        spans.push(start - before..start);
    }
}

fn is_private(label: &str) -> bool {
    label.contains("KEY") && !label.contains("PUBLIC")
}

/// Base64, line breaks that may be escaped, and the headers of encrypted keys.
fn is_in_pem(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=\\,:-".contains(&byte)
}

/// A JWT begins with `{"` in base64url. Its parts are removed even if some are missing.
fn jwts(text: &str, spans: &mut Vec<Range<usize>>) {
    let mut done = 0;
    for (start, _) in text.match_indices("eyJ") {
        if start < done {
            continue;
        }
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(byte);
        let length = text.as_bytes()[start..].iter().take_while(|byte| is_part(byte)).count();
        done = start + length;
        if length >= SHORTEST_JWT {
            spans.push(start..done);
        }
    }
}

/// The words after `Bearer` and `Basic`.
fn credentials(text: &str, spans: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for scheme in ["bearer", "basic"] {
        for (at, _) in lower.match_indices(scheme) {
            let after = at + scheme.len();
            let start = after + text[after..].bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            if start == after {
                continue;
            }
            let length = text[start..].bytes().take_while(|byte| is_in_credentials(*byte)).count();
            let word = &text[start..start + length];
            // Prose has shorter words, and tokens have more than letters.
            if length >= 8 && word.bytes().any(|byte| !byte.is_ascii_lowercase()) {
                spans.push(start..start + length);
            }
        }
    }
}

fn is_in_credentials(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

/// `user:password@` in a URL.
fn urls(text: &str, spans: &mut Vec<Range<usize>>) {
    for (at, _) in text.match_indices("://") {
        let start = at + 3;
        let ends = |c: char| c.is_whitespace() || "/?#\"'<>\\".contains(c);
        let authority = &text[start..start + text[start..].find(ends).unwrap_or(text.len() - start)];
        if let Some(user) = authority.rfind('@').filter(|user| authority[..*user].contains(':')) {
            spans.push(start..start + user);
        }
    }
}

//! Keys in DER and other secrets inside base64 and hexadecimal, and random text.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::has_secrets;

/// Shorter text is not decoded.
const SHORTEST: usize = 24;
/// Random text of this length has 160 bits or more in base64.
const SHORTEST_RANDOM: usize = 40;
/// A line of this length may continue on the next.
const SHORTEST_LINE: usize = 40;
/// Longer than the digests and serial numbers that a report needs.
const LONGEST_DIGEST: usize = 72;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn find(text: &str, depth: usize, spans: &mut Vec<Range<usize>>) {
    for run in runs(text) {
        let letters: Vec<u8> = run.iter().map(|at| text.as_bytes()[*at]).collect();
        for part in parts(&letters) {
            if is_secret(&letters[part.clone()], depth) {
                let end = run[part.end - 1] + 1;
                let padding = text.as_bytes()[end..].iter().take_while(|byte| **byte == b'=').count();
                spans.push(run[part.start]..end + padding);
            }
        }
    }
}

/// Where letters of base64 and base64url follow each other, perhaps with line breaks between long lines.
fn runs(text: &str) -> Vec<Vec<usize>> {
    let bytes = text.as_bytes();
    let (mut runs, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let mut run: Vec<usize> = Vec::new();
        loop {
            let length = bytes[at..].iter().take_while(|byte| is_letter(**byte)).count();
            run.extend(at..at + length);
            at += length;
            let pause = if length < SHORTEST_LINE { 0 } else { line_break(&bytes[at..]) };
            if pause == 0 {
                break;
            }
            at += pause;
        }
        if run.len() >= SHORTEST {
            runs.push(run);
        }
        at += 1;
    }
    runs
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte)
}

/// The length of a line break, escaped or not, with the indentation of the next line.
fn line_break(bytes: &[u8]) -> usize {
    let (mut length, mut is_break) = (0, false);
    loop {
        let rest = &bytes[length..];
        let spaces = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        is_break |= rest[..spaces].iter().any(|byte| b"\r\n".contains(byte));
        let rest = &rest[spaces..];
        let backslashes = rest.iter().take_while(|byte| **byte == b'\\').count();
        let is_escaped = backslashes > 0 && matches!(rest.get(backslashes), Some(b'n' | b'r'));
        if !is_escaped {
            return if is_break { length + spaces } else { 0 };
        }
        (length, is_break) = (length + spaces + backslashes + 1, true);
    }
}

/// The parts of a run that may be secrets by themselves: in either alphabet, and between the slashes of a path.
fn parts(letters: &[u8]) -> Vec<Range<usize>> {
    let whole = 0..letters.len();
    let mut parts = vec![whole];
    for between in [&b"-_"[..], b"+/", b"/"] {
        let mut start = 0;
        for end in (0..=letters.len()).filter(|at| letters.get(*at).is_none_or(|letter| between.contains(letter))) {
            if end - start >= SHORTEST && end - start < letters.len() {
                parts.push(start..end);
            }
            start = end + 1;
        }
    }
    parts
}

fn is_secret(letters: &[u8], depth: usize) -> bool {
    is_random(letters) || is_long_hex(letters) || (depth > 0 && decoded(letters).any(|bytes| holds(&bytes, depth - 1)))
}

/// Whether letters of all kinds alternate as they do in random base64, but not in names, paths and digests.
fn is_random(letters: &[u8]) -> bool {
    let of = |is: fn(&u8) -> bool| letters.iter().filter(|letter| is(letter)).count();
    let (upper, lower) = (of(u8::is_ascii_uppercase), of(u8::is_ascii_lowercase));
    let kind = |letter: u8| (letter.is_ascii_uppercase(), letter.is_ascii_lowercase(), letter.is_ascii_digit());
    let changes = letters.windows(2).filter(|pair| kind(pair[0]) != kind(pair[1])).count();
    let all = letters.len();
    all >= SHORTEST_RANDOM && upper * 6 >= all && lower * 6 >= all && changes * 5 >= all * 2
}

fn is_long_hex(letters: &[u8]) -> bool {
    letters.len() > LONGEST_DIGEST && letters.iter().all(u8::is_ascii_hexdigit)
}

/// What the letters may stand for: base64 that begins at any of them, or hexadecimal.
fn decoded(letters: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let standard: Vec<u8> = letters
        .iter()
        .map(|letter| match letter {
            b'-' => b'+',
            b'_' => b'/',
            letter => *letter,
        })
        .collect();
    let base64 = (0..4).filter_map(move |skipped| {
        let letters = standard.get(skipped..)?;
        // A single letter over stands for no byte.
        let letters = &letters[..letters.len() - usize::from(letters.len() % 4 == 1)];
        BASE64.decode(letters).ok()
    });
    let is_hex = letters.iter().all(u8::is_ascii_hexdigit);
    let hex = (0..2).filter(move |_| is_hex).map(move |skipped| {
        let digit = |letter: u8| char::from(letter).to_digit(16).unwrap_or_default();
        let pairs = letters[skipped..].chunks_exact(2);
        pairs.map(|pair| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).unwrap_or_default()).collect()
    });
    base64.chain(hex)
}

/// Whether the bytes have a private key in DER, or text with a secret.
fn holds(bytes: &[u8], depth: usize) -> bool {
    (0..bytes.len()).any(|at| begins_with_key(&bytes[at..]))
        || text_in(bytes).iter().any(|text| has_secrets(text, depth))
}

/// PKCS#8, PKCS#1, SEC 1 or PKCS#12: a sequence that begins with a version.
fn begins_with_key(der: &[u8]) -> bool {
    let header = match der {
        [0x30, length, ..] if *length < 0x80 => 2,
        [0x30, 0x81, ..] => 3,
        [0x30, 0x82, ..] => 4,
        [0x30, 0x83, ..] => 5,
        _ => return false,
    };
    let Some([0x02, 0x01, version, next, ..]) = der.get(header..) else { return false };
    matches!((version, next), (0 | 1, 0x30 | 0x02 | 0x04) | (3, 0x30))
}

/// The longer texts in the bytes.
fn text_in(bytes: &[u8]) -> Vec<Cow<'_, str>> {
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    bytes.split(|byte| !is_text(byte)).filter(|part| part.len() >= SHORTEST / 2).map(String::from_utf8_lossy).collect()
}

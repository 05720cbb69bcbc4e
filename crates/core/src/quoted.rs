//! Untrusted text, made safe for logs, conditions and events.

use std::fmt;

/// The maximum number of characters that are shown, without quotation marks and the mark of a cut.
pub const MAX_CHARACTERS: usize = 128;

/// A text from outside, shortened and escaped: any text prints as one line of printable ASCII in quotation marks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Quoted(Box<str>);

impl Quoted {
    /// Takes a text, or bytes that may be text.
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let mut shown = String::with_capacity(MAX_CHARACTERS);
        for byte in text.as_ref() {
            let escaped = byte.escape_ascii();
            if shown.len() + escaped.len() > MAX_CHARACTERS {
                return Self(format!("\"{shown}\"...").into());
            }
            shown.extend(escaped.map(char::from));
        }
        Self(format!("\"{shown}\"").into())
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text from outside, such as the error of a parser or a server: truncated, with unprintable characters escaped.
pub fn one_line(text: &str) -> String {
    const MOST: usize = 400;
    let printable =
        |c: char| if c == ' ' || c.is_ascii_graphic() { c.to_string() } else { c.escape_default().to_string() };
    let line: String = text.chars().take(MOST).map(printable).collect();
    if text.chars().nth(MOST).is_some() { line + "..." } else { line }
}

/// JSON in printable ASCII: the same values, and nothing that a terminal obeys. Whatever else is in valid JSON is in its
/// strings.
pub fn ascii_json(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\x7f' {
            ascii.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| ascii.push_str(&format!("\\u{unit:04x}")));
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_stays_the_same_in_ascii() {
        let value = serde_json::json!({"\u{9b}31m": ["\u{202e}\u{7f}\u{1f600}\n\u{fc}", 1]});
        let text = ascii_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic()), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn cuts_and_escapes() {
        for (text, shown) in [
            ("", r#""""#),
            ("cart", r#""cart""#),
            ("a\n\x1b[31m\"b\\", r#""a\n\x1b[31m\"b\\""#),
            ("\u{fc}\u{202e}", r#""\xc3\xbc\xe2\x80\xae""#),
        ] {
            assert_eq!(Quoted::new(text).to_string(), shown);
        }
        assert_eq!(Quoted::new("a".repeat(128)).to_string(), format!("\"{}\"", "a".repeat(128)));
        assert_eq!(Quoted::new("a".repeat(129)).to_string(), format!("\"{}\"...", "a".repeat(128)));
    }

    proptest! {
        #[test]
        fn is_always_one_short_line(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let shown = Quoted::new(&bytes).to_string();
            prop_assert!(shown.len() <= MAX_CHARACTERS + 5);
            prop_assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
}

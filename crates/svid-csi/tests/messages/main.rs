//! docs/messages.md has the messages of the code, and the code has those of docs/messages.md.
//!
//! Each message is compared by its fixed parts, which must be in one row of the page, in any order. It cannot see:
//!
//! - messages other than errors with `#[error]`, warnings and errors in the log, answers to calls, and events: above all
//!   mistakes in flags, texts that a `Display` writes, and texts that are made with `format!` and kept;
//! - whether the parts of a documented message are of one message in the code: each may be anywhere in it, and may be two texts
//!   that follow each other;
//! - parts of fewer than four letters, and values.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod code;
mod page;
#[path = "../rust_text/mod.rs"]
mod rust_text;

use self::code::Code;
use self::page::Page;

/// Messages of the system and of the API server.
const OF_OTHERS: [&str; 2] = ["Operation not permitted", "is forbidden: User"];

/// The parts of a message that are the same whenever it is reported.
fn fixed_parts(message: &str) -> Vec<&str> {
    let parts = message.split('…').map(trimmed);
    parts.filter(|part| part.chars().filter(char::is_ascii_alphabetic).count() >= 4).collect()
}

fn trimmed(part: &str) -> &str {
    part.trim_matches(|c: char| c.is_whitespace() || c.is_ascii_punctuation())
}

#[test]
fn every_message_of_the_code_has_a_row() {
    let (code, page) = (Code::read(), Page::read());
    assert!(code.messages.len() > 400, "the messages of the code are found: {}", code.messages.len());
    let missing: Vec<_> = code.messages.iter().filter(|message| !page.has(&message.text)).collect();
    assert!(missing.is_empty(), "docs/messages.md has no row with {missing:#?}");
}

#[test]
fn every_message_of_the_page_is_in_the_code() {
    let (code, page) = (Code::read(), Page::read());
    let messages: Vec<_> = page.messages().collect();
    assert!(messages.len() > 600, "the messages of the page are found: {}", messages.len());
    let stale = messages.iter().filter(|message| !OF_OTHERS.iter().any(|others| message.contains(others)));
    let stale: Vec<_> = stale.filter(|message| !code.says(message)).collect();
    assert!(stale.is_empty(), "the code no longer has what docs/messages.md explains: {stale:#?}");
}

#[test]
fn every_finding_that_a_message_names_is_linked_to() {
    let (code, page) = (Code::read(), Page::read());
    assert!(code.findings.len() > 15, "the findings of the code are found: {:?}", code.findings);
    let missing: Vec<_> = code.findings.iter().filter(|id| !page.leads_to(id)).collect();
    assert!(missing.is_empty(), "docs/messages.md has no row with a link to {missing:?}");
}

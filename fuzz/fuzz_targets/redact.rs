//! Text without what looks like a secret: a token or a key within any text does not appear, and the result is redacted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svid_csi_core::redact::{MARK, Redacted};

/// The payload of a private key in PEM.
const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgXyZpWvR1bM0qJ8tUe3nK";

// The first two bytes are a position: there a key is inserted in a line of its own.
fuzz_target!(|input: (u16, &str)| {
    let (at, text) = (usize::from(input.0), input.1);
    _ = Redacted::of(text).places();
    let at = (at.min(text.len())..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let (before, after) = text.split_at(at);
    let whole = format!("{before}\n-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n{after}");
    let redacted = Redacted::of(&whole);
    assert!(redacted.text().contains(MARK) && !redacted.text().contains(KEY), "{}", redacted.text());
});

//! The kubelet's tokens of a pod, and their claims: no error prints any part of a token.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use svid_csi_core::pod_token;

/// Occurs in every token that is read here, and nowhere else.
const MARK: &str = "c2VjcmV0LXNpZ25hdHVyZQ";

// A 0 is followed by the whole JSON, any other byte by the payload of one token.
fuzz_target!(|input: &[u8]| {
    match input {
        [0, text @ ..] => {
            let Ok(tokens) = pod_token::parse(&String::from_utf8_lossy(text)) else { return };
            for token in tokens.values() {
                let text = token.token.expose();
                assert!(text.len() < 20 || !format!("{token:?}").contains(text));
                _ = token.claims();
            }
        }
        [_, payload @ ..] => {
            let token = format!("e30.{}.{MARK}", URL_SAFE_NO_PAD.encode(payload));
            let until = "2026-01-31T12:00:00Z";
            let json = serde_json::json!({"vault": {"token": token, "expirationTimestamp": until}}).to_string();
            let whole = pod_token::parse(&json).expect("a token");
            let cut = pod_token::parse(&json[..json.len() - 1]).expect_err("it is cut short");
            let claims = whole["vault"].claims();
            let shown = format!("{whole:?} {cut} {cut:?} {claims:?}");
            assert!(!shown.contains(MARK) && claims.err().is_none_or(|error| !error.to_string().contains(&token)));
        }
        [] => {}
    }
});

//! The claims of a JWT-SVID. The token itself is not passed on, because it is equivalent to a password.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use svid_csi_proto::workload::Jwtsvid;
use zeroize::Zeroizing;

use crate::telemetry::report;

/// A requested token: its claims, or the reason why it is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FetchedToken {
    /// The requested audience.
    pub(super) audience: String,
    #[serde(flatten)]
    pub(super) answer: TokenOutcome,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum TokenOutcome {
    /// Its claims (JWT-SVID, section 3).
    Token { sub: String, aud: Vec<String>, exp: String, hint: String },
    /// It is missing.
    Missing { error: String },
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    exp: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl FetchedToken {
    /// The claims of the token. Its signature is not checked, because it comes directly from the server of its issuer.
    pub(super) fn of(audience: &str, svid: Jwtsvid) -> Self {
        let token = Zeroizing::new(svid.svid);
        let Some(Claims { sub, aud, exp }) = claims(&token) else {
            return Self::missing(audience, "the server sent something other than a JWT-SVID".to_owned());
        };
        let aud = match aud {
            Audience::One(audience) => vec![audience],
            Audience::Several(audiences) => audiences,
        };
        let exp = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(exp)).map(report::rfc3339).unwrap_or_default();
        Self { audience: audience.to_owned(), answer: TokenOutcome::Token { sub, aud, exp, hint: svid.hint } }
    }

    pub(super) fn missing(audience: &str, error: String) -> Self {
        Self { audience: audience.to_owned(), answer: TokenOutcome::Missing { error } }
    }
}

fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(claims: &str) -> FetchedToken {
        let svid = format!("e30.{}.signature", URL_SAFE_NO_PAD.encode(claims));
        FetchedToken::of("a", Jwtsvid { svid, ..Default::default() })
    }

    #[test]
    fn shows_the_claims_and_not_the_token() {
        for aud in [r#""b""#, r#"["b"]"#] {
            let seen = seen(&format!(r#"{{"sub":"spiffe://example.org/a","aud":{aud},"exp":1700000000}}"#));
            let json = serde_json::to_string(&seen).unwrap();
            let expected =
                r#"{"audience":"a","sub":"spiffe://example.org/a","aud":["b"],"exp":"2023-11-14T22:13:20Z","hint":""}"#;
            assert_eq!(json, expected);
        }
    }

    #[test]
    fn an_invalid_token_is_reported_without_its_text() {
        for claims in ["{}", "no JSON", r#"{"sub":"x","aud":"b","exp":"soon"}"#] {
            let TokenOutcome::Missing { error } = seen(claims).answer else { panic!("{claims} is a token") };
            assert!(!error.contains("signature"), "{error}");
        }
        let year_10000 = seen(r#"{"sub":"x","aud":"b","exp":253402300800}"#);
        assert!(matches!(year_10000.answer, TokenOutcome::Token { exp, .. } if exp == "253402300800 s since 1970"));
        let far = seen(&format!(r#"{{"sub":"x","aud":"b","exp":{}}}"#, u64::MAX));
        assert!(matches!(far.answer, TokenOutcome::Token { exp, .. } if exp.is_empty()));
    }
}

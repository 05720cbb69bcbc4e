//! The service account tokens in a request of the kubelet, and their claims about the pod.
//!
//! Signatures are not verified here: the API server does that when a token is used. The claims of a token must only
//! agree with the other facts about the pod. No error contains any text of a token.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::secret::Secret;
use crate::unix_time;

/// The maximum size of the JSON, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;

/// The longest name or UID in a claim, in bytes: that of a DNS subdomain.
const MAX_CLAIM_BYTES: usize = 253;

/// A token bound to a pod, for one audience.
#[derive(Debug, Clone)]
pub struct PodToken {
    /// The token, a JWT.
    pub token: Secret,
    /// When it expires, according to the kubelet.
    pub expiration: SystemTime,
}

/// Who a token is for: the `kubernetes.io` claim of a token that is bound to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `kubernetes.io.namespace`.
    pub namespace: String,
    /// `kubernetes.io.pod.name`.
    pub pod_name: String,
    /// `kubernetes.io.pod.uid`.
    pub pod_uid: String,
    /// `kubernetes.io.serviceaccount.name`.
    pub service_account: String,
    /// `kubernetes.io.serviceaccount.uid`.
    pub service_account_uid: String,
}

/// Why the tokens, or the claims of one, cannot be read. Names the field, and contains no text of a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PodTokenError {
    /// The JSON is over [`MAX_BYTES`].
    #[error("the tokens have {bytes} bytes, at most {MAX_BYTES} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not `{"<audience>": {"token": …, "expirationTimestamp": …}}`.
    #[error("the tokens are not a JSON object of audiences (line {line}, column {column})")]
    NotAnObject {
        /// The line, as reported by the JSON parser.
        line: usize,
        /// The column.
        column: usize,
    },
    /// A field of one of the tokens.
    #[error("{field} of the token for audience {audience:?} {problem}")]
    Field {
        /// The audience; cut off after 256 characters.
        audience: String,
        /// Which field.
        field: &'static str,
        /// The fault.
        problem: FieldProblem,
    },
    /// Not three parts of base64url with a JSON object in the second.
    #[error("the token is not a JWT with a JSON payload")]
    NotAJwt,
    /// A claim.
    #[error("the claim {claim} {problem}")]
    Claim {
        /// Which claim.
        claim: &'static str,
        /// The fault.
        problem: FieldProblem,
    },
}

/// A fault of a field or a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    /// Missing or empty.
    #[error("is missing")]
    Missing,
    /// Of another type.
    #[error("is not a string")]
    NotText,
    /// Longer than any name.
    #[error("is longer than {MAX_CLAIM_BYTES} bytes")]
    TooLong,
    /// Not RFC 3339.
    #[error("is not a time such as 2026-01-31T12:00:00Z")]
    NotATime,
}

/// Reads the tokens the kubelet sends, `{"<audience>": {"token": "…", "expirationTimestamp": "…"}}`, by audience.
///
/// # Errors
/// The fault, and its field.
pub fn parse(json: &str) -> Result<BTreeMap<String, PodToken>, PodTokenError> {
    if json.len() > MAX_BYTES {
        return Err(PodTokenError::TooLarge { bytes: json.len() });
    }
    // The parser's own message may quote the text that it could not read.
    let audiences: Map<String, Value> = serde_json::from_str(json)
        .map_err(|error| PodTokenError::NotAnObject { line: error.line(), column: error.column() })?;
    audiences.into_iter().map(|(audience, value)| Ok((audience.clone(), token(&audience, value)?))).collect()
}

fn token(audience: &str, value: Value) -> Result<PodToken, PodTokenError> {
    let failed =
        |field, problem| PodTokenError::Field { audience: audience.chars().take(256).collect(), field, problem };
    let Value::Object(mut fields) = value else { return Err(failed("token", FieldProblem::Missing)) };
    let mut text = |field| match fields.remove(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        None | Some(Value::Null | Value::String(_)) => Err(failed(field, FieldProblem::Missing)),
        Some(_) => Err(failed(field, FieldProblem::NotText)),
    };
    let token = text("token").map(Secret::new)?;
    let expiration = text("expirationTimestamp")?;
    let expiration = unix_time::parse_rfc3339(&expiration);
    let expiration = expiration.ok_or_else(|| failed("expirationTimestamp", FieldProblem::NotATime))?;
    Ok(PodToken { token, expiration })
}

impl PodToken {
    /// The token's claims about its pod. Its signature is not checked.
    ///
    /// # Errors
    /// The missing claim, which every token lacks that is not bound to a pod.
    pub fn claims(&self) -> Result<Claims, PodTokenError> {
        let payload = payload(self.token.expose()).ok_or(PodTokenError::NotAJwt)?;
        let claim = |claim| text_claim(&payload, claim);
        Ok(Claims {
            namespace: claim("kubernetes.io.namespace")?,
            pod_name: claim("kubernetes.io.pod.name")?,
            pod_uid: claim("kubernetes.io.pod.uid")?,
            service_account: claim("kubernetes.io.serviceaccount.name")?,
            service_account_uid: claim("kubernetes.io.serviceaccount.uid")?,
        })
    }
}

fn payload(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// The text at `kubernetes.io.<a>[.<b>]`.
fn text_claim(payload: &Map<String, Value>, claim: &'static str) -> Result<String, PodTokenError> {
    let failed = |problem| PodTokenError::Claim { claim, problem };
    let (root, path) = ("kubernetes.io", claim.strip_prefix("kubernetes.io.").unwrap_or(claim));
    let found = path.split('.').try_fold(payload.get(root), |value, key| value.map(|value| value.get(key)));
    match found.flatten() {
        Some(Value::String(text)) if text.len() > MAX_CLAIM_BYTES => Err(failed(FieldProblem::TooLong)),
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        None | Some(Value::Null | Value::String(_)) => Err(failed(FieldProblem::Missing)),
        Some(_) => Err(failed(FieldProblem::NotText)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const EXPIRATION: &str = "2023-11-14T22:13:20Z";

    fn jwt(payload: &Value) -> String {
        format!("h34der.{}.s1gnature", URL_SAFE_NO_PAD.encode(payload.to_string()))
    }

    fn bound() -> Value {
        json!({"aud": ["a"], "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "n1", "uid": "u0"},
            "pod": {"name": "cart-0", "uid": "u1"},
            "serviceaccount": {"name": "cart", "uid": "u2"},
        }})
    }

    fn claims(token: String) -> Result<Claims, PodTokenError> {
        PodToken { token: Secret::new(token), expiration: SystemTime::UNIX_EPOCH }.claims()
    }

    #[test]
    fn reads_tokens_by_audience() {
        let text = json!({
            "": {"token": "t1", "expirationTimestamp": EXPIRATION},
            "vault": {"token": "t2", "expirationTimestamp": EXPIRATION, "later": true},
        });
        let tokens = parse(&text.to_string()).expect("tokens");
        assert_eq!(tokens.keys().collect::<Vec<_>>(), ["", "vault"]);
        assert_eq!(tokens["vault"].token.expose(), "t2");
        assert_eq!(unix_time::seconds(tokens[""].expiration), 1_700_000_000);
        assert!(!format!("{tokens:?}").contains("t1"), "a token is not printed");
        assert!(parse("{}").expect("no tokens").is_empty());
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        let field = |audience: &str, field, problem| PodTokenError::Field { audience: audience.into(), field, problem };
        for (tokens, error) in [
            (json!({"a": "t0p-s3cret"}), field("a", "token", FieldProblem::Missing)),
            (json!({"a": {"expirationTimestamp": EXPIRATION}}), field("a", "token", FieldProblem::Missing)),
            (json!({"a": {"token": ""}}), field("a", "token", FieldProblem::Missing)),
            (json!({"a": {"token": ["t0p-s3cret"]}}), field("a", "token", FieldProblem::NotText)),
            (json!({"a": {"token": "t0p-s3cret"}}), field("a", "expirationTimestamp", FieldProblem::Missing)),
            (
                json!({"a": {"token": "t0p-s3cret", "expirationTimestamp": 7}}),
                field("a", "expirationTimestamp", FieldProblem::NotText),
            ),
            (
                json!({"a": {"token": "t0p-s3cret", "expirationTimestamp": "t0p-s3cret"}}),
                field("a", "expirationTimestamp", FieldProblem::NotATime),
            ),
        ] {
            let found = parse(&tokens.to_string()).expect_err("it is wrong");
            assert_eq!(found, error);
            assert!(!format!("{found} {found:?}").contains("t0p-s3cret"));
        }
        for text in ["", "null", "[]", r#""t0p-s3cret""#, r#"{"a": t0p-s3cret}"#, r#"{"a": "t0p-s3cret"#] {
            let found = parse(text).expect_err("it is not an object");
            assert!(matches!(found, PodTokenError::NotAnObject { .. }), "{found}");
            assert!(!format!("{found} {found:?}").contains("t0p-s3cret"));
        }
        let large = " ".repeat(MAX_BYTES + 1);
        assert_eq!(parse(&large).err(), Some(PodTokenError::TooLarge { bytes: MAX_BYTES + 1 }));
        assert!(parse(&("{}".to_owned() + &" ".repeat(MAX_BYTES - 2))).is_ok());
    }

    #[test]
    fn reads_who_a_token_is_for() {
        let found = claims(jwt(&bound())).expect("claims");
        assert_eq!((found.namespace.as_str(), found.service_account.as_str()), ("shop", "cart"));
        assert_eq!((found.pod_name.as_str(), found.pod_uid.as_str()), ("cart-0", "u1"));
        assert_eq!(found.service_account_uid, "u2");
        let mut longest = bound();
        longest["kubernetes.io"]["pod"]["name"] = "x".repeat(MAX_CLAIM_BYTES).into();
        assert_eq!(claims(jwt(&longest)).expect("claims").pod_name.len(), MAX_CLAIM_BYTES);
    }

    #[test]
    fn names_the_claim_that_is_wrong() {
        for (claim, pointer) in [
            ("kubernetes.io.namespace", "/kubernetes.io/namespace"),
            ("kubernetes.io.pod.name", "/kubernetes.io/pod/name"),
            ("kubernetes.io.pod.uid", "/kubernetes.io/pod/uid"),
            ("kubernetes.io.serviceaccount.name", "/kubernetes.io/serviceaccount/name"),
            ("kubernetes.io.serviceaccount.uid", "/kubernetes.io/serviceaccount/uid"),
        ] {
            for (value, problem) in [
                (Value::Null, FieldProblem::Missing),
                (json!(""), FieldProblem::Missing),
                (json!(7), FieldProblem::NotText),
                (json!({}), FieldProblem::NotText),
                (json!("x".repeat(MAX_CLAIM_BYTES + 1)), FieldProblem::TooLong),
            ] {
                let mut payload = bound();
                *payload.pointer_mut(pointer).expect("the claim") = value;
                assert_eq!(claims(jwt(&payload)), Err(PodTokenError::Claim { claim, problem }));
            }
        }
        let missing = |claim| Err(PodTokenError::Claim { claim, problem: FieldProblem::Missing });
        assert_eq!(claims(jwt(&json!({"sub": "x"}))), missing("kubernetes.io.namespace"));
        let not_bound = json!({"kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "a", "uid": "b"}}});
        assert_eq!(claims(jwt(&not_bound)), missing("kubernetes.io.pod.name"));
    }

    #[test]
    fn refuses_what_is_not_a_jwt() {
        let good = jwt(&bound());
        let list = format!("h.{}.s", URL_SAFE_NO_PAD.encode("[]"));
        for token in ["", "a.b", "a.!.c", "a.YQ.c", "a..c", &list, &format!("{good}.x")] {
            assert_eq!(claims(token.to_owned()), Err(PodTokenError::NotAJwt), "{token}");
        }
    }

    proptest! {
        #[test]
        fn no_error_holds_token_text(at in any::<prop::sample::Index>(), byte in "[ -~]") {
            let secret = "t0ps3cretT0PS3CRET";
            let good = json!({"a": {"token": secret, "expirationTimestamp": EXPIRATION}}).to_string();
            let mut text = good.clone();
            let index = at.index(text.len());
            text.replace_range(index..=index, &byte);
            if let Err(error) = parse(&text) {
                let shown = format!("{error} {error:?}");
                prop_assert!(!shown.contains(&secret[..9]) && !shown.contains(&secret[9..]), "{}", shown);
            }
        }
    }
}

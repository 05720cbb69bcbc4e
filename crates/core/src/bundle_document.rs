//! The SPIFFE bundle document: all keys of a trust domain in one JSON text (SPIFFE Trust Domain and Bundle, section 4).

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::jwt::{JwtBundle, JwtBundleError, jwk_set};
use crate::unix_time;

const X509_USE: &str = "x509-svid";
const JWT_USE: &str = "jwt-svid";

/// The key types that are written with certificates here.
const KEY_TYPES: [&str; 3] = ["RSA", "EC", "OKP"];

/// How often readers of a document should look for a newer one, unless the document says otherwise; SPIRE uses the same.
pub const REFRESH_HINT: Duration = Duration::from_secs(300);

/// The trust anchors and keys of a trust domain, for X509-SVIDs and JWT-SVIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleDocument {
    /// The CA certificates.
    pub anchors: Vec<CertificateDer<'static>>,
    /// The keys of JWT-SVIDs.
    pub jwt: JwtBundle,
    /// `spiffe_sequence`: grows with every change.
    pub sequence: Option<u64>,
    /// `spiffe_refresh_hint`, in whole seconds.
    pub refresh_hint: Option<Duration>,
}

/// Why a text is not a bundle document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleDocumentError {
    /// Not a JWK set, or one of its keys for JWT-SVIDs is damaged.
    #[error(transparent)]
    Jwks(#[from] JwtBundleError),
    /// A key for X509-SVIDs has a certificate that is not base64.
    #[error("the `x5c` of key {position} is not a certificate in base64")]
    Certificate {
        /// The position of the key, counted from 1.
        position: usize,
    },
    /// An invalid number.
    #[error("its `{parameter}` is not a whole number of at least 0")]
    Number {
        /// Which one.
        parameter: &'static str,
    },
}

impl BundleDocument {
    /// Reads a document. Keys with another or missing use or key type are ignored (SPIFFE Trust Domain and Bundle, section
    /// 4.2), and so are all but the first certificate of an `x5c` (X509-SVID, section 6.2). The certificates are not
    /// parsed.
    ///
    /// # Errors
    /// [`BundleDocumentError`].
    pub fn read(json: &[u8]) -> Result<Self, BundleDocumentError> {
        let jwt = JwtBundle::read_used_for(json, |usage| usage == Some(JWT_USE))?;
        let mut anchors = Vec::new();
        for (index, jwk) in jwk_set(json)?.iter().enumerate() {
            let wrong = BundleDocumentError::Certificate { position: index + 1 };
            let text = |parameter| jwk.get(parameter).and_then(Value::as_str);
            if text("use") != Some(X509_USE) || !text("kty").is_some_and(|kty| KEY_TYPES.contains(&kty)) {
                continue;
            }
            let Some(first) = jwk.get("x5c").and_then(|x5c| x5c.get(0)) else { continue };
            let der = first.as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or(wrong)?;
            anchors.push(CertificateDer::from(der));
        }
        let set = serde_json::from_slice::<Map<String, Value>>(json).map_err(|_| JwtBundleError::NotAJwkSet)?;
        let number = |parameter| {
            let value = set.get(parameter).filter(|value| !value.is_null());
            value.map(|value| value.as_u64().ok_or(BundleDocumentError::Number { parameter })).transpose()
        };
        let refresh_hint = number("spiffe_refresh_hint")?.map(Duration::from_secs);
        Ok(Self { anchors, jwt, sequence: number("spiffe_sequence")?, refresh_hint })
    }

    /// The document that follows `earlier`, if there is one, for the current anchors and keys.
    ///
    /// Its sequence number is the time in seconds, or the next number if that has been used; it does not change while
    /// nothing else changes, so that the same bundle gives the same document.
    pub fn next(
        earlier: Option<&[u8]>,
        anchors: &[CertificateDer<'static>],
        jwt: &JwtBundle,
        now: SystemTime,
    ) -> Vec<u8> {
        let earlier = earlier.and_then(|json| Self::read(json).ok());
        Self::after(earlier.as_ref(), anchors, jwt, now).to_json()
    }

    /// The same as [`next`](Self::next), before it is written.
    pub(crate) fn after(
        earlier: Option<&Self>,
        anchors: &[CertificateDer<'static>],
        jwt: &JwtBundle,
        now: SystemTime,
    ) -> Self {
        let is_same = earlier.is_some_and(|earlier| earlier.anchors == anchors && earlier.jwt == *jwt);
        let clock = u64::try_from(unix_time::seconds(now)).unwrap_or_default();
        let sequence = match earlier.and_then(|earlier| earlier.sequence) {
            Some(used) if is_same => used,
            Some(used) => clock.max(used.saturating_add(1)),
            None => clock,
        };
        let refresh_hint = Some(REFRESH_HINT);
        Self { anchors: anchors.to_vec(), jwt: jwt.clone(), sequence: Some(sequence), refresh_hint }
    }

    /// The text. Certificates with a key that no JWK can express (other than RSA, P-256, P-384, P-521 and Ed25519) are
    /// left out, because every entry needs a key (RFC 7517, section 4).
    pub fn to_json(&self) -> Vec<u8> {
        self.json().to_string().into_bytes()
    }

    pub(crate) fn json(&self) -> Value {
        let mut keys: Vec<Value> = self.anchors.iter().filter_map(|der| x509_jwk(der)).collect();
        keys.extend(self.jwt.jwks(Some(JWT_USE)));
        let mut document = Map::from_iter([("keys".to_owned(), Value::from(keys))]);
        document.extend(self.sequence.map(|sequence| ("spiffe_sequence".to_owned(), sequence.into())));
        let hint = self.refresh_hint.map(|hint| ("spiffe_refresh_hint".to_owned(), hint.as_secs().into()));
        document.extend(hint);
        Value::Object(document)
    }
}

/// The elements of `keys`, and whether each that is for X509-SVIDs has exactly one certificate and names its key.
pub(crate) fn is_written_in_full(json: &[u8]) -> Result<Vec<bool>, BundleDocumentError> {
    let is_full = |jwk: &Value| match jwk.get("use").and_then(Value::as_str) {
        Some(X509_USE) => {
            let x5c = jwk.get("x5c").and_then(Value::as_array).filter(|x5c| x5c.len() == 1);
            let der = x5c.and_then(|x5c| STANDARD.decode(x5c[0].as_str()?).ok()).map(CertificateDer::from);
            let written = der.and_then(|der| x509_jwk(&der));
            let written = written.as_ref().and_then(Value::as_object);
            written.is_some_and(|written| written.iter().all(|(name, value)| jwk.get(name) == Some(value)))
        }
        Some(JWT_USE) => true,
        _ => false,
    };
    Ok(jwk_set(json)?.iter().map(is_full).collect())
}

/// The certificate and its key, without a key id (X509-SVID, section 6.1).
fn x509_jwk(der: &CertificateDer<'_>) -> Option<Value> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let mut jwk = public_key(certificate.public_key())?;
    jwk.insert("use".to_owned(), X509_USE.into());
    jwk.insert("x5c".to_owned(), json!([STANDARD.encode(der)]));
    Some(Value::Object(jwk))
}

fn public_key(info: &SubjectPublicKeyInfo<'_>) -> Option<Map<String, Value>> {
    let encode = |number: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(number));
    let parameters = match info.parsed().ok()? {
        PublicKey::RSA(key) => {
            let unsigned = |number: &[u8]| encode(number.strip_prefix(&[0]).unwrap_or(number));
            json!({"kty": "RSA", "n": unsigned(key.modulus), "e": unsigned(key.exponent)})
        }
        PublicKey::EC(point) => {
            let curve = info.algorithm.parameters.as_ref()?.as_oid().ok()?;
            let curves = [(OID_EC_P256, "P-256"), (OID_NIST_EC_P384, "P-384"), (OID_NIST_EC_P521, "P-521")];
            let (_, crv) = curves.into_iter().find(|(known, _)| *known == curve)?;
            let numbers = point.data().strip_prefix(&[4])?;
            let (x, y) = numbers.split_at(numbers.len() / 2);
            json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)})
        }
        PublicKey::Unknown(key) if info.algorithm.algorithm == OID_SIG_ED25519 => {
            json!({"kty": "OKP", "crv": "Ed25519", "x": encode(key)})
        }
        _ => return None,
    };
    if let Value::Object(parameters) = parameters { Some(parameters) } else { None }
}

//! The public keys of a trust domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use serde_json::{Map, Value};

use super::jwk::{Jwk, JwkError};
use crate::identity::hex;
use crate::spiffe_id::TrustDomain;

/// The maximum size of a JWK set, in bytes.
pub const MAX_JWKS_BYTES: usize = 1024 * 1024;

/// The maximum number of keys in a JWK set.
pub const MAX_KEYS: usize = 1024;

/// The longest key id, in bytes.
const MAX_KEY_ID_BYTES: usize = 1024;

/// The JWT bundles, by trust domain.
pub type JwtBundles = BTreeMap<TrustDomain, Arc<JwtBundle>>;

/// SHA-256 of all bundles, in lower-case hexadecimal.
pub fn bundles_digest(bundles: &JwtBundles) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for (trust_domain, bundle) in bundles {
        // The name cannot contain a brace, so that the end of each name and JSON text is unambiguous.
        context.update(trust_domain.as_str().as_bytes());
        context.update(&bundle.to_jwks());
    }
    hex(context.finish().as_ref())
}

/// The keys that sign the JWT-SVIDs of one trust domain, by key ID. If there are none, no token of that trust domain is
/// accepted (SPIFFE Trust Domain and Bundle, section 4.1.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JwtBundle {
    keys: BTreeMap<String, Jwk>,
}

/// Why bytes are not a JWT bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtBundleError {
    /// Over [`MAX_JWKS_BYTES`].
    #[error("the JWK set has {bytes} bytes, at most {MAX_JWKS_BYTES} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Over [`MAX_KEYS`].
    #[error("the JWK set has {found} keys, at most {MAX_KEYS} are allowed")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// Not `{"keys": [{…}, …]}`.
    #[error("the document is not a JWK set (a JSON object with a list of objects named `keys`)")]
    NotAJwkSet,
    /// One of the keys is damaged.
    #[error("key {position} of the JWK set cannot be used: {problem}")]
    Key {
        /// The position of the key, counted from 1.
        position: usize,
        /// Why it cannot be used.
        problem: JwkError,
    },
    /// Two keys have the same ID.
    #[error("key {position} of the JWK set has the same key ID as another key")]
    SameKeyId {
        /// The position of the key, counted from 1.
        position: usize,
    },
}

impl JwtBundle {
    /// Reads a JWK set as sent over the Workload API and the Broker API.
    ///
    /// Ignored are keys without an id, for another use (`use` is `jwt-svid`, RFC 7517's `sig`, or absent as in a plain
    /// JWK set), and of types that cannot sign JWT-SVIDs: other key types, curves and algorithms, RSA under 2048 bits.
    ///
    /// # Errors
    /// The fault. A damaged key makes the whole set invalid, so that a caller with an earlier set keeps it.
    pub fn read(jwks: &[u8]) -> Result<Self, JwtBundleError> {
        Self::read_used_for(jwks, |usage| matches!(usage, None | Some("jwt-svid" | "sig")))
    }

    /// Reads the keys with those uses.
    pub(crate) fn read_used_for(jwks: &[u8], is_for_us: impl Fn(Option<&str>) -> bool) -> Result<Self, JwtBundleError> {
        let mut keys = BTreeMap::new();
        for (index, jwk) in jwk_set(jwks)?.into_iter().enumerate() {
            let position = index + 1;
            let Value::Object(jwk) = jwk else { return Err(JwtBundleError::NotAJwkSet) };
            let usage = jwk.get("use").map(|usage| usage.as_str().unwrap_or_default());
            let Some(id) = key_id(&jwk).filter(|_| is_for_us(usage)) else { continue };
            let key = Jwk::read(&jwk).map_err(|problem| JwtBundleError::Key { position, problem })?;
            let Some(key) = key else { continue };
            match keys.insert(id.to_owned(), key.clone()) {
                Some(other) if other != key => return Err(JwtBundleError::SameKeyId { position }),
                _ => {}
            }
        }
        Ok(Self { keys })
    }

    /// The keys of all these bundles. The ID of each key must be its thumbprint, so that no two keys have the same ID.
    ///
    /// # Errors
    /// [`JwtBundleError::TooMany`].
    pub(crate) fn union<'a>(bundles: impl IntoIterator<Item = &'a Self>) -> Result<Self, JwtBundleError> {
        let keys: BTreeMap<_, _> = bundles.into_iter().flat_map(|bundle| bundle.keys.clone()).collect();
        let found = keys.len();
        if found > MAX_KEYS { Err(JwtBundleError::TooMany { found }) } else { Ok(Self { keys }) }
    }

    /// A key whose id is not its thumbprint (RFC 7638).
    pub(crate) fn misnamed_key(&self) -> Option<&str> {
        self.keys.iter().find(|(id, key)| **id != key.thumbprint()).map(|(id, _)| id.as_str())
    }

    /// Removes the keys that are not in `others`.
    pub(crate) fn retain(&mut self, others: &Self) {
        self.keys.retain(|id, key| others.keys.get(id) == Some(key));
    }

    /// A bundle of one key.
    pub(super) fn of(id: String, key: Jwk) -> Self {
        Self { keys: BTreeMap::from([(id, key)]) }
    }

    /// The plain JWK set that the Workload API sends (SPIFFE Workload API, section 6.2.2): the keys with their ids.
    /// The same keys always give the same bytes.
    pub fn to_jwks(&self) -> Vec<u8> {
        serde_json::json!({"keys": self.jwks(None)}).to_string().into_bytes()
    }

    /// The keys as JWKs, with that use if it is given.
    pub(crate) fn jwks(&self, usage: Option<&str>) -> Vec<Value> {
        let write = |(id, key): (&String, &Jwk)| {
            let mut jwk = key.parameters();
            jwk.insert("kid".to_owned(), id.as_str().into());
            jwk.extend(usage.map(|usage| ("use".to_owned(), usage.into())));
            Value::Object(jwk)
        };
        self.keys.iter().map(write).collect()
    }

    /// The ids of the keys, in order.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// Whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn key(&self, id: &str) -> Option<&Jwk> {
        self.keys.get(id)
    }
}

/// The elements of `keys`.
pub(crate) fn jwk_set(jwks: &[u8]) -> Result<Vec<Value>, JwtBundleError> {
    if jwks.len() > MAX_JWKS_BYTES {
        return Err(JwtBundleError::TooLarge { bytes: jwks.len() });
    }
    let set = serde_json::from_slice::<Value>(jwks).map_err(|_| JwtBundleError::NotAJwkSet)?;
    let Value::Object(mut set) = set else { return Err(JwtBundleError::NotAJwkSet) };
    match set.remove("keys") {
        Some(Value::Array(keys)) if keys.len() > MAX_KEYS => Err(JwtBundleError::TooMany { found: keys.len() }),
        Some(Value::Array(keys)) => Ok(keys),
        _ => Err(JwtBundleError::NotAJwkSet),
    }
}

fn key_id(jwk: &Map<String, Value>) -> Option<&str> {
    let id = jwk.get("kid").and_then(Value::as_str);
    id.filter(|id| (1..=MAX_KEY_ID_BYTES).contains(&id.len()))
}

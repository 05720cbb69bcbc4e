//! The key that the embedded CA signs JWT-SVIDs with.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use serde_json::{Value, json};

use super::algorithm::Curve;
use super::audience::Audiences;
use super::bundle::JwtBundle;
use super::jwk::Jwk;
use super::svid::JwtSvid;
use super::{BASE64, MAX_TOKEN_BYTES};
use crate::identity::{KeyError, PrivateKey};
use crate::secret::Secret;
use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::unix_time;

/// Signs the JWT-SVIDs of one trust domain with ES256, the algorithm that every library supports.
///
/// The id of its key is the key's thumbprint (RFC 7638): a key keeps its id after a restart, and no other key has the
/// same one.
pub struct JwtAuthority {
    trust_domain: TrustDomain,
    key: PrivateKey,
    pair: EcdsaKeyPair,
    bundle: Arc<JwtBundle>,
    key_id: String,
    /// The header of every token, in base64url.
    header: String,
}

/// Why a token was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtSignError {
    /// Not an ID this authority may sign for.
    #[error("{id} is not a workload of the trust domain {trust_domain}")]
    ForeignId {
        /// The requested ID.
        id: SpiffeId,
        /// The trust domain of the authority.
        trust_domain: TrustDomain,
    },
    /// Under one second, or too long to be encoded.
    #[error("a lifetime of {} s cannot be written into a JWT-SVID", .lifetime.as_secs())]
    Lifetime {
        /// The requested lifetime.
        lifetime: Duration,
    },
    /// The key cannot sign.
    #[error("the JWT-SVID could not be signed")]
    Sign,
}

impl JwtAuthority {
    /// Generates a new key.
    ///
    /// # Errors
    /// [`KeyError::Generate`] if the system provides no randomness.
    pub fn create(trust_domain: &TrustDomain) -> Result<Self, KeyError> {
        Self::from_key(trust_domain, PrivateKey::generate_p256()?)
    }

    /// Loads a key.
    ///
    /// # Errors
    /// [`KeyError::Unsupported`] if it is not ECDSA P-256.
    pub fn from_key(trust_domain: &TrustDomain, key: PrivateKey) -> Result<Self, KeyError> {
        let unsupported = |_| KeyError::Unsupported;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.der()).map_err(unsupported)?;
        let jwk = Jwk::from_point(Curve::P256, pair.public_key().as_ref()).ok_or(KeyError::Unsupported)?;
        let key_id = jwk.thumbprint();
        let header = BASE64.encode(json!({"alg": "ES256", "kid": key_id, "typ": "JWT"}).to_string());
        let bundle = Arc::new(JwtBundle::of(key_id.clone(), jwk));
        Ok(Self { trust_domain: trust_domain.clone(), key, pair, bundle, key_id, header })
    }

    /// Signs a token that identifies its bearer as `id` to those audiences, until the lifetime is over. Times in it are
    /// whole seconds, rounded down.
    ///
    /// # Errors
    /// If the ID is not a workload of the trust domain, or the lifetime cannot be encoded.
    pub fn sign(
        &self,
        id: &SpiffeId,
        audiences: &Audiences,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<JwtSvid, JwtSignError> {
        if *id.trust_domain() != self.trust_domain || id.path().is_empty() {
            return Err(JwtSignError::ForeignId { id: id.clone(), trust_domain: self.trust_domain.clone() });
        }
        let (issued_at, expires_at) = times(now, lifetime).ok_or(JwtSignError::Lifetime { lifetime })?;
        let claims = json!({
            "sub": id.as_str(),
            "aud": audiences.as_slice(),
            "iat": unix_time::seconds(issued_at),
            "exp": unix_time::seconds(expires_at),
        });
        Ok(JwtSvid {
            id: id.clone(),
            token: self.compact(&claims)?,
            audience: audiences.as_slice().to_vec(),
            issued_at,
            expires_at,
            hint: String::new(),
        })
    }

    /// In one allocation, because growing would leave copies of the token behind.
    fn compact(&self, claims: &Value) -> Result<Secret, JwtSignError> {
        let mut token = String::with_capacity(MAX_TOKEN_BYTES.min(1024 + 2 * claims.to_string().len()));
        token.push_str(&self.header);
        token.push('.');
        BASE64.encode_string(claims.to_string(), &mut token);
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| JwtSignError::Sign)?;
        token.push('.');
        BASE64.encode_string(signature, &mut token);
        Ok(Secret::new(token))
    }

    /// The private key, to store it.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The id of the key.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public key, to verify the tokens.
    pub fn bundle(&self) -> &Arc<JwtBundle> {
        &self.bundle
    }

    /// The trust domain it signs for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

/// From now to the end, in whole seconds.
fn times(now: SystemTime, lifetime: Duration) -> Option<(SystemTime, SystemTime)> {
    let issued_at = unix_time::seconds(now);
    let seconds = i64::try_from(lifetime.as_secs()).ok().filter(|seconds| *seconds > 0)?;
    let expires_at = unix_time::at(issued_at.checked_add(seconds)?)?;
    unix_time::calendar(expires_at)?;
    Some((unix_time::at(issued_at)?, expires_at))
}

impl fmt::Debug for JwtAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("JwtAuthority");
        debug.field("trust_domain", &self.trust_domain.as_str()).field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

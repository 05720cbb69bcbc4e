//! What a source asks an issuer for.

use std::time::Duration;

use crate::identity::{KeyError, PrivateKey};
use crate::spiffe_id::SpiffeId;

/// The request for an X509-SVID. The private key stays with whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SvidRequest {
    /// The ID the certificate is for; it must have a path.
    pub id: SpiffeId,
    /// The public key, as a `SubjectPublicKeyInfo` in DER.
    pub public_key: Vec<u8>,
    /// How long the certificate is to be valid, from now.
    pub lifetime: Duration,
}

impl SvidRequest {
    /// A new ECDSA P-256 key, and the request for a certificate for it.
    ///
    /// # Errors
    /// [`KeyError::Generate`] where no key can be made.
    pub fn with_new_key(id: SpiffeId, lifetime: Duration) -> Result<(PrivateKey, Self), KeyError> {
        let key = PrivateKey::generate_p256()?;
        let public_key = key.public_key_der().to_vec();
        Ok((key, Self { id, public_key, lifetime }))
    }
}

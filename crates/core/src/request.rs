//! Requests to an issuer.

use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, SanType};

use crate::identity::{KeyError, PrivateKey};
use crate::pem_text::{self, Block};
use crate::signer::Signer;
use crate::spiffe_id::SpiffeId;

/// The request for an X509-SVID. The private key stays with the requester.
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
    /// [`KeyError::Generate`] if no key can be generated.
    pub fn with_new_key(id: SpiffeId, lifetime: Duration) -> Result<(PrivateKey, Self), KeyError> {
        let key = PrivateKey::generate_p256()?;
        let request = Self::for_key(&key, id, lifetime);
        Ok((key, request))
    }

    /// The request for a certificate for that key.
    pub fn for_key(key: &PrivateKey, id: SpiffeId, lifetime: Duration) -> Self {
        Self { id, public_key: key.public_key_der().to_vec(), lifetime }
    }
}

/// Why there is no CSR.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// The key cannot sign.
    #[error("the key cannot sign a request")]
    Key(#[source] KeyError),
    /// It could not be built.
    #[error("the request could not be built")]
    Build(#[source] rcgen::Error),
}

/// A certificate signing request (RFC 2986) for an X509-SVID, as one `CERTIFICATE REQUEST` block.
///
/// Its subject is empty and the ID is its only name, so the extension with the name is critical (RFC 5280, section
/// 4.1.2.6). It requests nothing else: the usages are sent beside the CSR.
///
/// # Errors
/// [`CsrError`], if the key cannot sign.
pub fn csr_pem(key: &PrivateKey, id: &SpiffeId) -> Result<String, CsrError> {
    let signer = Signer::new(key).map_err(CsrError::Key)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().map_err(CsrError::Build)?)];
    let csr = params.serialize_request(&signer).map_err(CsrError::Build)?;
    Ok(std::mem::take(&mut *pem_text::encode(Block::CertificateRequest, std::iter::once(csr.der().as_ref()))))
}

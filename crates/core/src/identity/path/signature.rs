//! The signature of a certificate (RFC 5280, section 4.1.1).

use webpki::ALL_VERIFICATION_ALGS;

use super::fault::PathFault;
use crate::der::{Element, Reader, SEQUENCE, only};

/// The signed bytes, and the signature.
#[derive(Debug)]
pub(super) struct Signed<'a> {
    message: Element<'a>,
    /// The `AlgorithmIdentifier`, without tag and length.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Takes a certificate apart. It contains the algorithm twice, of which only one is signed: both must be the same.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        const VERSION: u8 = 0xa0;
        let mut parts = Reader::new(only(der, SEQUENCE)?);
        let message = parts.element().filter(|message| message.tag == SEQUENCE)?;
        let algorithm = parts.read(SEQUENCE)?;
        let signature = parts.read_bytes_of_bits()?;
        parts.end()?;
        let mut fields = Reader::new(message.content);
        fields.read_optional(VERSION)?;
        fields.element()?;
        (fields.read(SEQUENCE)? == algorithm).then_some(Self { message, algorithm, signature })
    }

    /// Verifies it with a key, given as its `SubjectPublicKeyInfo`.
    pub(super) fn verify(&self, public_key: &[u8]) -> Result<(), PathFault> {
        let key = only(public_key, SEQUENCE).map(Reader::new);
        let (algorithm, bits) = key
            .and_then(|mut key| Some((key.read(SEQUENCE)?, key.read_bytes_of_bits()?)))
            .ok_or(PathFault::SignatureAlgorithm)?;
        let fits = ALL_VERIFICATION_ALGS.iter().find(|known| {
            known.public_key_alg_id().as_ref() == algorithm && known.signature_alg_id().as_ref() == self.algorithm
        });
        let fits = fits.ok_or(PathFault::SignatureAlgorithm)?;
        fits.verify_signature(bits, self.message.whole, self.signature).map_err(|_| PathFault::Signature)
    }
}

//! Faults of a CSR.

use std::collections::BTreeSet;

use crate::identity::KeyType;
use crate::quoted::Quoted;
use crate::spiffe_id::SpiffeIdError;

/// A rule that a CSR breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrFault {
    /// The text around it.
    #[error("the CSR is not readable: {0}")]
    Pem(#[from] PemFault),
    /// Its encoding.
    #[error("the CSR is malformed: {0}")]
    Der(#[from] DerFault),
    /// A subject; workloads have none.
    #[error("the CSR has the subject {subject}, it must have none")]
    Subject {
        /// The subject.
        subject: Quoted,
    },
    /// A key of an unsupported algorithm.
    #[error(
        "the CSR has a key of the algorithm {algorithm}, supported are ECDSA (P-256, P-384, P-521), RSA and Ed25519"
    )]
    KeyAlgorithm {
        /// Its object identifier.
        algorithm: Quoted,
    },
    /// An RSA key that is too short to be safe, or too long to be checked.
    #[error("the CSR has an RSA key of {bits} bits, 2048 to 8192 are allowed")]
    KeySize {
        /// Its length.
        bits: usize,
    },
    /// A type of key that the administrator does not allow.
    #[error("the CSR has a key of type {found}, allowed are {}", names(.allowed))]
    KeyType {
        /// Its kind.
        found: KeyType,
        /// The allowed types.
        allowed: BTreeSet<KeyType>,
    },
    /// A signature of an algorithm that does not fit the key, or that is not safe.
    #[error("the CSR is signed with the algorithm {algorithm}, which does not fit its key")]
    SignatureAlgorithm {
        /// Its object identifier.
        algorithm: Quoted,
    },
    /// A signature by another key, or of something else.
    #[error("the signature of the CSR is wrong")]
    Signature,
    /// An attribute other than the extension request.
    #[error("the CSR has the attribute {attribute}, only an extension request is allowed")]
    Attribute {
        /// Its object identifier.
        attribute: Quoted,
    },
    /// More than one extension request: one parser takes the first, another the last.
    #[error("the CSR has more than one extension request")]
    Repeated,
    /// An extension that is not allowed.
    #[error("the CSR has the extension {extension}, only subject alternative name and key usages are allowed")]
    Extension {
        /// Its object identifier.
        extension: Quoted,
    },
    /// The same extension twice (RFC 5280, section 4.2).
    #[error("the CSR has the extension {extension} more than once")]
    RepeatedExtension {
        /// Its object identifier.
        extension: Quoted,
    },
    /// A CA certificate is requested.
    #[error("the CSR asks for a CA certificate")]
    Ca,
    /// A key usage other than the two.
    #[error("the CSR asks for the key usage bits {bits}, only digitalSignature and keyEncipherment are allowed")]
    KeyUsage {
        /// The bit string, in hexadecimal.
        bits: String,
    },
    /// An extended key usage other than the two.
    #[error("the CSR asks for the extended key usage {usage}, only server and client authentication are allowed")]
    ExtendedKeyUsage {
        /// Its object identifier.
        usage: Quoted,
    },
    /// A name that is not a URI.
    #[error("the CSR asks for the {kind} {name}, only a URI is allowed")]
    Name {
        /// Which kind of name.
        kind: &'static str,
        /// The name.
        name: Quoted,
    },
    /// No URI, or several.
    #[error("the CSR asks for {found} URIs instead of one, the SPIFFE ID")]
    Uris {
        /// How many.
        found: usize,
    },
    /// A URI that is not a SPIFFE ID.
    #[error("the CSR asks for the URI {uri}, which is not a SPIFFE ID: {problem}")]
    SpiffeId {
        /// The URI.
        uri: Quoted,
        /// Why it is not one.
        problem: SpiffeIdError,
    },
}

/// Why the text of a CSR cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// Longer than any CSR of its kind.
    #[error("it has {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Something before, after or between.
    #[error("it must be one PEM block labelled `CERTIFICATE REQUEST`, with no text before or after it")]
    NotOneBlock,
    /// The block holds something else.
    #[error("the contents of its PEM block are not base64")]
    Base64,
}

/// Why it cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DerFault {
    /// A part that is missing, of another type, or not in DER.
    #[error("{part} is invalid")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
    /// Bytes that no parser needs, and that some may look at.
    #[error("{bytes} bytes follow its end")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl CsrFault {
    pub(in crate::approve) fn class(&self) -> &'static str {
        match self {
            CsrFault::Pem(PemFault::TooLarge { .. }) => "csr_size",
            CsrFault::Pem(_) => "csr_pem",
            CsrFault::Der(_) => "csr_der",
            CsrFault::Subject { .. } => "subject",
            CsrFault::KeyAlgorithm { .. } => "key_algorithm",
            CsrFault::KeySize { .. } => "key_size",
            CsrFault::KeyType { .. } => "key_type",
            CsrFault::SignatureAlgorithm { .. } => "signature_algorithm",
            CsrFault::Signature => "signature",
            CsrFault::Attribute { .. } | CsrFault::Repeated => "attribute",
            CsrFault::Extension { .. } | CsrFault::RepeatedExtension { .. } => "extension",
            CsrFault::Ca => "csr_ca",
            CsrFault::KeyUsage { .. } => "key_usage",
            CsrFault::ExtendedKeyUsage { .. } => "extended_key_usage",
            CsrFault::Name { .. } => "name",
            CsrFault::Uris { .. } => "uri_count",
            CsrFault::SpiffeId { .. } => "spiffe_id",
        }
    }
}

fn names(key_types: &BTreeSet<KeyType>) -> String {
    let names: Vec<_> = key_types.iter().map(|key_type| key_type.name()).collect();
    names.join(", ")
}

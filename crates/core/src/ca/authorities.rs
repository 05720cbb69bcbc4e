//! The authorities of several CAs of one trust domain, as one node publishes them to the others.

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;

use super::CertificateAuthority;
use super::anchor::{Anchor, uri_names};
use crate::bundle_document::{BundleDocument, BundleDocumentError, is_written_in_full};
use crate::identity::{Rejection, TrustBundle, distinct_anchors};
use crate::jwt::{JwtAuthority, JwtBundle, JwtBundleError};
use crate::quoted::Quoted;
use crate::spiffe_id::TrustDomain;
use crate::unix_time;

/// The maximum size of a document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// The authorities of one node: CA certificates, and the keys for JWT-SVIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    anchors: Vec<Anchor>,
    jwt: JwtBundle,
}

/// Why a text is not the document of a node's authorities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthoritiesError {
    /// Over [`MAX_DOCUMENT_BYTES`].
    #[error("the document has {bytes} bytes, at most {MAX_DOCUMENT_BYTES} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not a bundle document.
    #[error(transparent)]
    Document(#[from] BundleDocumentError),
    /// A key that is not in the form written here.
    #[error(
        "key {position} is neither for JWT-SVIDs nor for X509-SVIDs with exactly one certificate and its public key"
    )]
    Key {
        /// The position of the key, counted from 1.
        position: usize,
    },
    /// A key for JWT-SVIDs of an unknown type, or without an ID.
    #[error("a key for JWT-SVIDs has no ID, or is of a type that cannot sign JWT-SVIDs")]
    JwtKey,
    /// A key ID that is not the thumbprint, so that another key may have it too.
    #[error("the ID {id} of a key for JWT-SVIDs is not the thumbprint of that key (RFC 7638)")]
    Misnamed {
        /// The id.
        id: Quoted,
    },
    /// A certificate that is not a CA certificate.
    #[error(transparent)]
    Certificate(#[from] Rejection),
    /// A certificate of another trust domain.
    #[error("certificate {position} of the document is for {found}, not for spiffe://{expected}")]
    TrustDomain {
        /// The position of the certificate, counted from 1.
        position: usize,
        /// The URI names it has.
        found: Quoted,
        /// The expected trust domain.
        expected: TrustDomain,
    },
    /// No CA certificate.
    #[error("the document has no CA certificate")]
    Empty,
}

/// The authorities of all nodes of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Union {
    /// The CA certificates.
    pub bundle: TrustBundle,
    /// The keys of JWT-SVIDs.
    pub jwt: JwtBundle,
}

/// Why authorities have no union.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnionError {
    /// Too many certificates, or too large.
    #[error(transparent)]
    Certificates(#[from] Rejection),
    /// Too many keys of JWT-SVIDs, or too large.
    #[error(transparent)]
    Keys(#[from] JwtBundleError),
}

/// Nodes whose authorities are left out of a union, each with the reason.
pub type LeftOut<'a> = Vec<(&'a str, UnionError)>;

impl Authorities {
    /// The authorities of a CA and of the JWT authority beside it.
    pub fn of(ca: &CertificateAuthority, jwt: &JwtAuthority) -> Self {
        Self { anchors: ca.roots.clone(), jwt: JwtBundle::clone(jwt.bundle()) }
    }

    /// Reads what [`to_json`](Self::to_json) wrote for a CA of that trust domain, as a whole or not at all. A
    /// document does not name its trust domain, but certificates with SPIFFE IDs do.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn read(json: &[u8], trust_domain: &TrustDomain) -> Result<Self, AuthoritiesError> {
        let bytes = json.len();
        if bytes > MAX_DOCUMENT_BYTES {
            return Err(AuthoritiesError::TooLarge { bytes });
        }
        let BundleDocument { anchors, jwt, .. } = BundleDocument::read(json)?;
        let keys = is_written_in_full(json)?;
        if let Some(index) = keys.iter().position(|is_full| !is_full) {
            return Err(AuthoritiesError::Key { position: index + 1 });
        }
        if keys.len() != anchors.len() + jwt.key_ids().count() {
            return Err(AuthoritiesError::JwtKey);
        }
        if let Some(id) = jwt.misnamed_key() {
            return Err(AuthoritiesError::Misnamed { id: Quoted::new(id.as_bytes()) });
        }
        if anchors.is_empty() {
            return Err(AuthoritiesError::Empty);
        }
        let anchors = distinct_anchors(anchors)?.into_iter().enumerate();
        let anchors = anchors.map(|(index, certificate)| Anchor::read(certificate, index + 1, trust_domain));
        Ok(Self { anchors: anchors.collect::<Result<_, _>>()?, jwt })
    }

    /// The SPIFFE bundle document of these authorities. The same authorities always produce the same text.
    pub fn to_json(&self) -> Vec<u8> {
        let anchors = self.anchors.iter().map(|anchor| anchor.certificate.clone()).collect();
        BundleDocument { anchors, jwt: self.jwt.clone(), sequence: None, refresh_hint: None }.to_json()
    }

    /// Removes those that are not in `others`.
    pub fn retain(&mut self, others: &Self) {
        self.anchors.retain(|anchor| others.anchors.contains(anchor));
        self.jwt.retain(&others.jwt);
    }

    /// The authorities of all nodes in the order given, without expired CAs and duplicates. If all have expired, which a
    /// wrong clock may pretend, none is left out.
    ///
    /// # Errors
    /// [`UnionError`] if there are too many.
    pub fn union<'a>(all: impl Iterator<Item = &'a Self> + Clone, now: SystemTime) -> Result<Union, UnionError> {
        let anchors = || all.clone().flat_map(|one| &one.anchors);
        let have_all_expired = anchors().all(|anchor| anchor.not_after < now);
        let usable = anchors().filter(|anchor| have_all_expired || now <= anchor.not_after);
        let bundle = TrustBundle::of(usable.map(|anchor| anchor.certificate.clone()).collect())?;
        Ok(Union { bundle, jwt: JwtBundle::union(all.map(|one| &one.jwt))? })
    }

    /// The union of `own` and as many `others` as fit, and the ones that are left out, with the reason. The entry of
    /// one node must not break the trust between the others: the largest are left out first.
    ///
    /// # Errors
    /// [`UnionError`] if `own` alone has no valid union.
    pub fn union_of_most<'a>(
        own: &'a Self,
        others: impl Iterator<Item = (&'a str, &'a Self)>,
        now: SystemTime,
    ) -> Result<(Union, LeftOut<'a>), UnionError> {
        let mut others: Vec<_> = others.collect();
        others.sort_by_cached_key(|(node, one)| (one.to_json().len(), *node));
        let (mut included, mut left_out) = (vec![own], Vec::new());
        let mut union = Self::union(included.iter().copied(), now)?;
        // Whole groups are tried, and halved if they do not fit.
        let mut groups = vec![&others[..]];
        while let Some(group) = groups.pop() {
            match Self::union(included.iter().copied().chain(group.iter().map(|(_, one)| *one)), now) {
                Ok(larger) => {
                    included.extend(group.iter().map(|(_, one)| *one));
                    union = larger;
                }
                Err(error) if group.len() == 1 => left_out.push((group[0].0, error)),
                Err(_) => {
                    let (first, second) = group.split_at(group.len() / 2);
                    groups.extend([second, first]);
                }
            }
        }
        Ok((union, left_out))
    }
}

impl Anchor {
    fn read(
        certificate: CertificateDer<'static>,
        position: usize,
        trust_domain: &TrustDomain,
    ) -> Result<Self, AuthoritiesError> {
        let unreadable = || AuthoritiesError::Key { position };
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| unreadable())?;
        let names = uri_names(&parsed).map_err(|_| unreadable())?;
        if !names.is_empty() && names != [trust_domain.id().as_str()] {
            let found = Quoted::new(names.join(", ").as_bytes());
            return Err(AuthoritiesError::TrustDomain { position, found, expected: trust_domain.clone() });
        }
        let not_after = unix_time::at(parsed.validity().not_after.timestamp()).ok_or_else(unreadable)?;
        Ok(Self { certificate, not_after })
    }
}

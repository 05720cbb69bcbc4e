//! A trust bundle as operators give it: PEM text.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject, SectionKind};

use super::rejection::Rejection;
use super::{MAX_BUNDLE_BYTES, bundle_digest, check_size, trust};
use crate::quoted::Quoted;

/// The most bytes of PEM text: base64 makes four of three, and people write comments.
pub const MAX_BUNDLE_TEXT: usize = 2 * MAX_BUNDLE_BYTES;

/// A trust bundle that [`accept`](super::accept) would take: CA certificates, none of them twice, and at least one.
#[derive(Debug, Clone, Eq)]
pub struct TrustBundle {
    certificates: Vec<CertificateDer<'static>>,
    digest: String,
}

/// Why a text is no trust bundle. Holds none of it but the label of a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A key was given where only certificates belong.
    #[error(
        "it holds a private key (PEM block {position}): give only the CA certificates, and remove the key from here, for a \
         CA's key does not belong on a node"
    )]
    PrivateKey {
        /// Which block, counted from 1.
        position: usize,
    },
    /// Something else than a certificate.
    #[error("PEM block {position} is labelled {label}: only CERTIFICATE blocks belong in a trust bundle")]
    Label {
        /// Which block, counted from 1.
        position: usize,
        /// What it says it is.
        label: Quoted,
    },
    /// Not the PEM it looks like.
    #[error("PEM block {position} is damaged (wrong base64, no END line, or an indented or incomplete BEGIN line)")]
    Damaged {
        /// Which block, counted from 1.
        position: usize,
    },
    /// No block.
    #[error("there is no certificate in it (a `-----BEGIN CERTIFICATE-----` block)")]
    Empty,
    /// A rule is broken that identities are held to as well.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

impl TrustBundle {
    /// Reads PEM text as a whole, or refuses it as a whole. What stands between the blocks is skipped.
    ///
    /// The rules for the certificates are those of [`accept`](super::accept): each must be a CA that may sign others.
    /// Expired ones are let through, being left over from rotations; no identity is accepted by them.
    ///
    /// # Errors
    /// [`BundleError`], which says which block or certificate is wrong.
    pub fn read(pem: &[u8]) -> Result<Self, BundleError> {
        if pem.len() > MAX_BUNDLE_TEXT {
            let (what, bytes) = ("text of the trust bundle", pem.len());
            return Err(Rejection::TooLarge { what, bytes, limit: MAX_BUNDLE_TEXT }.into());
        }
        let blocks = check_labels(pem)?;
        let certificates = certificates(pem, blocks)?;
        Ok(Self::of(certificates)?)
    }

    /// A bundle of these certificates, which are held to the same rules.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn of(certificates: Vec<CertificateDer<'static>>) -> Result<Self, Rejection> {
        check_size("trust bundle", &certificates, MAX_BUNDLE_BYTES)?;
        if certificates.is_empty() {
            return Err(Rejection::EmptyBundle);
        }
        let certificates = trust::distinct_anchors(certificates)?;
        Ok(Self { digest: bundle_digest(&certificates), certificates })
    }

    /// The CA certificates, none of them twice; never empty.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The [`bundle_digest`] of the certificates.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl PartialEq for TrustBundle {
    /// Whether both trust the same, in whatever order.
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// Counts what looks like a block. The parser skips blocks with a label it does not know, encrypted keys among them, and
/// lines that are indented: nobody would hear of the certificates that are missing then.
fn check_labels(pem: &[u8]) -> Result<usize, BundleError> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let begins = pem.windows(BEGIN.len()).enumerate().filter(|(_, window)| *window == BEGIN);
    let labels: Vec<&[u8]> = begins.map(|(at, _)| label(&pem[at + BEGIN.len()..])).collect();
    let is_key = |label: &[u8]| label.ends_with(b"PRIVATE KEY");
    if let Some(index) = labels.iter().position(|label| is_key(label)) {
        return Err(BundleError::PrivateKey { position: index + 1 });
    }
    match labels.iter().position(|label| *label != b"CERTIFICATE") {
        Some(index) => Err(BundleError::Label { position: index + 1, label: Quoted::new(labels[index]) }),
        None if labels.is_empty() => Err(BundleError::Empty),
        None => Ok(labels.len()),
    }
}

/// The label that the text begins with; no more of it than a label may be long, for it may be anything.
fn label(text: &[u8]) -> &[u8] {
    const LONGEST: usize = 64;
    let end = text.iter().take(LONGEST).position(|byte| matches!(byte, b'-' | b'\r' | b'\n'));
    &text[..end.unwrap_or(LONGEST.min(text.len()))]
}

fn certificates(pem: &[u8], blocks: usize) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let mut certificates = Vec::with_capacity(blocks);
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        match section {
            Ok((SectionKind::Certificate, der)) => certificates.push(CertificateDer::from(der)),
            Ok(_) | Err(_) => return Err(BundleError::Damaged { position: certificates.len() + 1 }),
        }
    }
    if certificates.len() < blocks {
        return Err(BundleError::Damaged { position: certificates.len() + 1 });
    }
    Ok(certificates)
}

//! A trust bundle as an administrator writes it: PEM text.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject, SectionKind};

use super::rejection::Rejection;
use super::trust::{self, Anchors, Skipped};
use super::{MAX_BUNDLE_BYTES, bundle_digest, check_size, hex};
use crate::der::Reader;
use crate::quoted::Quoted;

const CERTIFICATE: &[u8] = b"CERTIFICATE";

/// OpenSSL's label of a certificate that carries the uses for which it is trusted (`openssl x509 -trustout`).
const TRUSTED: &[u8] = b"TRUSTED CERTIFICATE";

/// The maximum size of the PEM text, in bytes: base64 makes four bytes out of three, and people write comments.
pub const MAX_BUNDLE_TEXT: usize = 2 * MAX_BUNDLE_BYTES;

/// A trust bundle that [`accept`](super::accept) would accept: at least one CA certificate, and no duplicates. Two are equal
/// if they trust the same certificates and are delivered as the same text.
#[derive(Debug, Clone, Eq)]
pub struct TrustBundle {
    certificates: Vec<CertificateDer<'static>>,
    digest: String,
    skipped: Vec<Skipped>,
    text: Option<Text>,
}

/// A text that may be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    bytes: Box<[u8]>,
    digest: String,
}

/// Why a text is not a trust bundle. Contains no part of the text except the label of a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A key, although only certificates belong there.
    #[error(
        "the trust bundle holds a private key (PEM block {position}): give only the CA certificates, and remove the \
         key, because a CA's key does not belong on a node"
    )]
    PrivateKey {
        /// The position of the block, counted from 1.
        position: usize,
    },
    /// Something other than a certificate.
    #[error(
        "PEM block {position} is labelled {label}: only CERTIFICATE and TRUSTED CERTIFICATE blocks belong in a trust bundle"
    )]
    Label {
        /// The position of the block, counted from 1.
        position: usize,
        /// The label.
        label: Quoted,
    },
    /// A block that is not valid PEM.
    #[error("PEM block {position} is damaged (wrong base64, no END line, or an indented or incomplete BEGIN line)")]
    Damaged {
        /// The position of the block, counted from 1.
        position: usize,
    },
    /// No block.
    #[error("the trust bundle has no certificate (a `-----BEGIN CERTIFICATE-----` block)")]
    Empty,
    /// A rule is broken that applies to identities as well.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

impl TrustBundle {
    /// Reads PEM text as a whole, or refuses it as a whole. Text between the blocks is skipped.
    ///
    /// The rules for the certificates are those of [`accept`](super::accept). One that is not of a CA, or an X.509 version 1
    /// certificate, is [skipped](Self::skipped) as long as others are left. Expired ones are accepted, as leftovers
    /// of rotations; no identity is accepted because of them.
    ///
    /// # Errors
    /// [`BundleError`], which names the block or certificate.
    pub fn read(pem: &[u8]) -> Result<Self, BundleError> {
        if pem.len() > MAX_BUNDLE_TEXT {
            let (what, bytes) = ("text of the trust bundle", pem.len());
            return Err(Rejection::TooLarge { what, bytes, limit: MAX_BUNDLE_TEXT }.into());
        }
        let labels = check_labels(pem)?;
        let all = certificates(pem, &labels)?;
        let Anchors { certificates, skipped } = trust::usable_anchors(all)?;
        check_size("trust bundle", &certificates, MAX_BUNDLE_BYTES)?;
        let is_plain = skipped.is_empty() && labels.iter().all(|label| *label == CERTIFICATE) && !mentions_a_key(pem);
        let text = is_plain.then(|| Text { bytes: pem.into(), digest: hex(digest(&SHA256, pem).as_ref()) });
        Ok(Self { digest: bundle_digest(&certificates), certificates, skipped, text })
    }

    /// A bundle of these certificates, checked by the same rules.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn of(certificates: Vec<CertificateDer<'static>>) -> Result<Self, Rejection> {
        check_size("trust bundle", &certificates, MAX_BUNDLE_BYTES)?;
        if certificates.is_empty() {
            return Err(Rejection::EmptyBundle);
        }
        let certificates = trust::distinct_anchors(certificates)?;
        Ok(Self { digest: bundle_digest(&certificates), certificates, skipped: Vec::new(), text: None })
    }

    /// The CA certificates, without duplicates; never empty.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The certificates of the text that are not in the bundle.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The text it was read from, comments included, if all of the text may be delivered.
    pub fn text(&self) -> Option<&[u8]> {
        self.text.as_ref().map(|text| &*text.bytes)
    }

    /// SHA-256 of that text, in lower-case hexadecimal. It changes with a comment, and with the order of the certificates.
    pub fn text_digest(&self) -> Option<&str> {
        self.text.as_ref().map(|text| &*text.digest)
    }

    /// The [`bundle_digest`] of the certificates.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.text_digest() == other.text_digest()
    }
}

/// Whether the text may hold a key that the labels do not show, such as one between the blocks.
fn mentions_a_key(pem: &[u8]) -> bool {
    const KEY: &[u8] = b"PRIVATE KEY";
    pem.windows(KEY.len()).any(|window| window.eq_ignore_ascii_case(KEY))
}

/// The labels of everything that looks like a block. The parser skips blocks with unknown labels, such as encrypted
/// keys, and indented lines, so missing certificates would go unnoticed.
fn check_labels(pem: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let begins = pem.windows(BEGIN.len()).enumerate().filter(|(_, window)| *window == BEGIN);
    let labels: Vec<&[u8]> = begins.map(|(at, _)| label(&pem[at + BEGIN.len()..])).collect();
    let is_key = |label: &[u8]| label.ends_with(b"PRIVATE KEY");
    if let Some(index) = labels.iter().position(|label| is_key(label)) {
        return Err(BundleError::PrivateKey { position: index + 1 });
    }
    match labels.iter().position(|label| ![CERTIFICATE, TRUSTED].contains(label)) {
        Some(index) => Err(BundleError::Label { position: index + 1, label: Quoted::new(labels[index]) }),
        None if labels.is_empty() => Err(BundleError::Empty),
        None => Ok(labels),
    }
}

/// The label that the text begins with, cut to the length of a label, because the text may be anything.
fn label(text: &[u8]) -> &[u8] {
    const LONGEST: usize = 64;
    let end = text.iter().take(LONGEST).position(|byte| matches!(byte, b'-' | b'\r' | b'\n'));
    &text[..end.unwrap_or(LONGEST.min(text.len()))]
}

fn certificates(pem: &[u8], labels: &[&[u8]]) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let mut certificates = Vec::with_capacity(labels.len());
    let pem = if labels.contains(&TRUSTED) { Cow::Owned(relabelled(pem)) } else { Cow::Borrowed(pem) };
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&pem) {
        let damaged = || BundleError::Damaged { position: certificates.len() + 1 };
        let Ok((SectionKind::Certificate, der)) = section else { return Err(damaged()) };
        let is_trusted = labels.get(certificates.len()) == Some(&TRUSTED);
        let der = if is_trusted { without_trust_settings(&der).ok_or_else(damaged)? } else { der };
        certificates.push(CertificateDer::from(der));
    }
    if certificates.len() < labels.len() {
        return Err(BundleError::Damaged { position: certificates.len() + 1 });
    }
    Ok(certificates)
}

/// The same text with labels that the parser knows.
fn relabelled(pem: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(pem.len());
    let mut rest = pem;
    while let Some(at) = rest.windows(TRUSTED.len()).position(|window| window == TRUSTED) {
        text.extend_from_slice(&rest[..at]);
        text.extend_from_slice(CERTIFICATE);
        rest = &rest[at + TRUSTED.len()..];
    }
    text.extend_from_slice(rest);
    text
}

/// OpenSSL's form of a trusted certificate, without the part after it: the uses for which OpenSSL trusts it.
fn without_trust_settings(der: &[u8]) -> Option<Vec<u8>> {
    Some(Reader::new(der).element()?.whole.to_vec())
}

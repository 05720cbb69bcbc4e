//! Credential bundles: a key and its chain in one file, which programs can read in one step.
//!
//! SPIFFE Filesystem Delivery, section 2.1; the same as what Kubernetes writes to `credentialBundlePath`.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use super::extras::Extras;
use super::wanted::bytes;
use super::{FileName, MAX_NAME_BYTES, RenderedFile};
use crate::identity::{Identity, is_self_issued};
use crate::pem_text::{self, Block};
use crate::x509_context::{Svid, X509Context};

/// The list of hints, as spiffefs writes it.
#[derive(Serialize)]
struct Hints<'a> {
    hints: Vec<Hint<'a>>,
}

#[derive(Serialize)]
struct Hint<'a> {
    hint: &'a str,
    id: usize,
    fingerprint: String,
}

/// The credential bundles: that of the default SVID, or with a list of hints those of all SVIDs, and the list.
pub(super) fn credential_files(context: &X509Context, extras: &Extras) -> Vec<RenderedFile> {
    let Some(name) = &extras.credential_bundle else { return Vec::new() };
    let svids = context.svids().iter().enumerate();
    let written = svids.take(if extras.hints.is_some() { usize::MAX } else { 1 });
    let bundle = |(number, svid): (usize, &Svid)| bytes(&numbered(name, number), credential_bundle(&svid.identity));
    let mut files: Vec<_> = written.map(bundle).collect();
    files.extend(extras.hints.as_ref().map(|name| bytes(name, hints(context.svids()))));
    files
}

/// Whether a file of that name could be the credential bundle of an SVID other than the first.
pub(super) fn is_numbered(extras: &Extras, name: &FileName) -> bool {
    let (Some(first), Some(_)) = (&extras.credential_bundle, &extras.hints) else { return false };
    let number = name.as_str().split_once('.').filter(|(_, rest)| *rest == first.as_str()).map(|(number, _)| number);
    number.and_then(|number| number.parse::<usize>().ok()).is_some_and(|number| {
        // Neither a sign nor a leading zero.
        number > 0 && numbered(first, number) == *name
    })
}

fn numbered(name: &FileName, number: usize) -> FileName {
    let text = format!("{number}.{}", name.as_str());
    if number == 0 { name.clone() } else { FileName::parse(&text).expect("it was checked that it fits") }
}

/// The longest name that a number still fits in front of.
pub(crate) const MAX_NUMBERED_BYTES: usize = MAX_NAME_BYTES - "99.".len();

/// The key first, then the chain without the trust anchor that it leads to. An intermediate certificate stays, even if the
/// bundle holds it too: a peer may trust the root alone.
fn credential_bundle(identity: &Identity) -> Vec<u8> {
    let chain = identity.chain();
    let is_anchor =
        |certificate: &CertificateDer<'_>| is_self_issued(certificate) && identity.bundle().contains(certificate);
    let ends = chain.iter().skip(1).position(is_anchor);
    let sent = &chain[..ends.map_or(chain.len(), |position| position + 1)];
    let (key, chain) = (identity.key().to_pem(), pem_text::encode(Block::Certificate, sent.iter().map(AsRef::as_ref)));
    // Allocated once: growing would leave copies of the key behind.
    let mut both = Vec::with_capacity(key.len() + chain.len());
    both.extend_from_slice(key.as_bytes());
    both.extend_from_slice(chain.as_bytes());
    both
}

fn hints(svids: &[Svid]) -> Vec<u8> {
    let hints = Hints { hints: svids.iter().enumerate().map(|(id, svid)| hint(id, svid)).collect() };
    let mut text = serde_json::to_vec_pretty(&hints).expect("strings and numbers are JSON");
    text.push(b'\n');
    text
}

fn hint(id: usize, svid: &Svid) -> Hint<'_> {
    let leaf = digest::digest(&digest::SHA256, &svid.identity.chain()[0]);
    let hex: Vec<_> = leaf.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    Hint { hint: &svid.hint, id, fingerprint: format!("sha256:{}", hex.join(":")) }
}

/// The certificates in a credential bundle. The key in front of them is not decoded.
pub(super) fn certificates_of(bundle: &[u8]) -> &[u8] {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let start = bundle.windows(BEGIN.len()).position(|part| part == BEGIN);
    &bundle[start.unwrap_or(bundle.len())..]
}

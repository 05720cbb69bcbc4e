//! What the files of a volume show by now.

use rustls_pki_types::CertificateDer;

use super::extras::Intermediates;
use super::render::Wanted;
use super::{FileName, RenderedFile};
use crate::identity::PemError;
use crate::pem_text::{self, Block};

/// What is in the file of that name.
pub(super) fn find<'a>(files: &'a [RenderedFile], name: &FileName) -> Option<&'a [u8]> {
    files.iter().find(|file| file.name == *name).map(|file| file.contents.as_slice())
}

/// The chain that a volume's files show, the leaf first.
pub(super) fn chain(shown: &[RenderedFile], wanted: Wanted<'_>) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let read = |name: &FileName| pem_text::decode_all(Block::Certificate, find(shown, name).unwrap_or_default());
    let mut chain = read(&wanted.names.cert)?;
    if let (Intermediates::WithBundle, Some(name)) = (wanted.extras.intermediates, &wanted.names.bundle) {
        chain.extend(issuers(&chain[0], read(name).unwrap_or_default()));
    }
    Ok(chain.into_iter().map(CertificateDer::from).collect())
}

/// The intermediate certificates among others, by their names: from the issuer of the leaf up to a root, without it.
fn issuers(leaf: &[u8], mut others: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let names = |der: &[u8]| {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        Some((certificate.subject().as_raw().to_vec(), certificate.issuer().as_raw().to_vec()))
    };
    let mut found = Vec::new();
    let mut next = names(leaf).map(|(_, issuer)| issuer);
    while let Some(name) = next.take() {
        let is_issuer = |der: &Vec<u8>| names(der).is_some_and(|(subject, issuer)| subject == name && issuer != name);
        let Some(index) = others.iter().position(is_issuer) else { break };
        let issuer = others.swap_remove(index);
        next = names(&issuer).map(|(_, issuer)| issuer);
        found.push(issuer);
    }
    found
}

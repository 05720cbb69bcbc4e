//! The current contents of the files of a volume.

use rustls_pki_types::CertificateDer;

use super::credentials::certificates_of;
use super::extras::Intermediates;
use super::wanted::Wanted;
use super::{FileName, RenderedFile};
use crate::identity::{PemError, issuers};
use crate::pem_text::{self, Block};

/// The contents of the file with that name.
pub(super) fn find<'a>(files: &'a [RenderedFile], name: &FileName) -> Option<&'a [u8]> {
    files.iter().find(|file| file.name == *name).map(|file| file.contents.as_slice())
}

/// The chain in a volume's files, the leaf first.
pub(super) fn chain(shown: &[RenderedFile], wanted: Wanted<'_>) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let mut chain = match (&wanted.names.cert, &wanted.extras.credential_bundle) {
        (None, Some(name)) => {
            let bundle = find(shown, name).unwrap_or_default();
            pem_text::decode_all(Block::Certificate, certificates_of(bundle))?
        }
        (cert, _) => {
            let text = cert.as_ref().and_then(|name| find(shown, name));
            pem_text::decode_all(Block::Certificate, text.unwrap_or_default())?
        }
    };
    if let (Intermediates::WithBundle, Some(name)) = (wanted.extras.intermediates, &wanted.names.bundle) {
        let beside = pem_text::decode_all(Block::Certificate, find(shown, name).unwrap_or_default());
        chain.extend(issuers(&chain[0], beside.unwrap_or_default()));
    }
    Ok(chain.into_iter().map(CertificateDer::from).collect())
}

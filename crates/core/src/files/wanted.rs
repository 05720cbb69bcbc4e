//! The input for the files of a volume, and the reasons why they cannot be rendered.

use zeroize::Zeroizing;

use super::extras::Extras;
use super::{FileName, FileNames, RenderedFile};
use crate::identity::PemError;
use crate::jwt::{JwtBundles, JwtSvid};
use crate::pkcs12::{Password, Pkcs12Error};

/// The maximum size of the files of one volume together, so that no pod fills the node's volume data.
pub const MAX_VOLUME_BYTES: usize = 4 * 1024 * 1024;

/// Which files a volume holds.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Certificate, key and bundle.
    pub names: &'a FileNames,
    /// Further files.
    pub extras: &'a Extras,
    /// The password of PKCS#12 files, if there are any.
    pub password: Option<&'a Password>,
}

/// The JWT-SVIDs and JWT bundles for a pod.
#[derive(Debug)]
pub struct JwtGiven<'a> {
    /// One for each of [`Extras::tokens`], in their order.
    pub tokens: &'a [JwtSvid],
    /// The bundles to verify the tokens of others.
    pub bundles: &'a JwtBundles,
}

/// Why a volume's files cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The certificate in the volume is not one that the driver wrote.
    #[error("the certificate in the volume cannot be read: {0}")]
    Shown(#[from] PemError),
    /// The number of tokens differs from the number of files for them.
    #[error("{found} JWT-SVIDs were issued for {wanted} files")]
    Tokens {
        /// The number of tokens.
        found: usize,
        /// The number of files.
        wanted: usize,
    },
    /// The password that the pod chose is missing.
    #[error("the password of the PKCS#12 files is no longer known; the kubelet sends it again with the next publish")]
    NoPassword,
    /// A PKCS#12 file cannot be created.
    #[error("the PKCS#12 file cannot be written: {0}")]
    Pkcs12(#[from] Pkcs12Error),
    /// Over [`MAX_VOLUME_BYTES`].
    #[error(
        "the volume's files have {bytes} bytes together, at most {MAX_VOLUME_BYTES} are allowed; set the volume attribute \
         svid-csi/federated: none to leave out the bundles of federated trust domains"
    )]
    TooLarge {
        /// Their size.
        bytes: usize,
    },
}

/// A file with that name.
pub(super) fn bytes(name: &FileName, contents: Vec<u8>) -> RenderedFile {
    RenderedFile { name: name.clone(), contents: Zeroizing::new(contents) }
}

//! Who gives identities. A source never touches a path of a volume.

pub mod local_ca;

use std::time::Duration;

use aws_lc_rs::rand;
use svid_csi_core::error::Class;
use svid_csi_core::identity::{Candidate, Validity};
use svid_csi_core::plan::Issuer;
use svid_csi_core::renew;
use svid_csi_core::volume::FilesSpec;

use crate::clock;
use local_ca::{LocalCa, LocalCaError};

/// The sources this driver was started with.
#[derive(Debug, Default)]
pub struct Sources {
    /// The embedded authority.
    pub local_ca: Option<LocalCa>,
}

/// Why there is no identity now.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The driver was started without that source.
    #[error("this driver runs without the source `{}`, which the volume was published with", .0.source())]
    NotConfigured(Issuer),
    /// The embedded authority could not sign.
    #[error("the local CA cannot issue")]
    LocalCa(#[from] LocalCaError),
}

impl SourceError {
    /// How the failure is to be treated.
    pub fn class(&self) -> Class {
        match self {
            SourceError::NotConfigured(_) => Class::Blocked,
            SourceError::LocalCa(_) => Class::Internal,
        }
    }
}

impl Sources {
    /// The next identity of a volume: at once when it has none, else when the one it has is due for renewal.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn next(&self, files: &FilesSpec, last: Option<&Validity>) -> Result<Candidate, SourceError> {
        match files.issuer {
            Issuer::CertManager => Err(SourceError::NotConfigured(files.issuer)),
            Issuer::LocalCa => {
                let local_ca = self.local_ca.as_ref().ok_or(SourceError::NotConfigured(files.issuer))?;
                sleep_until_due(last).await;
                Ok(local_ca.issue(&files.identity).await?)
            }
        }
    }

    /// SHA-256 of the trust bundle an issuer hands out now, so that volumes that hold another one are renewed.
    pub fn bundle_digest(&self, issuer: Issuer) -> Option<String> {
        match issuer {
            Issuer::CertManager => None,
            Issuer::LocalCa => self.local_ca.as_ref().map(LocalCa::bundle_digest),
        }
    }
}

async fn sleep_until_due(last: Option<&Validity>) {
    if let Some(validity) = last {
        tokio::time::sleep(renew::delay(validity, clock::now(), jitter())).await;
    }
}

/// How long to wait after `failures` failures in a row.
pub fn retry_delay(failures: u32, last: Option<&Validity>) -> Duration {
    let remaining = last.and_then(|validity| validity.not_after.duration_since(clock::now()).ok());
    renew::retry_delay(failures, remaining.unwrap_or_default(), jitter())
}

/// A random number from 0 up to 1, so that what started together does not stay together.
fn jitter() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness there is no jitter; keys cannot be made then either, and that fails loudly.
    let _ = rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

//! The progress of a request.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use super::object::{CertificateRequestStatus, Condition};
use crate::identity::{Candidate, MAX_BUNDLE_BYTES, MAX_CHAIN_BYTES, PemError, PrivateKey};
use crate::pem_text::{self, Block};
use crate::quoted::Quoted;
use crate::unix_time;

/// The progress of a request, with the message of a final failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Neither approved nor denied.
    AwaitsApproval,
    /// Approved, and not signed yet.
    AwaitsIssuer {
        /// The issuer's message, if there is one.
        message: Option<Quoted>,
    },
    /// An approver denied it; final.
    Denied {
        /// Its message.
        message: Quoted,
    },
    /// cert-manager or the issuer considers it invalid; final.
    Invalid {
        /// Their message.
        message: Quoted,
    },
    /// The issuer gave up; final.
    Failed {
        /// Its message.
        message: Quoted,
    },
    /// Signed.
    Issued(Issued),
}

/// The certificates from an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificates, the leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The CA according to the issuer; often empty. Only the issuer itself vouches for it, so it is not a trust bundle.
    pub ca: Vec<CertificateDer<'static>>,
}

/// Why the certificates of a ready request cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// Ready, but without a certificate.
    #[error("the issuer says the certificate is ready, but status.certificate is empty")]
    Empty,
    /// Too large to be read.
    #[error("{field} has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// Which field.
        field: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Not base64.
    #[error("{field} is not base64")]
    Base64 {
        /// Which field.
        field: &'static str,
    },
    /// Not PEM with certificates.
    #[error("{field} is not readable: {problem}")]
    Pem {
        /// Which field.
        field: &'static str,
        /// Why it is not readable.
        problem: PemError,
    },
}

impl Progress {
    /// Reads the status of a request. A request without a status has not been processed yet.
    ///
    /// # Errors
    /// If a request is ready and its certificates cannot be read.
    pub fn read(status: Option<&CertificateRequestStatus>) -> Result<Self, StatusError> {
        let Some(status) = status else { return Ok(Self::AwaitsApproval) };
        let message = |condition: &Condition| Quoted::new(&condition.message);
        if let Some(condition) = status.when_true("Denied") {
            return Ok(Self::Denied { message: message(condition) });
        }
        if let Some(condition) = status.when_true("InvalidRequest") {
            return Ok(Self::Invalid { message: message(condition) });
        }
        let ready = status.conditions.iter().find(|condition| condition.kind == "Ready");
        match ready {
            Some(condition) if condition.status == "True" => Issued::read(status).map(Self::Issued),
            // An issuer that gives up uses this reason; with any other reason the request is in progress.
            Some(condition) if condition.reason == "Failed" => Ok(Self::Failed { message: message(condition) }),
            Some(condition) if condition.reason == "Denied" => Ok(Self::Denied { message: message(condition) }),
            _ if status.when_true("Approved").is_none() => Ok(Self::AwaitsApproval),
            _ => Ok(Self::AwaitsIssuer { message: ready.map(message) }),
        }
    }
}

/// When a request failed, if it did.
pub fn ended(status: &CertificateRequestStatus) -> Option<SystemTime> {
    let progress = Progress::read(Some(status));
    if !matches!(progress, Ok(Progress::Denied { .. } | Progress::Failed { .. } | Progress::Invalid { .. })) {
        return None;
    }
    let times = status.conditions.iter().filter_map(|condition| condition.last_transition_time.as_deref());
    times.chain(status.failure_time.as_deref()).filter_map(unix_time::parse_rfc3339).max()
}

impl Issued {
    fn read(status: &CertificateRequestStatus) -> Result<Self, StatusError> {
        let text = status.certificate.as_deref().filter(|text| !text.is_empty()).ok_or(StatusError::Empty)?;
        let chain = certificates("status.certificate", text, MAX_CHAIN_BYTES)?;
        let ca = status.ca.as_deref().filter(|text| !text.is_empty());
        let ca = ca.map(|text| certificates("status.ca", text, MAX_BUNDLE_BYTES)).transpose()?;
        Ok(Self { chain, ca: ca.unwrap_or_default() })
    }

    /// The candidate for [`accept`](crate::identity::accept), together with key and trust bundle.
    pub fn into_candidate(self, key: PrivateKey, bundle: Option<Vec<CertificateDer<'static>>>) -> Candidate {
        Candidate { chain: self.chain, key, bundle }
    }
}

fn certificates(
    field: &'static str,
    base64: &str,
    der_limit: usize,
) -> Result<Vec<CertificateDer<'static>>, StatusError> {
    // PEM in base64 has twice 4/3 the size of the DER; the rest is for line ends and comments.
    let limit = 2 * der_limit;
    if base64.len() > limit {
        return Err(StatusError::TooLarge { field, bytes: base64.len(), limit });
    }
    let pem = STANDARD.decode(base64).map_err(|_| StatusError::Base64 { field })?;
    let all = pem_text::decode_all(Block::Certificate, &pem).map_err(|problem| StatusError::Pem { field, problem })?;
    Ok(all.into_iter().map(CertificateDer::from).collect())
}

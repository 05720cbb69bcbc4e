//! Why cert-manager issued no identity.

use svid_csi_core::cert_request::{IssuerRef, StatusError};
use svid_csi_core::error::Class;
use svid_csi_core::finding;
use svid_csi_core::findings::Check;
use svid_csi_core::identity::KeyError;
use svid_csi_core::pod_token::PodTokenError;
use svid_csi_core::quoted::Quoted;
use svid_csi_core::request::CsrError;

use crate::kube::requester::CreateError;

/// Why there is no identity from cert-manager.
#[derive(Debug, thiserror::Error)]
pub enum CertManagerError {
    /// The volume's record does not name a pod, and a request needs an owner.
    #[error("the volume's pod is not known")]
    NoPod,
    /// No issuer is configured.
    #[error(
        "no issuer is configured: give --issuer-name, or create the ConfigMap of --runtime-issuance-config-map-name"
    )]
    NoIssuer,
    /// The requests of this node cannot be watched.
    #[error("the certificate requests of this node cannot be watched: {0}")]
    NoLink(String),
    /// The trust bundle does not exist.
    #[error("there is no trust bundle from {source_name} yet{}", because(.trouble.as_deref()))]
    NoBundle {
        /// Its configured origin.
        source_name: String,
        /// Why it does not exist.
        trouble: Option<String>,
    },
    /// The kubelet sent no token.
    #[error(
        "the kubelet sent no service account token for the audience \"\": the CSIDriver object needs tokenRequests: [{{audience: \"\"}}] \
         and requiresRepublish: true (or start the driver with --request-mode node-bound)"
    )]
    NoToken,
    /// The tokens cannot be read.
    #[error("the service account tokens cannot be read")]
    Token(#[from] PodTokenError),
    /// The request was not created.
    #[error("the CertificateRequest in namespace {namespace} cannot be created")]
    Create {
        /// The pod's namespace.
        namespace: String,
        /// Why.
        #[source]
        source: CreateError,
    },
    /// No key could be generated.
    #[error("cannot generate a key")]
    Key(#[from] KeyError),
    /// No CSR could be created.
    #[error("cannot create a certificate signing request")]
    Csr(#[from] CsrError),
    /// The system provides no randomness.
    #[error("the system's random number generator failed")]
    Random,
    /// The task that generates keys panicked.
    #[error("the key generation task failed")]
    Task(#[from] tokio::task::JoinError),
    /// The issuer can never sign such requests.
    #[error("{issuer} cannot be used: {why}")]
    Unusable {
        /// Which issuer.
        issuer: String,
        /// The reason, and an alternative.
        why: &'static str,
    },
    /// The request failed.
    #[error(transparent)]
    FailedRequest(#[from] FailedRequest),
    /// The last request failed, and it is too early for the next.
    #[error("retrying in {seconds} s, because {ended}")]
    TooEarly {
        /// The remaining seconds, rounded up.
        seconds: u64,
        /// The outcome of the last one.
        ended: FailedRequest,
    },
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CertificateRequest {request} for {issuer} {how}")]
pub struct FailedRequest {
    /// Namespace and name; empty after a restart.
    pub request: String,
    /// The issuer.
    pub issuer: String,
    /// Its outcome.
    pub how: Ending,
}

/// How a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// An approver denied it.
    #[error("was denied: {0}")]
    Denied(Quoted),
    /// The issuer gave up.
    #[error("failed: {0}")]
    Failed(Quoted),
    /// cert-manager marked it as invalid.
    #[error("was marked invalid by cert-manager: {0}")]
    Invalid(Quoted),
    /// It was deleted.
    #[error("was deleted before it was issued")]
    Deleted,
    /// It was issued with an unreadable certificate.
    #[error("has an unreadable status: {0}")]
    Unreadable(StatusError),
    /// It was issued with a certificate that is refused.
    #[error("was issued an identity that is refused: {0}")]
    Rejected(String),
    /// It failed before this driver started.
    #[error("failed before this driver started; see its conditions")]
    Earlier,
}

fn because(trouble: Option<&str>) -> String {
    trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default()
}

impl CertManagerError {
    /// The class of the failure.
    pub fn class(&self) -> Class {
        match self {
            CertManagerError::NoIssuer | CertManagerError::NoLink(_) | CertManagerError::NoBundle { .. } => {
                Class::NotYet
            }
            CertManagerError::NoToken | CertManagerError::Unusable { .. } => Class::Blocked,
            CertManagerError::Token(_) => Class::Invalid,
            CertManagerError::Create { source, .. } => create_class(source),
            CertManagerError::FailedRequest(ended) | CertManagerError::TooEarly { ended, .. } => ended.class(),
            CertManagerError::NoPod
            | CertManagerError::Key(_)
            | CertManagerError::Csr(_)
            | CertManagerError::Random
            | CertManagerError::Task(_) => Class::Internal,
        }
    }

    /// The finding that explains it.
    pub fn finding(&self) -> Option<&'static Check> {
        Some(match self {
            CertManagerError::NoPod => finding!("csidriver-lacks-fields"),
            CertManagerError::NoLink(_) => finding!("requests-not-watched"),
            CertManagerError::NoBundle { .. } => finding!("trust-bundle-missing"),
            CertManagerError::NoToken => finding!("no-service-account-token"),
            CertManagerError::Create { .. } => finding!("request-failed"),
            CertManagerError::Unusable { .. } => finding!("issuer-unusable"),
            CertManagerError::FailedRequest(ended) | CertManagerError::TooEarly { ended, .. } => ended.how.finding(),
            CertManagerError::NoIssuer
            | CertManagerError::Token(_)
            | CertManagerError::Key(_)
            | CertManagerError::Csr(_)
            | CertManagerError::Random
            | CertManagerError::Task(_) => return None,
        })
    }
}

fn create_class(error: &CreateError) -> Class {
    match error {
        CreateError::Unauthorized | CreateError::Forbidden(_) => Class::Denied,
        CreateError::Refused(_) => Class::Blocked,
        CreateError::Unclear(_) => Class::NotYet,
        CreateError::Garbled => Class::Invalid,
    }
}

impl Ending {
    /// One word for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Ending::Denied(_) => "denied",
            Ending::Failed(_) => "failed",
            Ending::Invalid(_) => "invalid",
            Ending::Deleted => "deleted",
            Ending::Unreadable(_) => "unreadable",
            Ending::Rejected(_) => "rejected",
            Ending::Earlier => "earlier",
        }
    }

    fn finding(&self) -> &'static Check {
        match self {
            Ending::Rejected(_) => finding!("identity-refused"),
            Ending::Denied(_)
            | Ending::Failed(_)
            | Ending::Invalid(_)
            | Ending::Deleted
            | Ending::Unreadable(_)
            | Ending::Earlier => finding!("request-failed"),
        }
    }
}

impl FailedRequest {
    /// The class of the failure.
    pub fn class(&self) -> Class {
        match self.how {
            Ending::Denied(_) => Class::Denied,
            Ending::Failed(_) | Ending::Invalid(_) | Ending::Unreadable(_) | Ending::Rejected(_) => Class::Blocked,
            Ending::Deleted | Ending::Earlier => Class::NotYet,
        }
    }
}

/// An issuer in the form `ClusterIssuer spiffe-ca`, with its group if it is not cert-manager's own.
pub fn described(issuer: &IssuerRef) -> String {
    let name = Quoted::new(&issuer.name);
    match issuer.group() {
        "cert-manager.io" => format!("{} {name}", issuer.kind()),
        group => format!("{}.{group} {name}", issuer.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_failed_names_its_finding_however_often_it_is_repeated() {
        let ended = |how| FailedRequest { request: String::new(), issuer: String::new(), how };
        for (how, id) in [
            (Ending::Denied(Quoted::new("x")), "request-failed"),
            (Ending::Deleted, "request-failed"),
            (Ending::Rejected("x".to_owned()), "identity-refused"),
        ] {
            let repeated = CertManagerError::TooEarly { seconds: 1, ended: ended(how.clone()) };
            for error in [ended(how).into(), repeated] {
                assert_eq!(error.finding().map(|check| check.id), Some(id), "{error}");
            }
        }
    }
}

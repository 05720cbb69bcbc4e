//! Why cert-manager gave no identity.

use svid_csi_core::cert_request::{IssuerRef, StatusError};
use svid_csi_core::error::Class;
use svid_csi_core::identity::KeyError;
use svid_csi_core::pod_token::PodTokenError;
use svid_csi_core::quoted::Quoted;
use svid_csi_core::request::CsrError;

use crate::kube::requester::CreateError;

/// Why there is no identity from cert-manager now.
#[derive(Debug, thiserror::Error)]
pub enum CertManagerError {
    /// The record of the volume names no pod, and a request needs an owner.
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
    /// The trust bundle is not there.
    #[error("there is no trust bundle from {source_name} yet{}", because(.trouble.as_deref()))]
    NoBundle {
        /// Where it should come from.
        source_name: String,
        /// Why it does not.
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
    /// The request was not made.
    #[error("the CertificateRequest in namespace {namespace} cannot be created")]
    Create {
        /// The pod's namespace.
        namespace: String,
        /// Why.
        #[source]
        source: CreateError,
    },
    /// No key could be made.
    #[error("cannot generate a key")]
    Key(#[from] KeyError),
    /// No CSR could be made.
    #[error("cannot create a certificate signing request")]
    Csr(#[from] CsrError),
    /// The system has no randomness to give.
    #[error("the system's random number generator failed")]
    Random,
    /// The task that makes keys did not end as it should.
    #[error("the key generation task failed")]
    Task(#[from] tokio::task::JoinError),
    /// The issuer can never sign such requests.
    #[error("{issuer} cannot be used: {why}")]
    Unusable {
        /// Which issuer.
        issuer: String,
        /// Why, and what to use instead.
        why: &'static str,
    },
    /// The request failed.
    #[error(transparent)]
    FailedRequest(#[from] FailedRequest),
    /// The last request failed, and it is too early for the next.
    #[error("retrying in {seconds} s, because {ended}")]
    TooEarly {
        /// In how many seconds, rounded up.
        seconds: u64,
        /// The outcome of the last one.
        ended: FailedRequest,
    },
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CertificateRequest {request} for {issuer} {how}")]
pub struct FailedRequest {
    /// Namespace and name; nothing known after a restart.
    pub request: String,
    /// Who was to sign.
    pub issuer: String,
    /// What became of it.
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
    /// cert-manager cannot make sense of it.
    #[error("was marked invalid by cert-manager: {0}")]
    Invalid(Quoted),
    /// It was removed.
    #[error("was deleted before it was issued")]
    Deleted,
    /// Issued, with something that is not a certificate.
    #[error("has an unreadable status: {0}")]
    Unreadable(StatusError),
    /// Issued, with a certificate that is not the pod's.
    #[error("was issued an identity that is refused: {0}")]
    Rejected(String),
    /// One before this driver started.
    #[error("failed before this driver started; see its conditions")]
    Earlier,
}

fn because(trouble: Option<&str>) -> String {
    trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default()
}

impl CertManagerError {
    /// How the failure is to be treated.
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
}

impl FailedRequest {
    /// How the failure is to be treated.
    pub fn class(&self) -> Class {
        match self.how {
            Ending::Denied(_) => Class::Denied,
            Ending::Failed(_) | Ending::Invalid(_) | Ending::Unreadable(_) | Ending::Rejected(_) => Class::Blocked,
            Ending::Deleted | Ending::Earlier => Class::NotYet,
        }
    }
}

/// An issuer as people write it: `ClusterIssuer spiffe-ca`, with its group if it is not cert-manager's own.
pub fn described(issuer: &IssuerRef) -> String {
    let name = Quoted::new(&issuer.name);
    match issuer.group() {
        "cert-manager.io" => format!("{} {name}", issuer.kind()),
        group => format!("{}.{group} {name}", issuer.kind()),
    }
}

//! The configuration of an approver.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::cert_request::IssuerRef;
use crate::identity::KeyType;
use crate::quoted::Quoted;
use crate::spiffe_id::TrustDomain;

/// The rules an approver applies.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The name of the CSI driver whose volumes pods must declare, if that is required.
    pub driver_name: String,
    /// The trust domain of every identity.
    pub trust_domain: TrustDomain,
    /// The duration every request must have.
    pub duration: Duration,
    /// The issuer every request must be for. Without one, requests are left pending.
    pub issuer: Option<IssuerRef>,
    /// The known former issuers. Certificates they sign may still be trusted, so requests for them without our
    /// annotation are denied too.
    pub former_issuers: Vec<IssuerRef>,
    /// Who makes the requests.
    pub mode: Mode,
    /// The kinds of keys that may be certified.
    pub key_types: BTreeSet<KeyType>,
    /// Whether requests without our annotation are approved too, as cert-manager's own approver does.
    pub auto_approve_non_spiffe: bool,
}

/// Who makes the requests, which determines the proof that a request must carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The pods, each with its own token: a request is for the requester itself.
    Pod,
    /// The driver, which is trusted to ask for the right pods, apart from what the owner reference says.
    OwnServiceAccount {
        /// The driver's service account.
        driver: ServiceAccount,
    },
    /// The driver, and only for pods on its own node.
    NodeBound {
        /// The driver's service account.
        driver: ServiceAccount,
    },
}

impl Mode {
    /// The driver's service account, if the driver makes the requests.
    pub fn driver(&self) -> Option<&ServiceAccount> {
        match self {
            Mode::Pod => None,
            Mode::OwnServiceAccount { driver } | Mode::NodeBound { driver } => Some(driver),
        }
    }
}

/// A service account, written `system:serviceaccount:<namespace>:<name>` as the API server names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A user name that does not belong to a service account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{user} is not a service account (system:serviceaccount:NAMESPACE:NAME)")]
pub struct NotAServiceAccount {
    /// The name.
    pub user: Quoted,
}

impl FromStr for ServiceAccount {
    type Err = NotAServiceAccount;

    fn from_str(user: &str) -> Result<Self, NotAServiceAccount> {
        let mut parts = user.split(':');
        let (system, kind) = (parts.next(), parts.next());
        match (system, kind, parts.next(), parts.next(), parts.next()) {
            (Some("system"), Some("serviceaccount"), Some(namespace), Some(name), None)
                if !namespace.is_empty() && !name.is_empty() =>
            {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(NotAServiceAccount { user: Quoted::new(user) }),
        }
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

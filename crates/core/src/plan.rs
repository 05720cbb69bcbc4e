//! Which source may be received in which way.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Who gives the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The Workload API of an agent on this node; the driver never sees the identity.
    Socket,
    /// cert-manager, through `CertificateRequest` objects.
    CertManager,
    /// The certificate authority embedded in this driver.
    LocalCa,
}

/// How the pod receives the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    /// A directory that holds the agent's socket.
    SocketDir,
    /// PEM files.
    Files,
}

/// An issuer that mints identities through this driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Issuer {
    /// See [`Source::CertManager`].
    CertManager,
    /// See [`Source::LocalCa`].
    LocalCa,
}

/// A valid pair of source and delivery. Pairs that make no sense cannot be written down.
///
/// Written as `source:delivery`, for example `local-ca:files`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Plan {
    /// `socket:socket-dir`: the agent's socket directory, bind-mounted.
    Passthrough,
    /// An identity minted through this driver, delivered as PEM files.
    Files(Issuer),
}

/// A name that is no source, no delivery, or a pair that is no plan. Displays as one sentence that lists what is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not a source of this version.
    #[error("source {0:?} does not exist in this version; use `socket`, `cert-manager` or `local-ca`")]
    UnknownSource(String),
    /// Not a delivery of this version.
    #[error("delivery {0:?} does not exist in this version; use `socket-dir` or `files`")]
    UnknownDelivery(String),
    /// Both exist, but the source cannot be received that way.
    #[error("source `{source_name}` cannot be delivered as `{delivery}`; use `{source_name}:{instead}`")]
    NotAPair {
        /// The source asked for.
        source_name: Source,
        /// The delivery asked for.
        delivery: Delivery,
        /// The delivery that source has.
        instead: Delivery,
    },
    /// Not of the form `source:delivery`.
    #[error("plan {0:?} is not of the form `source:delivery`, for example `local-ca:files`")]
    NotOfTheForm(String),
}

impl Source {
    /// The delivery meant when none is named.
    pub fn usual_delivery(self) -> Delivery {
        match self {
            Source::Socket => Delivery::SocketDir,
            Source::CertManager | Source::LocalCa => Delivery::Files,
        }
    }
}

impl Issuer {
    /// The source this issuer is.
    pub fn source(self) -> Source {
        match self {
            Issuer::CertManager => Source::CertManager,
            Issuer::LocalCa => Source::LocalCa,
        }
    }
}

impl Plan {
    /// The plan of this pair.
    ///
    /// # Errors
    /// [`PlanError::NotAPair`] when the source cannot be received that way.
    pub fn new(source: Source, delivery: Delivery) -> Result<Self, PlanError> {
        match (source, delivery) {
            (Source::Socket, Delivery::SocketDir) => Ok(Plan::Passthrough),
            (Source::CertManager, Delivery::Files) => Ok(Plan::Files(Issuer::CertManager)),
            (Source::LocalCa, Delivery::Files) => Ok(Plan::Files(Issuer::LocalCa)),
            _ => Err(PlanError::NotAPair { source_name: source, delivery, instead: source.usual_delivery() }),
        }
    }

    /// Who gives the identity.
    pub fn source(self) -> Source {
        match self {
            Plan::Passthrough => Source::Socket,
            Plan::Files(issuer) => issuer.source(),
        }
    }

    /// How the pod receives it.
    pub fn delivery(self) -> Delivery {
        match self {
            Plan::Passthrough => Delivery::SocketDir,
            Plan::Files(_) => Delivery::Files,
        }
    }

    /// Whether the driver obtains a key for the pod, so that the pod's identity must be proven.
    pub fn mints(self) -> bool {
        matches!(self, Plan::Files(_))
    }
}

impl FromStr for Source {
    type Err = PlanError;

    fn from_str(name: &str) -> Result<Self, PlanError> {
        match name {
            "socket" => Ok(Source::Socket),
            "cert-manager" => Ok(Source::CertManager),
            "local-ca" => Ok(Source::LocalCa),
            _ => Err(PlanError::UnknownSource(name.to_owned())),
        }
    }
}

impl FromStr for Delivery {
    type Err = PlanError;

    fn from_str(name: &str) -> Result<Self, PlanError> {
        match name {
            "socket-dir" => Ok(Delivery::SocketDir),
            "files" => Ok(Delivery::Files),
            _ => Err(PlanError::UnknownDelivery(name.to_owned())),
        }
    }
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(pair: &str) -> Result<Self, PlanError> {
        let (source, delivery) = pair.split_once(':').ok_or_else(|| PlanError::NotOfTheForm(pair.to_owned()))?;
        Plan::new(source.parse()?, delivery.parse()?)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Socket => "socket",
            Source::CertManager => "cert-manager",
            Source::LocalCa => "local-ca",
        })
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Delivery::SocketDir => "socket-dir",
            Delivery::Files => "files",
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source(), self.delivery())
    }
}

impl From<Plan> for String {
    fn from(plan: Plan) -> String {
        plan.to_string()
    }
}

impl TryFrom<String> for Plan {
    type Error = PlanError;

    fn try_from(pair: String) -> Result<Self, PlanError> {
        pair.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_back_as_written() {
        for text in ["socket:socket-dir", "cert-manager:files", "local-ca:files"] {
            let plan: Plan = text.parse().unwrap();
            assert_eq!(plan.to_string(), text);
            assert_eq!(Plan::new(plan.source(), plan.delivery()), Ok(plan));
        }
    }

    #[test]
    fn what_is_no_plan_says_what_is() {
        for (text, says) in [
            ("socket:files", "use `socket:socket-dir`"),
            ("local-ca:socket-dir", "use `local-ca:files`"),
            ("cert-manager:socket-dir", "use `cert-manager:files`"),
            ("spire:files", "use `socket`, `cert-manager` or `local-ca`"),
            ("local-ca:env", "use `socket-dir` or `files`"),
            ("local-ca", "`source:delivery`"),
        ] {
            let error = text.parse::<Plan>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

//! Which sources can be combined with which deliveries.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Who issues the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The Workload API of an agent on this node; the driver never sees the identity.
    Socket,
    /// The SPIFFE Broker API of an agent on this node: the driver asks for a pod's identity by the pod's UID.
    Broker,
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
    /// Files, in PEM and other formats.
    Files,
    /// A Workload API socket of this driver.
    WorkloadApi,
}

/// The issuer from which this driver obtains keys and certificates for pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Issuer {
    /// See [`Source::Broker`].
    Broker,
    /// See [`Source::CertManager`].
    CertManager,
    /// See [`Source::LocalCa`].
    LocalCa,
}

/// A valid pair of source and delivery. Invalid pairs cannot be represented.
///
/// Written as `source:delivery`, for example `local-ca:files`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Plan {
    /// `socket:socket-dir`: the agent's socket directory, bind-mounted.
    Passthrough,
    /// An identity obtained by this driver, delivered as files.
    Files(Issuer),
    /// An identity obtained by this driver, delivered by a Workload API socket.
    WorkloadApi(Issuer),
}

/// An unknown source or delivery, or a pair that is not a plan. Displays as one sentence that lists the valid choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not a source of this version.
    #[error("source {0:?} does not exist in this version; use {names}", names = one_of(Source::ALL.map(|source| format!("`{source}`"))))]
    UnknownSource(String),
    /// Not a delivery of this version.
    #[error("delivery {0:?} does not exist in this version; use `socket-dir`, `files` or `workload-api`")]
    UnknownDelivery(String),
    /// Both exist, but the source does not support the delivery.
    #[error("source `{source_name}` cannot be delivered as `{delivery}`; use `{source_name}:{instead}`")]
    NotAPair {
        /// The requested source.
        source_name: Source,
        /// The requested delivery.
        delivery: Delivery,
        /// A delivery that the source supports.
        instead: Delivery,
    },
    /// Not of the form `source:delivery`.
    #[error("plan {0:?} is not of the form `source:delivery`, for example `local-ca:files`")]
    NotOfTheForm(String),
}

impl Source {
    /// Every source.
    pub const ALL: [Source; 4] = [Source::Socket, Source::Broker, Source::CertManager, Source::LocalCa];

    /// Its name in attributes, flags and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Socket => "socket",
            Source::Broker => "broker",
            Source::CertManager => "cert-manager",
            Source::LocalCa => "local-ca",
        }
    }

    /// The default delivery.
    pub fn usual_delivery(self) -> Delivery {
        match self {
            Source::Socket => Delivery::SocketDir,
            Source::Broker | Source::CertManager | Source::LocalCa => Delivery::Files,
        }
    }

    /// The issuer of this source; `None` if the driver never sees an identity.
    pub fn issuer(self) -> Option<Issuer> {
        match self {
            Source::Socket => None,
            Source::Broker => Some(Issuer::Broker),
            Source::CertManager => Some(Issuer::CertManager),
            Source::LocalCa => Some(Issuer::LocalCa),
        }
    }
}

impl Issuer {
    /// The source of this issuer.
    pub fn source(self) -> Source {
        match self {
            Issuer::Broker => Source::Broker,
            Issuer::CertManager => Source::CertManager,
            Issuer::LocalCa => Source::LocalCa,
        }
    }

    /// Whether it sends the next identity when there is one, rather than when it is asked.
    pub fn pushes(self) -> bool {
        self == Issuer::Broker
    }

    /// Whether it issues JWT-SVIDs.
    pub fn gives_jwt(self) -> bool {
        self != Issuer::CertManager
    }

    /// Whether the SPIFFE ID of a pod is known before it is issued: the one of its service account in the driver's
    /// trust domain.
    pub fn names_identity(self) -> bool {
        self != Issuer::Broker
    }
}

impl Plan {
    /// The plan of this pair.
    ///
    /// # Errors
    /// [`PlanError::NotAPair`] if the source does not support the delivery.
    pub fn new(source: Source, delivery: Delivery) -> Result<Self, PlanError> {
        match (source.issuer(), delivery) {
            (None, Delivery::SocketDir) => Ok(Plan::Passthrough),
            (Some(issuer), Delivery::Files) => Ok(Plan::Files(issuer)),
            (Some(issuer), Delivery::WorkloadApi) => Ok(Plan::WorkloadApi(issuer)),
            _ => Err(PlanError::NotAPair { source_name: source, delivery, instead: source.usual_delivery() }),
        }
    }

    /// Who issues the identity.
    pub fn source(self) -> Source {
        self.issuer().map_or(Source::Socket, Issuer::source)
    }

    /// How the pod receives it.
    pub fn delivery(self) -> Delivery {
        match self {
            Plan::Passthrough => Delivery::SocketDir,
            Plan::Files(_) => Delivery::Files,
            Plan::WorkloadApi(_) => Delivery::WorkloadApi,
        }
    }

    /// The issuer of the identity, if the driver obtains one.
    pub fn issuer(self) -> Option<Issuer> {
        match self {
            Plan::Passthrough => None,
            Plan::Files(issuer) | Plan::WorkloadApi(issuer) => Some(issuer),
        }
    }

    /// Whether the driver obtains a key for the pod, so that the pod's identity must be proven.
    pub fn mints(self) -> bool {
        self.issuer().is_some()
    }
}

/// Names in a sentence: `a, b or c`.
pub fn one_of(names: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let mut names: Vec<_> = names.into_iter().map(|name| name.to_string()).collect();
    match names.pop() {
        Some(last) if !names.is_empty() => format!("{} or {last}", names.join(", ")),
        last => last.unwrap_or_default(),
    }
}

impl FromStr for Source {
    type Err = PlanError;

    fn from_str(name: &str) -> Result<Self, PlanError> {
        let known = Source::ALL.into_iter().find(|source| source.to_string() == name);
        known.ok_or_else(|| PlanError::UnknownSource(name.to_owned()))
    }
}

impl FromStr for Delivery {
    type Err = PlanError;

    fn from_str(name: &str) -> Result<Self, PlanError> {
        match name {
            "socket-dir" => Ok(Delivery::SocketDir),
            "files" => Ok(Delivery::Files),
            "workload-api" => Ok(Delivery::WorkloadApi),
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
        f.write_str(self.name())
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Delivery::SocketDir => "socket-dir",
            Delivery::Files => "files",
            Delivery::WorkloadApi => "workload-api",
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

    const SOURCES: [&str; 4] = ["socket", "broker", "cert-manager", "local-ca"];
    const DELIVERIES: [&str; 3] = ["socket-dir", "files", "workload-api"];

    #[test]
    fn every_pair_is_a_plan_or_names_one_that_is() {
        for source in SOURCES {
            for delivery in DELIVERIES {
                let text = format!("{source}:{delivery}");
                match text.parse::<Plan>() {
                    Ok(plan) => {
                        assert_eq!((source == "socket"), (delivery == "socket-dir"), "{text}");
                        assert_eq!(plan.to_string(), text);
                        assert_eq!(Plan::new(plan.source(), plan.delivery()), Ok(plan));
                        assert_eq!(plan.mints(), source != "socket");
                    }
                    Err(error) => {
                        let usual = if source == "socket" { "socket-dir" } else { "files" };
                        assert!(error.to_string().ends_with(&format!("use `{source}:{usual}`")), "{text}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_invalid_plan_names_the_valid_ones() {
        for (text, says) in [
            ("spire:files", "use `socket`, `broker`, `cert-manager` or `local-ca`"),
            ("local-ca:env", "use `socket-dir`, `files` or `workload-api`"),
            ("local-ca", "`source:delivery`"),
        ] {
            let error = text.parse::<Plan>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

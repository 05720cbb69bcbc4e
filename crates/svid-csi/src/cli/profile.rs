//! The two predecessors that this binary replaces, and the defaults of each.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use svid_csi_core::plan::Source;

use super::values;

/// A predecessor whose flags and defaults are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// spiffe/spiffe-csi.
    Spiffe,
    /// cert-manager/csi-driver-spiffe.
    CertManager,
}

impl Profile {
    const ALL: [Profile; 2] = [Profile::Spiffe, Profile::CertManager];

    /// Its driver name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Profile::Spiffe => "csi.spiffe.io",
            Profile::CertManager => "spiffe.csi.cert-manager.io",
        }
    }

    /// The profile implied by the name of the binary.
    pub(super) fn of_binary(name: &str) -> Option<Self> {
        match name {
            "spiffe-csi-driver" => Some(Profile::Spiffe),
            "cert-manager-csi-driver-spiffe" => Some(Profile::CertManager),
            _ => None,
        }
    }

    /// The default source.
    pub(super) fn source(self) -> Source {
        match self {
            Profile::Spiffe => Source::Socket,
            Profile::CertManager => Source::CertManager,
        }
    }

    /// The default issuer.
    pub(super) fn issuer_name(self) -> Option<&'static str> {
        match self {
            Profile::Spiffe => None,
            Profile::CertManager => Some("my-spiffe-ca"),
        }
    }

    /// The default CSI socket.
    pub(super) fn csi_socket(self) -> Option<PathBuf> {
        match self {
            Profile::Spiffe => Some(PathBuf::from("/spiffe-csi/csi.sock")),
            Profile::CertManager => None,
        }
    }

    /// The default trust domain.
    pub(super) fn trust_domain(self) -> Option<&'static str> {
        match self {
            Profile::Spiffe => None,
            Profile::CertManager => Some("cluster.local"),
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Profile::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| format!("{name:?} is not a profile; use csi.spiffe.io or spiffe.csi.cert-manager.io"))
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An additional driver name, with its profile's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AlsoProfile {
    pub(super) profile: Profile,
    pub(super) csi_socket: PathBuf,
    pub(super) registration_path: Option<PathBuf>,
}

impl FromStr for AlsoProfile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let profile: Profile = name.parse()?;
        let (mut csi_socket, mut registration_path) = (None, None);
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=').unwrap_or((setting, "")) {
                ("csi-socket" | "registration-path", "") => {}
                ("csi-socket", socket) => csi_socket = Some(values::socket(socket)?),
                ("registration-path", path) => registration_path = Some(values::socket(path)?),
                (other, _) => {
                    return Err(format!(
                        "{name}: {other:?} is not a setting; use csi-socket=SOCKET, registration-path=PATH"
                    ));
                }
            }
        }
        match csi_socket {
            Some(csi_socket) => Ok(Self { profile, csi_socket, registration_path }),
            None => Err(format!("{name}: the socket is missing; write {name}:csi-socket=SOCKET")),
        }
    }
}

//! What volumes are, and what they become when they are published again as something else.

use svid_csi::demo::kubelet::InlineVolume;

use crate::broker::scene;
use crate::fixture::{FILES, PASSTHROUGH, volume};
use crate::roots;
use crate::workload_api::SOCKETS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Files under the usual names; the others are SPIFFE's.
    Files,
    /// Every format, with a password and tokens; fewer of them.
    Formats,
    /// A Workload API; files.
    Sockets,
    /// The agent's sockets; files.
    Passthrough,
    /// Files with tokens, on a node that shares its roots with others; other names.
    Roots,
    /// Files of an agent's identities, with tokens; other names.
    BrokerFiles,
    /// A Workload API with an agent's identities; files.
    BrokerSockets,
    /// Files of cert-manager's certificates; other names.
    CertManagerFiles,
    /// A Workload API with cert-manager's certificates; files.
    CertManagerSockets,
}

/// Where identities come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Its own authority.
    LocalCa,
    /// The same, and those of other nodes in a ConfigMap of a scripted API server.
    Roots,
    /// A scripted agent, which pushes.
    Agent,
    /// A scripted API server with a cert-manager that issues at once.
    CertManager,
}

const ROOT: &[&str] = &["--data-root={dir}/root", "--trust-domain=example.org", "--admin-socket={dir}/admin.sock"];
const ALSO_FILES: &[&str] = &["--allow-plan=local-ca:files"];
const OTHER_NAMES: &[(&str, &str)] =
    &[("file-cert", "svid.pem"), ("file-key", "svid_key.pem"), ("file-bundle", "bundle.pem")];
const FORMATS: &[(&str, &str)] = &[
    ("file-combined", "all.pem"),
    ("file-pkcs12", "key.p12"),
    ("file-pkcs12-bundle", "trust.p12"),
    ("file-bundle-json", "bundle.json"),
    ("audience", "vault"),
];

impl Plan {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Plan::Files => "files",
            Plan::Formats => "formats",
            Plan::Sockets => "sockets",
            Plan::Passthrough => "passthrough",
            Plan::Roots => "roots",
            Plan::BrokerFiles => "broker-files",
            Plan::BrokerSockets => "broker-sockets",
            Plan::CertManagerFiles => "cert-manager-files",
            Plan::CertManagerSockets => "cert-manager-sockets",
        }
    }

    pub(crate) fn source(self) -> Source {
        match self {
            Plan::Files | Plan::Formats | Plan::Sockets | Plan::Passthrough => Source::LocalCa,
            Plan::Roots => Source::Roots,
            Plan::BrokerFiles | Plan::BrokerSockets => Source::Agent,
            Plan::CertManagerFiles | Plan::CertManagerSockets => Source::CertManager,
        }
    }

    /// The name of the driver.
    pub(super) fn driver(self) -> &'static str {
        match self.source() {
            Source::LocalCa | Source::Roots => "demo.svid-csi",
            Source::Agent => "csi.spiffe.io",
            Source::CertManager => "spiffe.csi.cert-manager.io",
        }
    }

    /// The volume of a pod.
    pub(super) fn volume(self, pod: &str) -> InlineVolume {
        match self {
            Plan::Formats => with(volume(pod), FORMATS).secret("pkcs12-password", "changeit"),
            Plan::Roots | Plan::BrokerFiles => with(volume(pod), &[("audience", "vault")]),
            Plan::CertManagerSockets => with(volume(pod), &[("delivery", "workload-api")]),
            Plan::Files | Plan::Sockets | Plan::Passthrough | Plan::BrokerSockets | Plan::CertManagerFiles => {
                volume(pod)
            }
        }
    }

    /// The same volume, as its pod asks for it later.
    pub(super) fn other(self, pod: &str) -> InlineVolume {
        match self {
            Plan::Files | Plan::Roots | Plan::BrokerFiles | Plan::CertManagerFiles => with(volume(pod), OTHER_NAMES),
            Plan::Formats => with(volume(pod), &[("audience", "vault")]),
            Plan::Sockets | Plan::Passthrough => with(volume(pod), &[("source", "local-ca"), ("delivery", "files")]),
            Plan::BrokerSockets => with(volume(pod), &[("delivery", "files")]),
            Plan::CertManagerSockets => volume(pod),
        }
    }

    /// The same volume with another password.
    pub(super) fn with_other_password(self, pod: &str) -> InlineVolume {
        with(volume(pod), FORMATS).secret("pkcs12-password", "another")
    }

    /// The flags of the driver, besides those that its source needs.
    pub(super) fn args(self) -> Vec<&'static [&'static str]> {
        const SOCKETS_TOO: &[&str] = &["--allow-plan=cert-manager:workload-api"];
        match self {
            Plan::Files | Plan::Formats => vec![FILES, ROOT],
            Plan::Sockets => vec![SOCKETS, ROOT, ALSO_FILES],
            Plan::Passthrough => vec![PASSTHROUGH, ROOT, ALSO_FILES],
            Plan::Roots => vec![FILES, roots::ARGS],
            Plan::BrokerFiles => vec![scene::FILES, scene::SOCKET],
            Plan::BrokerSockets => vec![scene::WORKLOAD_API, scene::SOCKET, &["--allow-plan=broker:files"]],
            Plan::CertManagerFiles => vec![],
            Plan::CertManagerSockets => vec![SOCKETS_TOO],
        }
    }
}

fn with(volume: InlineVolume, attributes: &[(&str, &str)]) -> InlineVolume {
    let named =
        |volume: InlineVolume, (name, value): &(&str, &str)| volume.attribute(&format!("svid-csi/{name}"), value);
    attributes.iter().fold(volume, named)
}

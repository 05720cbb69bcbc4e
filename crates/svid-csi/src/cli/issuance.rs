//! The flags about certificate requests that driver and approver share: the issuer, and who makes requests.

use std::str::FromStr;

use svid_csi_core::cert_request::IssuerRef;
use svid_csi_core::runtime_issuer::ConfigMapPlace;

use super::mistakes::FlagMistakes;

/// The issuer with that name, and the default kind and group unless they are given.
pub(super) fn issuer(name: String, kind: Option<String>, group: Option<String>) -> IssuerRef {
    let or = |given: Option<String>, usual: &str| given.unwrap_or_else(|| usual.to_owned());
    IssuerRef { name, kind: or(kind, "ClusterIssuer"), group: or(group, "cert-manager.io") }
}

/// The ConfigMap of --runtime-issuance-config-map-name and -namespace. The charts always set the namespace, so it alone
/// has no effect.
pub(super) fn runtime_issuer(
    name: Option<String>,
    namespace: Option<String>,
    mistakes: &mut FlagMistakes,
) -> Option<ConfigMapPlace> {
    let name = name?;
    let Some(namespace) = namespace else {
        mistakes.missing(
            "runtime-issuance-config-map-namespace",
            format_args!("give the namespace of the ConfigMap {name:?}"),
        );
        return None;
    };
    Some(ConfigMapPlace { namespace, name })
}

/// Who makes certificate requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestMode {
    /// Each pod, with its own token.
    Pod,
    /// The driver, for any pod.
    Own,
    /// The driver, for pods of its own node.
    NodeBound,
}

impl RequestMode {
    /// The mode selected by these two flags.
    pub(super) fn asked_for(mode: Option<Self>, own_service_account: bool, mistakes: &mut FlagMistakes) -> Self {
        if mode == Some(Self::Pod) && own_service_account {
            mistakes
                .add("request-mode", "pods do not use the driver's service account; leave out one of the two flags");
        }
        mode.unwrap_or(if own_service_account { Self::Own } else { Self::Pod })
    }
}

impl FromStr for RequestMode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "pod" => Ok(Self::Pod),
            "own" => Ok(Self::Own),
            "node-bound" => Ok(Self::NodeBound),
            _ => Err(format!("{word:?} is not a request mode; use pod, own or node-bound")),
        }
    }
}

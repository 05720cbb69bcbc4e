//! The flags by which driver and approver know the issuer.

use svid_csi_core::cert_request::IssuerRef;
use svid_csi_core::runtime_issuer::ConfigMapPlace;

use super::mistakes::Mistakes;

/// The issuer of that name, of the usual kind and group unless they are given.
pub(super) fn named(name: String, kind: Option<String>, group: Option<String>) -> IssuerRef {
    let or = |given: Option<String>, usual: &str| given.unwrap_or_else(|| usual.to_owned());
    IssuerRef { name, kind: or(kind, "ClusterIssuer"), group: or(group, "cert-manager.io") }
}

/// The ConfigMap of --runtime-issuance-config-map-name and -namespace. The charts give the namespace in any case, so it
/// alone means nothing.
pub(super) fn place(
    name: Option<String>,
    namespace: Option<String>,
    mistakes: &mut Mistakes,
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

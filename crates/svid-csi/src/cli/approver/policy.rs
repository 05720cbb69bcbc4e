//! The approval rules, and who makes the requests.

use std::time::Duration;

use clap::Args;
use svid_csi_core::approve::{Mode, Policy, ServiceAccount};
use svid_csi_core::identity::KeyType;
use svid_csi_core::spiffe_id::TrustDomain;

use crate::cli::issuance::RequestMode;
use crate::cli::mistakes::FlagMistakes;
use crate::cli::{issuance, values};

const DURATION: Duration = Duration::from_secs(3_600);

#[derive(Debug, Args)]
#[command(next_help_heading = "Approval rules")]
pub(super) struct Rules {
    /// The name of the CSIDriver object. Default: spiffe.csi.cert-manager.io.
    #[arg(long, value_name = "NAME", visible_alias = "driver-name", value_parser = values::driver_name)]
    csi_driver_name: Option<String>,
    /// The trust domain of every identity. Default: cluster.local.
    #[arg(long, value_name = "NAME", value_parser = values::trust_domain)]
    trust_domain: Option<TrustDomain>,
    /// The duration every request must have. Default: 1h.
    #[arg(long, value_name = "DURATION", value_parser = values::lifetime)]
    certificate_request_duration: Option<Duration>,
    /// The name of the issuer. Default: my-spiffe-ca, or none if a ConfigMap names it at run time.
    #[arg(long, value_name = "NAME")]
    issuer_name: Option<String>,
    /// The kind of the issuer. Default: ClusterIssuer.
    #[arg(long, value_name = "KIND")]
    issuer_kind: Option<String>,
    /// The API group of the issuer. Default: cert-manager.io.
    #[arg(long, value_name = "GROUP")]
    issuer_group: Option<String>,
    /// The kinds of keys that may be certified, separated by commas. Default: all, which are ecdsa-p256, ecdsa-p384,
    /// ecdsa-p521, rsa-2048 (and longer) and ed25519.
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    allowed_key_types: Vec<KeyType>,
    /// Also approve requests that do not ask for a SPIFFE identity.
    #[arg(long)]
    auto_approve_non_spiffe: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Requester")]
pub(super) struct RequesterFlags {
    /// Who makes the requests: `pod` (each pod), `own` (the driver) or `node-bound` (the driver, for pods of its own node).
    /// Default: pod, or own with --use-own-service-account.
    #[arg(long, value_name = "MODE")]
    request_mode: Option<RequestMode>,
    /// The driver makes the requests, with its own service account.
    #[arg(long)]
    use_own_service_account: bool,
    /// The driver's service account. Required if the driver makes the requests.
    #[arg(long, value_name = "system:serviceaccount:NAMESPACE:NAME")]
    driver_service_account: Option<ServiceAccount>,
}

/// The policy of the rules and the request mode. With a runtime issuer there is no default issuer, only one named by a
/// flag, because a default name does not identify the signer.
pub(super) fn policy(rules: Rules, mode: Mode, has_runtime_issuer: bool) -> Policy {
    let or = |given: Option<String>, usual: &str| given.unwrap_or_else(|| usual.to_owned());
    let usual = || TrustDomain::parse("cluster.local").expect("a trust domain");
    let usual_issuer = || (!has_runtime_issuer).then(|| "my-spiffe-ca".to_owned());
    let issuer = rules.issuer_name.or_else(usual_issuer);
    let all = rules.allowed_key_types.is_empty();
    Policy {
        driver_name: or(rules.csi_driver_name, "spiffe.csi.cert-manager.io"),
        trust_domain: rules.trust_domain.unwrap_or_else(usual),
        duration: rules.certificate_request_duration.unwrap_or(DURATION),
        issuer: issuer.map(|name| issuance::issuer(name, rules.issuer_kind, rules.issuer_group)),
        former_issuers: Vec::new(),
        mode,
        key_types: if all { KeyType::ALL.into() } else { rules.allowed_key_types.into_iter().collect() },
        auto_approve_non_spiffe: rules.auto_approve_non_spiffe,
    }
}

/// Who makes the requests. `None` if that is not known.
pub(super) fn mode(args: RequesterFlags, mistakes: &mut FlagMistakes) -> Option<Mode> {
    let mode = RequestMode::asked_for(args.request_mode, args.use_own_service_account, mistakes);
    if mode == RequestMode::Pod {
        return Some(Mode::Pod);
    }
    let Some(driver) = args.driver_service_account else {
        mistakes.missing("driver-service-account", "every request must come from this account");
        return None;
    };
    Some(if mode == RequestMode::Own { Mode::OwnServiceAccount { driver } } else { Mode::NodeBound { driver } })
}

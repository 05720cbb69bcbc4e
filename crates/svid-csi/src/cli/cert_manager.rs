//! The flags of source cert-manager: those of cert-manager/csi-driver-spiffe, and our own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use svid_csi_core::cert_request::ANNOTATION_PREFIX;
use svid_csi_core::identity::KeyType;
use svid_csi_core::spiffe_id::TrustDomain;

use super::client::ClientFlags;
use super::issuance::RequestMode;
use super::mistakes::FlagMistakes;
use super::profile::Profile;
use super::{issuance, values};

use crate::kube::client::ClientOptions;
use crate::source::cert_manager::config::{CertManagerConfig, RequestSettings};
use crate::source::trust_bundle::BundleSource;

const RENEWALS: usize = 8;
const NAMES: [&str; 12] = [
    "issuer-name",
    "issuer-kind",
    "issuer-group",
    "runtime-issuance-config-map-name",
    "runtime-issuance-config-map-namespace",
    "extra-certificate-request-annotations",
    "source-ca-bundle",
    "trust-bundle",
    "use-own-service-account",
    "request-mode",
    "require-chain",
    "renewal-concurrency",
];

#[derive(Debug, Args)]
#[command(next_help_heading = "Source cert-manager")]
pub(super) struct CertManagerFlags {
    /// The name of the issuer. Default with profile spiffe.csi.cert-manager.io: my-spiffe-ca, or none if a ConfigMap names
    /// it at run time.
    #[arg(long, value_name = "NAME")]
    issuer_name: Option<String>,
    /// The kind of the issuer; an Issuer is looked up in the pod's namespace. Default: ClusterIssuer.
    #[arg(long, value_name = "KIND")]
    issuer_kind: Option<String>,
    /// The API group of the issuer. Default: cert-manager.io.
    #[arg(long, value_name = "GROUP")]
    issuer_group: Option<String>,
    /// The ConfigMap that overrides the issuer at run time, with the keys issuer-name, issuer-kind and issuer-group.
    #[arg(long, value_name = "NAME")]
    runtime_issuance_config_map_name: Option<String>,
    /// The namespace of that ConfigMap.
    #[arg(long, value_name = "NAMESPACE")]
    runtime_issuance_config_map_namespace: Option<String>,
    /// Annotations to add to requests.
    #[arg(long, value_name = "a=b,c=d", value_parser = annotations)]
    extra_certificate_request_annotations: Option<BTreeMap<String, String>>,
    /// A PEM file to deliver as the trust bundle. The driver follows changes.
    #[arg(long, value_name = "FILE", value_parser = values::path)]
    source_ca_bundle: Option<PathBuf>,
    /// The trust bundle in the cluster: configmap:NAMESPACE/NAME/KEY or clustertrustbundle:NAME. The driver follows changes.
    #[arg(long, value_name = "OBJECT")]
    trust_bundle: Option<BundleSource>,
    /// The driver makes the requests, with its own service account: --request-mode=own.
    #[arg(long)]
    use_own_service_account: bool,
    /// Who makes the requests: `pod` (each pod), `own` (the driver) or `node-bound` (the driver, for pods of its own node;
    /// pods need no permissions). The approver needs the same mode. Default: pod.
    #[arg(long, value_name = "MODE")]
    request_mode: Option<RequestMode>,
    /// Refuse certificates whose chain does not lead to the trust bundle. If false, they are still delivered as files, with a
    /// warning, but never over Workload API sockets. Default: true; false with the profile spiffe.csi.cert-manager.io, as in
    /// csi-driver-spiffe.
    #[arg(long, value_name = "BOOLEAN", value_parser = values::boolean, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    require_chain: Option<bool>,
    /// The number of renewals that may be in progress at the same time in one namespace; twice as many in all namespaces
    /// together. Default: 8.
    #[arg(long, value_name = "NUMBER", value_parser = values::at_least_one)]
    renewal_concurrency: Option<usize>,
    #[command(flatten)]
    client: ClientFlags,
}

/// Settings of all issued identities.
pub(super) struct Common {
    pub(super) profile: Option<Profile>,
    pub(super) node_id: String,
    pub(super) trust_domain: Option<TrustDomain>,
    pub(super) lifetime: Duration,
    pub(super) key_type: KeyType,
    /// Whether a chain that does not lead to the trust bundle is refused, unless a flag says otherwise.
    pub(super) requires_chain: bool,
}

impl CertManagerFlags {
    /// The names of these flags, without those of the client if other sources also use it.
    pub(super) fn names(others_use_client: bool) -> impl Iterator<Item = &'static str> {
        let shared = ClientFlags::obeyed().filter(move |_| !others_use_client);
        NAMES.into_iter().chain(shared).chain(ClientFlags::idle())
    }

    /// How to reach the API server.
    pub(super) fn client(&self, mistakes: &mut FlagMistakes) -> ClientOptions {
        self.client.options(mistakes)
    }

    /// Combines these flags.
    pub(super) fn config(self, common: Common, mistakes: &mut FlagMistakes) -> Option<CertManagerConfig> {
        let mode = RequestMode::asked_for(self.request_mode, self.use_own_service_account, mistakes);
        let runtime_issuer = issuance::runtime_issuer(
            self.runtime_issuance_config_map_name,
            self.runtime_issuance_config_map_namespace,
            mistakes,
        );
        // As for the approver: if a ConfigMap names the issuer, a default name does not identify the signer.
        let usual_name = common.profile.and_then(Profile::issuer_name).filter(|_| runtime_issuer.is_none());
        let issuer = self
            .issuer_name
            .or(usual_name.map(str::to_owned))
            .map(|name| issuance::issuer(name, self.issuer_kind, self.issuer_group));
        if issuer.is_none() && runtime_issuer.is_none() {
            mistakes.missing("issuer-name", "name the issuer that signs for pods");
        }
        if self.source_ca_bundle.is_some() && self.trust_bundle.is_some() {
            mistakes.add("trust-bundle", "conflicts with --source-ca-bundle; leave out one of the two");
        }
        Some(CertManagerConfig {
            trust_domain: common.trust_domain?,
            issuer,
            runtime_issuer,
            bundle: self.trust_bundle.or(self.source_ca_bundle.map(BundleSource::File)),
            settings: RequestSettings {
                node_id: common.node_id,
                lifetime: common.lifetime,
                key_type: common.key_type,
                pods_ask: mode == RequestMode::Pod,
                annotations: self.extra_certificate_request_annotations.unwrap_or_default(),
                requires_chain: self.require_chain.unwrap_or(common.requires_chain),
                renewals: self.renewal_concurrency.unwrap_or(RENEWALS),
            },
        })
    }

    /// Warnings about settings that are ignored.
    pub(super) fn warnings(&self, mistakes: &FlagMistakes) -> Vec<String> {
        let ours = |key: &&String| key.starts_with(ANNOTATION_PREFIX);
        let annotations = self.extra_certificate_request_annotations.iter().flat_map(BTreeMap::keys).filter(ours);
        let annotations = annotations.map(|key| {
            let flag = mistakes.spelling("extra-certificate-request-annotations");
            format!("{flag}: {key} is ignored: keys under {ANNOTATION_PREFIX} belong to the driver")
        });
        let idle = ClientFlags::idle().filter(|flag| mistakes.given(flag));
        let idle = idle.map(|flag| {
            format!("{} has no effect: use --kubeconfig, --context, --cluster and --user", mistakes.spelling(flag))
        });
        annotations.chain(idle).collect()
    }
}

/// `a=b,c=d`.
fn annotations(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("{pair:?} is not an annotation; write key=value, with commas between several")),
    };
    text.split(',').filter(|text| !text.trim().is_empty()).map(pair).collect()
}

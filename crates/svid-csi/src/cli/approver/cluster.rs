//! The configuration of the approver in a cluster.

use clap::Args;

use crate::approver::{Cluster, Listen};
use crate::cli::client::ClientFlags;
use crate::cli::issuance;
use crate::cli::mistakes::FlagMistakes;
use crate::cli::values::{self, Switch};

const LEASE_NAMESPACE: &str = "cert-manager";
const PROBES: Listen = Listen::Everywhere(6060);
const METRICS: Listen = Listen::Everywhere(9402);

#[derive(Debug, Args)]
#[command(next_help_heading = "In a cluster (no effect in a dry run)")]
pub(super) struct ClusterFlags {
    /// The ConfigMap that overrides the issuer at run time, with the keys issuer-name, issuer-kind and issuer-group.
    #[arg(long, value_name = "NAME")]
    runtime_issuance_config_map_name: Option<String>,
    /// The namespace of that ConfigMap.
    #[arg(long, value_name = "NAMESPACE")]
    runtime_issuance_config_map_namespace: Option<String>,
    /// The namespace of the Lease for leader election, which has the name of the driver. Default:
    /// cert-manager.
    #[arg(long, value_name = "NAMESPACE")]
    leader_election_namespace: Option<String>,
    /// The address that serves /readyz and /livez; 0 for off. Default: :6060, which is every interface.
    #[arg(long, value_name = "ADDRESS", value_parser = values::listen_or_off)]
    readiness_probe_bind_address: Option<Switch<Listen>>,
    /// The address that serves /metrics; 0 for off. Default: :9402, which is every interface.
    #[arg(long, value_name = "ADDRESS", value_parser = values::listen_or_off)]
    metrics_bind_address: Option<Switch<Listen>>,
}

impl ClusterFlags {
    /// The names of these flags.
    pub(super) fn names() -> [&'static str; 5] {
        [
            "runtime-issuance-config-map-name",
            "runtime-issuance-config-map-namespace",
            "leader-election-namespace",
            "readiness-probe-bind-address",
            "metrics-bind-address",
        ]
    }

    /// Combines the flags.
    pub(super) fn cluster(self, client: ClientFlags, mistakes: &mut FlagMistakes) -> Cluster {
        let address = |given: Option<Switch<Listen>>, usual| match given {
            Some(Switch::On(address)) => Some(address),
            Some(Switch::Off) => None,
            None => Some(usual),
        };
        let (probes, metrics) =
            (address(self.readiness_probe_bind_address, PROBES), address(self.metrics_bind_address, METRICS));
        if probes.is_some_and(|probes| !probes.is_any_port() && Some(probes) == metrics) {
            mistakes
                .add("metrics-bind-address", "is the same as --readiness-probe-bind-address; give each its own port");
        }
        Cluster {
            client: client.options(mistakes),
            runtime_issuer: issuance::runtime_issuer(
                self.runtime_issuance_config_map_name,
                self.runtime_issuance_config_map_namespace,
                mistakes,
            ),
            lease_namespace: self.leader_election_namespace.unwrap_or_else(|| LEASE_NAMESPACE.to_owned()),
            probes,
            metrics,
        }
    }
}

//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use svid_csi_core::findings::volume_state::VolumeState;
use svid_csi_core::findings::{self, Check};
use svid_csi_core::go_duration;

use crate::pods::PodName;

const EXAMPLES: &str = "\
It runs `svid-csi` in the driver's pods, for which you need the permission to create pods/exec in the driver's namespace, and to \
list pods. It exits with 0 if nothing is wrong, with 1 if there are warnings, with 2 if there are faults, if a node does not answer, \
or if the command itself fails.

Examples:
  All nodes: which volumes have no valid identity, and how long would pods survive an outage of the source?
    kubectl svid status -A

  What is wrong on any node, and what is wrong with this pod?
    kubectl svid doctor
    kubectl svid doctor web -n shop

  Which certificate does this pod really have?
    kubectl svid identity web -n shop

  After the key of a pod has leaked:
    kubectl svid renew web -n shop

  For a bug report:
    kubectl svid report web -n shop";

/// Ask the svid-csi drivers of a cluster.
#[derive(Debug, Parser)]
#[command(name = "kubectl-svid", bin_name = "kubectl svid", version, after_help = EXAMPLES, max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The cluster and its drivers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArguments {
    /// A kubeconfig. Default: KUBECONFIG, or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig. Default: its current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The cluster in the kubeconfig. Default: the context's.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// The user in the kubeconfig. Default: the context's.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The pod's namespace. Default: the context's.
    #[arg(long, short, global = true, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Look for driver pods in this namespace only.
    #[arg(long, global = true, value_name = "NAMESPACE")]
    pub(crate) driver_namespace: Option<String>,
    /// The labels of driver pods.
    #[arg(long, global = true, value_name = "SELECTOR", default_value = "app.kubernetes.io/component=driver")]
    pub(crate) driver_selector: String,
    /// How long one node may take.
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = go_duration::parse)]
    pub(crate) node_timeout: Duration,
    /// How long the command may take.
    #[arg(long, global = true, value_name = "DURATION", default_value = "2m", value_parser = go_duration::parse)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Status(StatusArguments),
    Doctor(DoctorArguments),
    Identity(IdentityArguments),
    Renew(RenewArguments),
    Report(ReportArguments),
}

/// Show the volumes of all nodes and their identities. The first lines are sums over the nodes.
#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// Show the volumes of this pod only.
    #[arg(value_name = "[NAMESPACE/]POD")]
    pub(crate) pod: Option<PodName>,
    /// Show the volumes of all namespaces.
    #[arg(long, short = 'A', conflicts_with = "pod")]
    pub(crate) all_namespaces: bool,
    /// Ask this node only.
    #[arg(long, value_name = "NAME", conflicts_with = "pod")]
    pub(crate) node: Option<String>,
    /// Show volumes in this state only; the sums are of all. Repeatable.
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Vec<VolumeState>,
    /// The order of volumes.
    #[arg(long, value_name = "ORDER", default_value = "pod")]
    pub(crate) sort: Order,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The order of volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// By namespace and pod.
    Pod,
    /// By node.
    Node,
    /// What expires first comes first.
    Expiry,
    /// The worst comes first.
    State,
}

/// Find out what is wrong: on all nodes, on one node, with one pod, or between two pods.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Follow the volumes of this pod to the first step that fails.
    #[arg(value_name = "[NAMESPACE/]POD", conflicts_with_all = ["node", "from", "to"])]
    pub(crate) pod: Option<PodName>,
    /// The same as POD.
    #[arg(long = "pod", value_name = "[NAMESPACE/]POD", conflicts_with_all = ["pod", "node", "from", "to"])]
    pub(crate) pod_flag: Option<PodName>,
    /// Examine this node only.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["from", "to"])]
    pub(crate) node: Option<String>,
    /// Let the identities of this pod and of the pod --to, both on one node, meet in a TLS handshake.
    #[arg(long, value_name = "[NAMESPACE/]POD", requires = "to")]
    pub(crate) from: Option<PodName>,
    /// The other pod of --from.
    #[arg(long, value_name = "[NAMESPACE/]POD", requires = "from")]
    pub(crate) to: Option<PodName>,
    /// Check the times of certificates as if it were then, such as +30d or -2h.
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, conflicts_with_all = ["from", "to"])]
    pub(crate) at: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Explain a finding, and do nothing else.
    #[arg(long, value_name = "ID", value_parser = check)]
    pub(crate) explain: Option<&'static Check>,
}

/// Show the certificates that a pod really has, beside what the driver has recorded.
///
/// It exits with 0 if they are the same and the identity works, with 1 if they differ or peers would refuse it, with 2 if it
/// cannot be read.
#[derive(Debug, Args)]
pub(crate) struct IdentityArguments {
    /// The pod.
    #[arg(value_name = "[NAMESPACE/]POD")]
    pub(crate) pod: PodName,
    /// Print one JSON object.
    #[arg(long, conflicts_with = "pem")]
    pub(crate) json: bool,
    /// Print the certificates as PEM, and nothing else.
    #[arg(long)]
    pub(crate) pem: bool,
}

/// Renew identities now.
#[derive(Debug, Args)]
pub(crate) struct RenewArguments {
    /// Renew the volumes of this pod.
    #[arg(value_name = "[NAMESPACE/]POD", required_unless_present = "all", conflicts_with_all = ["all", "node"])]
    pub(crate) pod: Option<PodName>,
    /// Renew all volumes on a node.
    #[arg(long, requires = "node")]
    pub(crate) all: bool,
    /// The node of --all.
    #[arg(long, value_name = "NAME", requires = "all")]
    pub(crate) node: Option<String>,
}

/// Pack what a bug report needs into one archive, without keys: what each driver reports, and the logs.
///
/// It exits with 2 if a driver does not answer; its logs are in the archive nevertheless.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// Report the node of this pod.
    #[arg(value_name = "[NAMESPACE/]POD", required_unless_present = "node", conflicts_with = "node")]
    pub(crate) pod: Option<PodName>,
    /// Report this node. Repeatable, up to 20 times.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Vec<String>,
    /// The archive; `-` for standard output. Default: svid-csi-report-TIME.tar.gz in the current folder.
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file if it exists.
    #[arg(long)]
    pub(crate) force: bool,
    /// List the files, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Put hashes in place of the names of pods and namespaces and of the parts of SPIFFE IDs. Logs are left out then.
    #[arg(long)]
    pub(crate) anonymize: bool,
    /// The labels of approver pods, in the namespaces of the drivers.
    #[arg(long, value_name = "SELECTOR", default_value = "app.kubernetes.io/component=approver")]
    pub(crate) approver_selector: String,
}

fn state(text: &str) -> Result<VolumeState, String> {
    let found = VolumeState::ALL.into_iter().find(|state| state.name() == text);
    found.ok_or_else(|| format!("use one of {}", VolumeState::ALL.map(VolumeState::name).join(", ")))
}

fn check(text: &str) -> Result<&'static Check, String> {
    findings::check(text).ok_or_else(|| {
        let ids: Vec<_> = findings::checks().map(|check| check.id).collect();
        format!("use one of {}", ids.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}

//! `svid-csi approver`.

mod cluster;
mod policy;

use std::io;
use std::process::ExitCode;

use clap::Args;
use svid_csi_core::approve::{Mode, Policy};
use tracing::Level;

use self::cluster::ClusterFlags;
use self::policy::{RequesterFlags, Rules};
use super::client::ClientFlags;
use super::mistakes::FlagMistakes;
use super::values;
use crate::approver::dry_run::{self, DryRunOutcome};
use crate::approver::{self, Cluster};
use crate::telemetry::log::{LogFormat, LogOptions};
use crate::telemetry::report;

/// The exit code of an invalid command line or input.
const MISTAKE: u8 = 2;

const EXAMPLES: &str = "\
It watches all certificate requests of the cluster, and approves or denies those for SPIFFE identities. Several may run: \
one decides, the others follow. cert-manager's own approver must be off (--controllers=*,-certificaterequests-approver).

A dry run prints one line per request, `approve|deny|ignore NAMESPACE/NAME reason`, and exits with 0 if none is denied, \
with 1 if one is, and with 2 if a flag or the input is invalid.

Every flag can also be set by an environment variable, --trust-domain by SVID_CSI_TRUST_DOMAIN. Called as \
`cert-manager-csi-driver-spiffe-approver`, the binary is `svid-csi approver`.

Examples:
  In a cluster, in a pod whose service account may list and watch certificaterequests, update their status, approve \
signers, and so on:
    svid-csi approver --issuer-name spiffe-ca --trust-domain example.org

  What would be approved in this cluster:
    kubectl get certificaterequests -A -o yaml | svid-csi approver --dry-run --issuer-name spiffe-ca

  If the driver makes the requests with its own service account:
    svid-csi approver --dry-run --request-mode own \\
      --driver-service-account system:serviceaccount:cert-manager:csi-driver-spiffe < requests.yaml";

/// Approve certificate requests for SPIFFE identities, and deny those that break a rule.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(super) struct ApproverArgs {
    /// Judge what `kubectl get certificaterequests -o yaml` (or json) prints, without a cluster.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    requester: RequesterFlags,
    #[command(flatten)]
    watch: LogFlags,
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Observability")]
struct LogFlags {
    /// The log level: 1 to 3 for information, 4 for debugging, 5 for everything. Default: 1.
    #[arg(long, short = 'v', value_name = "1..5", value_parser = values::log_level)]
    log_level: Option<Level>,
    /// The log format: text or json. Default: text.
    #[arg(long, value_name = "FORMAT", value_parser = values::log_format)]
    log_format: Option<LogFormat>,
}

/// The approver, ready to judge.
#[derive(Debug)]
pub struct ApproverCommand {
    /// The rules.
    pub policy: Policy,
    /// The configuration for a cluster; `None` for a dry run.
    pub cluster: Option<Cluster>,
    /// The configuration of the log.
    pub log: LogOptions,
    /// Warnings about flags without effect.
    pub warnings: Vec<String>,
}

/// Combines the flags. `None` if the mode is not known because of `mistakes`.
pub(super) fn command(args: ApproverArgs, mistakes: &mut FlagMistakes) -> Option<ApproverCommand> {
    let log = LogOptions {
        level: args.watch.log_level.unwrap_or(Level::INFO),
        format: args.watch.log_format.unwrap_or_default(),
    };
    let mode = policy::mode(args.requester, mistakes);
    let cluster = (!args.dry_run).then(|| args.cluster.cluster(args.client, mistakes));
    let mode = mode?;
    let warnings = without_effect(&mode, args.dry_run, mistakes);
    let has_runtime_issuer = cluster.as_ref().is_some_and(|cluster| cluster.runtime_issuer.is_some());
    let policy = policy::policy(args.rules, mode, has_runtime_issuer);
    Some(ApproverCommand { policy, cluster, log, warnings })
}

/// Warnings about flags that were set and have no effect, each with the reason.
fn without_effect(mode: &Mode, is_dry: bool, mistakes: &FlagMistakes) -> Vec<String> {
    let idle: Vec<_> = if is_dry {
        ClusterFlags::names().into_iter().chain(ClientFlags::names()).collect()
    } else {
        ClientFlags::idle().collect()
    };
    let given = idle.into_iter().filter(|flag| mistakes.given(flag));
    let given: Vec<_> = given.map(|flag| mistakes.spelling(flag)).collect();
    let mut warnings = Vec::new();
    if !given.is_empty() {
        let why = if is_dry { "no effect in a dry run" } else { "no effect in this program" };
        warnings.push(format!("{why}: {}", given.join(", ")));
    }
    if *mode == Mode::Pod && mistakes.given("driver-service-account") {
        let flag = mistakes.spelling("driver-service-account");
        warnings.push(format!("{flag} has no effect: pods make the requests, see --request-mode"));
    }
    warnings
}

impl ApproverCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        match self.cluster {
            None => Ok(dry_run(&self.policy)),
            Some(cluster) => live(self.policy, cluster).map(|()| ExitCode::SUCCESS),
        }
    }
}

fn dry_run(policy: &Policy) -> ExitCode {
    if let Some(warning) = dry_run::unchecked(&policy.mode) {
        tracing::warn!("{warning}");
    }
    match dry_run::run(io::stdin().lock(), io::BufWriter::new(io::stdout().lock()), policy) {
        Ok(DryRunOutcome::NoneDenied) => ExitCode::SUCCESS,
        Ok(DryRunOutcome::SomeDenied) => ExitCode::FAILURE,
        Err(error) => {
            report::failure(&error);
            ExitCode::from(MISTAKE)
        }
    }
}

fn live(policy: Policy, cluster: Cluster) -> anyhow::Result<()> {
    Ok(super::runtime(2)?.block_on(approver::run(policy, cluster))?)
}

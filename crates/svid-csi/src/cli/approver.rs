//! `svid-csi approver`.

use std::io;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use svid_csi_core::approve::{Mode, Policy, ServiceAccount};
use svid_csi_core::cert_request::IssuerRef;
use svid_csi_core::identity::KeyType;
use svid_csi_core::spiffe_id::TrustDomain;
use tracing::Level;

use super::client::ClientFlags;
use super::mistakes::Mistakes;
use super::values;
use crate::approver::dry_run::{self, Outcome};
use crate::report;
use crate::telemetry::{LogFormat, LogOptions};

const DURATION: Duration = Duration::from_secs(3_600);
/// The exit code of a command line, or an input, that cannot be understood.
const MISTAKE: u8 = 2;
const ONLY_DRY: &str = "this version only judges what is given on standard input: add --dry-run";
/// Flags of the predecessor that only a running approver could obey.
const IDLE: [&str; 5] = [
    "runtime-issuance-config-map-name",
    "runtime-issuance-config-map-namespace",
    "leader-election-namespace",
    "readiness-probe-bind-address",
    "metrics-bind-address",
];

const EXAMPLES: &str = "\
It prints one line per request, `approve|deny|ignore NAMESPACE/NAME reason`, and exits with 0 where none is denied, with 1 \
where one is, and with 2 where a flag or the input cannot be understood.

Every flag also reads an environment variable, --trust-domain for example SVID_CSI_TRUST_DOMAIN. Called as \
`cert-manager-csi-driver-spiffe-approver`, the binary is `svid-csi approver`.

Examples:
  What would be approved in this cluster:
    kubectl get certificaterequests -A -o yaml | svid-csi approver --dry-run --issuer-name spiffe-ca

  Where the driver asks with its own service account:
    svid-csi approver --dry-run --request-mode own \\
      --driver-service-account system:serviceaccount:cert-manager:csi-driver-spiffe < requests.yaml";

/// Judge certificate requests, in this version those on standard input.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(super) struct ApproverArgs {
    /// Judge what `kubectl get certificaterequests -o yaml` (or json) prints, without a cluster.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    requester: Requester,
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    idle: Idle,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What is approved")]
struct Rules {
    /// The name of the CSIDriver object. Default: spiffe.csi.cert-manager.io.
    #[arg(long, value_name = "NAME", visible_alias = "driver-name", value_parser = values::driver_name)]
    csi_driver_name: Option<String>,
    /// The trust domain of every identity. Default: cluster.local.
    #[arg(long, value_name = "NAME", value_parser = values::trust_domain)]
    trust_domain: Option<TrustDomain>,
    /// The duration every request must have. Default: 1h.
    #[arg(long, value_name = "DURATION", value_parser = values::lifetime)]
    certificate_request_duration: Option<Duration>,
    /// The name of the issuer. Default: my-spiffe-ca.
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
    /// Approve requests that ask for no SPIFFE identity, too.
    #[arg(long)]
    auto_approve_non_spiffe: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Who asks")]
struct Requester {
    /// Who makes the requests: `pod` (each pod), `own` (the driver) or `node-bound` (the driver, for pods of its own node).
    /// Default: pod, or own with --use-own-service-account.
    #[arg(long, value_name = "MODE")]
    request_mode: Option<RequestMode>,
    /// The driver makes the requests, with its own service account.
    #[arg(long)]
    use_own_service_account: bool,
    /// The driver's service account. Needed where the driver makes the requests.
    #[arg(long, value_name = "system:serviceaccount:NAMESPACE:NAME")]
    driver_service_account: Option<ServiceAccount>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Watching it")]
struct Watch {
    /// How much is logged: 1 to 3 for information, 4 for debugging, 5 for everything. Default: 1.
    #[arg(long, short = 'v', value_name = "1..5", value_parser = values::log_level)]
    log_level: Option<Level>,
    /// How it is logged: text or json. Default: text.
    #[arg(long, value_name = "FORMAT", value_parser = values::log_format)]
    log_format: Option<LogFormat>,
}

/// Their values are not looked at.
#[derive(Debug, Args)]
#[command(next_help_heading = "In a cluster (accepted; no effect in a dry run)")]
struct Idle {
    /// The ConfigMap that overrides the issuer at run time.
    #[arg(long, value_name = "NAME")]
    runtime_issuance_config_map_name: Option<String>,
    /// The namespace of that ConfigMap.
    #[arg(long, value_name = "NAMESPACE")]
    runtime_issuance_config_map_namespace: Option<String>,
    /// The namespace of the Lease by which one of several approvers is chosen.
    #[arg(long, value_name = "NAMESPACE")]
    leader_election_namespace: Option<String>,
    /// Where /readyz is served.
    #[arg(long, value_name = "ADDRESS")]
    readiness_probe_bind_address: Option<String>,
    /// Where /metrics is served.
    #[arg(long, value_name = "ADDRESS")]
    metrics_bind_address: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestMode {
    Pod,
    Own,
    NodeBound,
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

/// The approver, ready to judge.
#[derive(Debug)]
pub struct ApproverCommand {
    /// What it approves.
    pub policy: Policy,
    /// How it logs.
    pub log: LogOptions,
    /// What the operator asked for that has no effect.
    pub warnings: Vec<String>,
}

/// What the flags mean together. Nothing where `mistakes` has found any that leave no mode to judge by.
pub(super) fn command(args: ApproverArgs, mistakes: &mut Mistakes) -> Option<ApproverCommand> {
    if !args.dry_run && !mistakes.wrong("dry-run") {
        mistakes.add("dry-run", ONLY_DRY);
    }
    let log = LogOptions {
        level: args.watch.log_level.unwrap_or(Level::INFO),
        format: args.watch.log_format.unwrap_or_default(),
    };
    let mode = mode(args.requester, mistakes)?;
    let warnings = without_effect(&mode, mistakes);
    Some(ApproverCommand { policy: policy(args.rules, mode), log, warnings })
}

fn policy(rules: Rules, mode: Mode) -> Policy {
    let or = |given: Option<String>, usual: &str| given.unwrap_or_else(|| usual.to_owned());
    let usual = || TrustDomain::parse("cluster.local").expect("a trust domain");
    let issuer = IssuerRef {
        name: or(rules.issuer_name, "my-spiffe-ca"),
        kind: or(rules.issuer_kind, "ClusterIssuer"),
        group: or(rules.issuer_group, "cert-manager.io"),
    };
    let all = rules.allowed_key_types.is_empty();
    Policy {
        driver_name: or(rules.csi_driver_name, "spiffe.csi.cert-manager.io"),
        trust_domain: rules.trust_domain.unwrap_or_else(usual),
        duration: rules.certificate_request_duration.unwrap_or(DURATION),
        issuer: Some(issuer),
        mode,
        key_types: if all { KeyType::ALL.into() } else { rules.allowed_key_types.into_iter().collect() },
        auto_approve_non_spiffe: rules.auto_approve_non_spiffe,
    }
}

fn mode(args: Requester, mistakes: &mut Mistakes) -> Option<Mode> {
    let usual = if args.use_own_service_account { RequestMode::Own } else { RequestMode::Pod };
    let mode = args.request_mode.unwrap_or(usual);
    if mode == RequestMode::Pod {
        if args.use_own_service_account {
            mistakes
                .add("request-mode", "pods do not use the driver's service account; leave one of the two flags out");
        }
        return Some(Mode::Pod);
    }
    let Some(driver) = args.driver_service_account else {
        mistakes.missing("driver-service-account", "every request must be made by it");
        return None;
    };
    Some(if mode == RequestMode::Own { Mode::OwnServiceAccount { driver } } else { Mode::NodeBound { driver } })
}

/// Warnings about flags that were set and change nothing, each with the reason.
fn without_effect(mode: &Mode, mistakes: &Mistakes) -> Vec<String> {
    let idle: Vec<_> = IDLE.into_iter().chain(ClientFlags::names()).filter(|flag| mistakes.given(flag)).collect();
    let idle: Vec<_> = idle.into_iter().map(|flag| mistakes.spelling(flag)).collect();
    let mut warnings = Vec::new();
    if !idle.is_empty() {
        warnings.push(format!("no effect in a dry run: {}", idle.join(", ")));
    }
    if *mode == Mode::Pod && mistakes.given("driver-service-account") {
        let flag = mistakes.spelling("driver-service-account");
        warnings.push(format!("{flag} has no effect: pods make the requests, see --request-mode"));
    }
    warnings
}

impl ApproverCommand {
    pub(super) fn run(self) -> ExitCode {
        for warning in self.warnings.into_iter().chain(dry_run::unchecked(&self.policy.mode)) {
            tracing::warn!("{warning}");
        }
        match dry_run::run(io::stdin().lock(), io::BufWriter::new(io::stdout().lock()), &self.policy) {
            Ok(Outcome::NoneDenied) => ExitCode::SUCCESS,
            Ok(Outcome::SomeDenied) => ExitCode::FAILURE,
            Err(error) => {
                report::failure(&error);
                ExitCode::from(MISTAKE)
            }
        }
    }
}

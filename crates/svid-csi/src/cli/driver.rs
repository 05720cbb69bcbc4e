//! `svid-csi driver`: from its flags to its [`Config`], finding contradictions and missing flags.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use svid_csi_core::plan::{Issuer, Plan, Source};
use svid_csi_core::spiffe_id::TrustDomain;
use tracing::Level;

use super::broker::BrokerFlags;
use super::cert_manager::{CertManagerFlags, Common};
use super::flags::{Data, DriverArgs, Minted, Observability, SocketFlags};
use super::mistakes::FlagMistakes;
use super::profile::Profile;
use super::values::Switch;
use super::{Environment, drivers, sockets};
use crate::delivery::socket_dir::AgentDir;
use crate::host::capabilities;
use crate::host::data_root::DataConfig;
use crate::kube::client::ClientOptions;
use crate::node;
use crate::node::admin::AdminConfig;
use crate::node::config::Config;
use crate::node::kubelet::config::{DriverName, KubeletConfig};
use crate::source::local_ca::{JWT_LIFETIME, LocalCaConfig};
use crate::telemetry::log::LogOptions;
use crate::traces::Traces;

/// The driver, ready to run.
#[derive(Debug)]
pub struct DriverCommand {
    /// The configuration.
    pub config: Config,
    /// The configuration of the log.
    pub log: LogOptions,
    /// Warnings about flags without effect.
    pub warnings: Vec<String>,
    /// The way of spans to a collector.
    pub traces: Option<Traces>,
}

/// Combines the flags. The result must not be used if `mistakes` has any.
pub(super) fn command(args: DriverArgs, environment: Environment<'_>, mistakes: &mut FlagMistakes) -> DriverCommand {
    let log = LogOptions {
        level: args.watch.log_level.unwrap_or(Level::INFO),
        format: args.watch.log_format.unwrap_or_default(),
    };
    let traces = args.watch.otlp_endpoint.clone().map(Traces::to);
    let (config, warnings) = build(args, environment, mistakes);
    DriverCommand { config, log, warnings, traces }
}

impl DriverCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        // Before the first thread starts.
        let missing = capabilities::keep_those_of_driver()?;
        for warning in self.warnings.iter().chain(&missing) {
            tracing::warn!("{warning}");
        }
        let runtime = super::runtime(4)?;
        let ended = runtime.block_on(node::run(self.config, self.traces));
        // A thread that hangs in a file system of others must not keep the process.
        runtime.shutdown_timeout(LAST_WORK);
        Ok(ended?)
    }
}

/// The default name of a Kubernetes cluster.
const USUAL_TRUST_DOMAIN: &str = "cluster.local";
const DATA_SIZE: u64 = 128 * 1024 * 1024;
/// How long blocking work may take once everything else has ended.
const LAST_WORK: Duration = Duration::from_secs(2);
const LIFETIME: Duration = Duration::from_secs(3_600);
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9809);
/// The limit of the CSI specification.
const NODE_ID_BYTES: usize = 256;

/// The configuration and warnings. The result must not be used if `mistakes` has any.
fn build(args: DriverArgs, environment: Environment<'_>, mistakes: &mut FlagMistakes) -> (Config, Vec<String>) {
    let node_id = node_id(&args, environment, mistakes);
    let drivers = drivers::drivers(&args, mistakes);
    let sources: BTreeSet<Source> = plans(&args, &drivers).map(Plan::source).collect();
    let has = |source| sources.contains(&source);
    check_data_root(&args, &drivers, mistakes);
    refuse_cert_manager_flags(&args, &sources, mistakes);
    let needs_client = has(Source::CertManager) || others_use_client(&args, &sources);
    let client = if needs_client { args.cert_manager.client(mistakes) } else { ClientOptions::default() };
    let mut warnings = without_effect(&args, &sources, mistakes);
    let common = common(&args, &sources, &node_id, mistakes, &mut warnings);
    let own_svid_dir = args.socket.workload_api_socket_dir.clone();
    let config = Config {
        broker: has(Source::Broker).then(|| args.broker.config(own_svid_dir, environment, mistakes)).flatten(),
        agent: has(Source::Socket).then(|| agent(args.socket, mistakes)).flatten(),
        local_ca: has(Source::LocalCa).then(|| local_ca(args.minted, &common)).flatten(),
        cert_manager: has(Source::CertManager).then(|| args.cert_manager.config(common, mistakes)).flatten(),
        client,
        admin: admin(args.watch, args.serve.profile, args.data.data_root.as_deref()),
        data: data(args.data),
        kubelet: KubeletConfig {
            drivers,
            node_id,
            root_dir: args.kubelet.kubelet_dir,
            registration_dir: args.kubelet.kubelet_registration_dir,
            startup_taint: args.kubelet.startup_taint,
            allow_missing_read_only: args.serve.allow_missing_read_only,
        },
    };
    check_bundle(&config, mistakes);
    check_roots(&config, mistakes);
    check_taint(&config, mistakes);
    sockets::check(&config, mistakes);
    (config, warnings)
}

/// What all sources that issue have in common.
fn common(
    args: &DriverArgs,
    sources: &BTreeSet<Source>,
    node_id: &str,
    mistakes: &mut FlagMistakes,
    warnings: &mut Vec<String>,
) -> Common {
    let trust_domain = if sources.contains(&Source::CertManager) {
        warnings.extend(args.cert_manager.warnings(mistakes));
        trust_domain(args, mistakes)
    } else if sources.contains(&Source::LocalCa) {
        Some(trust_domain_of_local_ca(args, warnings))
    } else {
        None
    };
    Common {
        profile: args.serve.profile,
        node_id: node_id.to_owned(),
        trust_domain,
        lifetime: args.minted.certificate_request_duration.unwrap_or(LIFETIME),
        key_type: args.minted.key_type.unwrap_or_default(),
        requires_chain: !drivers::serves(args, Profile::CertManager),
    }
}

fn local_ca(args: Minted, common: &Common) -> Option<LocalCaConfig> {
    Some(LocalCaConfig {
        trust_domain: common.trust_domain.clone()?,
        lifetime: common.lifetime,
        key_type: common.key_type,
        jwt_lifetime: args.jwt_svid_ttl.unwrap_or(JWT_LIFETIME),
        dir: args.local_ca_dir,
        roots: args.local_ca_roots,
    })
}

fn data(args: Data) -> Option<DataConfig> {
    Some(DataConfig { root: args.data_root?, size_limit: args.data_size_limit.unwrap_or(DATA_SIZE) })
}

fn check_data_root(args: &DriverArgs, drivers: &[DriverName], mistakes: &mut FlagMistakes) {
    if args.data.data_root.is_none()
        && let Some(plan) = plans(args, drivers).find(|plan| plan.mints())
    {
        mistakes.missing("data-root", format_args!("the plan {plan} keeps its volumes there"));
    }
}

/// Every plan that a volume may use.
fn plans<'a>(args: &'a DriverArgs, drivers: &'a [DriverName]) -> impl Iterator<Item = Plan> + 'a {
    drivers.iter().flat_map(|driver| &driver.allowed_plans).chain(&args.serve.allow_plan).copied()
}

fn node_id(args: &DriverArgs, environment: Environment<'_>, mistakes: &mut FlagMistakes) -> String {
    let variable = args.serve.node_id_env.as_deref().unwrap_or("MY_NODE_NAME");
    let inherited = || environment(variable)?.into_string().ok().filter(|name| !name.is_empty());
    let Some(name) = args.serve.node_id.clone().or_else(inherited) else {
        mistakes.missing("node-id", format_args!("set it, or set the variable {variable} to the node's name"));
        return String::new();
    };
    if name.len() > NODE_ID_BYTES {
        mistakes.add("node-id", format_args!("has {} bytes; CSI allows {NODE_ID_BYTES}", name.len()));
    }
    name
}

fn agent(args: SocketFlags, mistakes: &mut FlagMistakes) -> Option<AgentDir> {
    let Some(path) = args.workload_api_socket_dir else {
        mistakes.missing("workload-api-socket-dir", "the plan socket:socket-dir mounts this directory into pods");
        return None;
    };
    let nested = |stable: &&PathBuf| stable.starts_with(&path) || path.starts_with(stable);
    if let Some(stable) = args.stable_socket_dir.as_ref().filter(nested) {
        let problem = format!(
            "{} and the agent's {} overlap; use a directory beside the agent's",
            stable.display(),
            path.display()
        );
        mistakes.add("stable-socket-dir", problem);
    }
    Some(AgentDir { path, stable: args.stable_socket_dir })
}

fn trust_domain(args: &DriverArgs, mistakes: &mut FlagMistakes) -> Option<TrustDomain> {
    let usual = || TrustDomain::parse(args.serve.profile?.trust_domain()?).ok();
    let trust_domain = args.minted.trust_domain.clone().or_else(usual);
    if trust_domain.is_none() {
        mistakes.missing("trust-domain", "the driver issues identities in this trust domain");
    }
    trust_domain
}

/// The embedded authority trusts no other one, so its trust domain can have any name.
fn trust_domain_of_local_ca(args: &DriverArgs, warnings: &mut Vec<String>) -> TrustDomain {
    args.minted.trust_domain.clone().unwrap_or_else(|| {
        if args.serve.profile.and_then(Profile::trust_domain).is_none() {
            warnings
                .push(format!("--trust-domain is not set: identities are in the trust domain {USUAL_TRUST_DOMAIN}"));
        }
        TrustDomain::parse(USUAL_TRUST_DOMAIN).expect("a trust domain")
    })
}

/// Clients of the Workload API refuse an SVID without a bundle (SPIFFE Workload API, section 5.2.1).
fn check_bundle(config: &Config, mistakes: &mut FlagMistakes) {
    let plan = Plan::WorkloadApi(Issuer::CertManager);
    let served = config.kubelet.drivers.iter().any(|driver| driver.allowed_plans.contains(&plan));
    if served && config.cert_manager.as_ref().is_some_and(|cert_manager| cert_manager.bundle.is_none()) {
        mistakes.missing(
            "trust-bundle",
            format_args!("the plan {plan} delivers a trust bundle to pods (or set --source-ca-bundle)"),
        );
    }
}

/// Each node's trust bundle is an entry of a ConfigMap (Kubernetes, `IsConfigMapKey`).
fn check_roots(config: &Config, mistakes: &mut FlagMistakes) {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let name = &config.kubelet.node_id;
    let is_key = name.len() <= 253 && name.bytes().all(inner) && !name.starts_with("..") && name != ".";
    if config.local_ca.as_ref().is_some_and(|local_ca| local_ca.roots.is_some()) && !is_key {
        let problem = format!("--node-id {name:?} cannot be a key of a ConfigMap; use the node's name in Kubernetes");
        mistakes.add("local-ca-roots", problem);
    }
}

/// Only the process that registers the driver learns from the kubelet that the registration succeeded.
fn check_taint(config: &Config, mistakes: &mut FlagMistakes) {
    if config.kubelet.startup_taint.is_some() && config.kubelet.registration_dir.is_none() {
        let fix = "needs --kubelet-registration-dir: the taint is removed once the kubelet has accepted the driver, \
                   which a registrar sidecar does not report";
        mistakes.add("startup-taint", fix);
    }
}

fn admin(args: Observability, profile: Option<Profile>, data_root: Option<&Path>) -> AdminConfig {
    let metrics_address = match args.metrics_address {
        Some(Switch::On(address)) => Some(address),
        Some(Switch::Off) => None,
        // The predecessors' manifests run a livenessprobe sidecar on the same port.
        None => profile.is_none().then_some(METRICS),
    };
    let socket = match args.admin_socket {
        Some(Switch::On(socket)) => Some(socket),
        Some(Switch::Off) => None,
        None => data_root.map(|root| root.join("admin.sock")),
    };
    AdminConfig { metrics_address, socket }
}

/// Warnings about flags that were set and have no effect, each with the reason.
fn without_effect(args: &DriverArgs, sources: &BTreeSet<Source>, mistakes: &FlagMistakes) -> Vec<String> {
    let mut idle = Vec::new();
    if !sources.contains(&Source::Socket) {
        let because = "no volume may use the plan socket:socket-dir";
        idle.push(("stable-socket-dir", because));
        idle.extend((!sources.contains(&Source::Broker)).then_some(("workload-api-socket-dir", because)));
    }
    if !sources.contains(&Source::Broker) {
        idle.extend(BrokerFlags::names().map(|flag| (flag, "no volume may use the source broker")));
    }
    if !sources.contains(&Source::LocalCa) {
        let because = "no volume may use the source local-ca";
        idle.extend(["local-ca-dir", "local-ca-roots", "jwt-svid-ttl"].map(|flag| (flag, because)));
    }
    if args.kubelet.kubelet_registration_dir.is_none() {
        idle.push(("kubelet-registration-path", "without --kubelet-registration-dir a sidecar registers the driver"));
    }
    if !sources.contains(&Source::CertManager) {
        let because = "no volume may use the source cert-manager";
        idle.extend(CertManagerFlags::names(others_use_client(args, sources)).map(|flag| (flag, because)));
    }
    let warn = |(flag, because)| format!("{} has no effect: {because}", mistakes.spelling(flag));
    idle.into_iter().filter(|(flag, _)| mistakes.given(flag)).map(warn).collect()
}

/// Whether a source other than cert-manager needs the API server.
fn others_use_client(args: &DriverArgs, sources: &BTreeSet<Source>) -> bool {
    let roots = args.minted.local_ca_roots.is_some() && sources.contains(&Source::LocalCa);
    roots || args.kubelet.startup_taint.is_some() || sources.contains(&Source::Broker)
}

/// cert-manager's flags are accepted for its manifests, but other sources would ignore them.
fn refuse_cert_manager_flags(args: &DriverArgs, sources: &BTreeSet<Source>, mistakes: &mut FlagMistakes) {
    if sources.contains(&Source::CertManager) {
        return;
    }
    if drivers::serves(args, Profile::CertManager) || mistakes.wrong("profile") || mistakes.wrong("also-profile") {
        return;
    }
    for flag in CertManagerFlags::names(others_use_client(args, sources)) {
        if mistakes.given(flag) {
            mistakes.add(flag, "belongs to the source cert-manager; leave it out, or give --source cert-manager");
        }
    }
}

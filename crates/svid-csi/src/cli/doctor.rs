//! `svid-csi doctor`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use svid_csi_core::findings::{self, Category, Check};
use svid_csi_core::go_duration;

use super::admin_socket::AdminSocketFlags;
use super::mistakes::FlagMistakes;
use super::renew;
use super::values;
use crate::doctor::before::BeforeOptions;
use crate::doctor::{self, DoctorOptions, Output, Scope, Shift};

const EXAMPLES: &str = "\
It asks the driver on this node and the API server, looks at sockets, mounts and data, and reads each identity as its pod does. \
It changes nothing, and prints no key. It exits with 0 if nothing is wrong, with 1 if there are warnings, with 2 if there are faults. Every \
finding is explained in docs/reference/findings.md.

Examples:
  What is wrong on this node? In the driver's container:
    svid-csi doctor --admin-socket /plugin/data/admin.sock

  Why does this pod have no identity?
    svid-csi doctor --pod shop/web --data-root /var/lib/svid-csi

  Would these two pods on this node trust each other?
    svid-csi doctor --from shop/web --to shop/api --data-root /var/lib/svid-csi

  Which certificates will have expired in a month?
    svid-csi doctor --at +30d --data-root /var/lib/svid-csi

  Can the driver be installed on this node? As root on it, or from a workstation:
    svid-csi doctor --pre --kubeconfig admin.conf
    kubectl debug node/NODE -it --profile=sysadmin --image=IMAGE -- /bin/svid-csi doctor --pre --host-pid 1";

/// Find out what is wrong on this node.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    driver: AdminSocketFlags,
    /// How findings are printed: table, short (a line each) or json.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = output)]
    output: Output,
    /// Show findings of this category only: driver, registration, mounts, data, clock, source, identity, kernel or
    /// cluster.
    #[arg(long, value_name = "CATEGORY", value_parser = category)]
    category: Vec<Category>,
    /// Wait for so long until there are no faults.
    #[arg(long, value_name = "DURATION", value_parser = go_duration::parse)]
    wait: Option<Duration>,
    /// Check the times of certificates as if it were then, such as +30d or -2h.
    #[arg(long, value_name = "OFFSET", value_parser = shift, allow_hyphen_values = true)]
    at: Option<Shift>,
    /// Follow the volumes of this pod from the driver to the identity, to the first step that fails.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = renew::pod)]
    pod: Option<String>,
    /// Let the identities of this pod and of the pod --to meet in a TLS handshake, each as client and as server.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = renew::pod)]
    from: Option<String>,
    /// The other pod of --from.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = renew::pod)]
    to: Option<String>,
    /// A kubeconfig. Default: what the driver itself uses.
    #[arg(long, value_name = "FILE", value_parser = values::path)]
    kubeconfig: Option<PathBuf>,
    /// Check, before an installation, what this node and its cluster have; no driver is needed.
    #[arg(long)]
    pre: bool,
    /// With --pre: the name that the driver is to have.
    #[arg(long, value_name = "NAME", value_parser = values::driver_name)]
    driver_name: Option<String>,
    /// With --pre: the kubelet's root directory. Default: that of a running kubelet, or one that distributions use.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    kubelet_dir: Option<PathBuf>,
    /// With --pre: the directory in which an agent has its sockets.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    workload_api_socket_dir: Option<PathBuf>,
    /// With --pre: a process on the host, whose paths and mounts are looked at. 1 in a privileged pod with hostPID.
    #[arg(long, value_name = "PID", value_parser = host_pid)]
    host_pid: Option<i32>,
    /// Explain a finding, and do nothing else.
    #[arg(long, value_name = "ID", value_parser = check)]
    explain: Option<&'static Check>,
}

/// What to do.
#[derive(Debug)]
pub enum DoctorCommand {
    /// Explain a finding.
    Explain(&'static Check),
    /// Examine the node.
    Examine(DoctorOptions),
    /// Examine a node without a driver.
    Before(BeforeOptions),
}

/// Combines the flags. `None` if the driver's socket is not known because of `mistakes`.
pub(super) fn command(args: DoctorArgs, mistakes: &mut FlagMistakes) -> Option<DoctorCommand> {
    if let Some(check) = args.explain {
        return Some(DoctorCommand::Explain(check));
    }
    if args.pre {
        return before(args, mistakes).map(DoctorCommand::Before);
    }
    if args.pod.is_some() && !args.category.is_empty() {
        mistakes.add("category", "every step of --pod is needed; leave out one of the two");
    }
    if args.from.is_some() != args.to.is_some() {
        mistakes.add(if args.from.is_some() { "to" } else { "from" }, "missing; --from and --to each name a pod");
    }
    if args.from.is_some() && (args.pod.is_some() || args.at.is_some() || !args.category.is_empty()) {
        mistakes.add("from", "it checks nothing but a handshake; leave out --pod, --at and --category");
    }
    let socket = args.driver.socket(mistakes)?;
    let categories = match (args.category.is_empty(), args.at) {
        (false, _) => args.category,
        // The others do not depend on the time.
        (true, Some(_)) => vec![Category::Clock, Category::Identity],
        (true, None) => Category::ALL.to_vec(),
    };
    let wait = args.wait.unwrap_or_default();
    let DoctorArgs { output, at: shift, kubeconfig, pod, from, to, .. } = args;
    let scope = match (pod, from.zip(to)) {
        (Some(pod), _) => Scope::Pod(pod),
        (None, Some((from, to))) => Scope::Handshake(from, to),
        (None, None) => Scope::Node,
    };
    Some(DoctorCommand::Examine(DoctorOptions { socket, categories, output, wait, shift, kubeconfig, scope }))
}

/// The name in the chart's profiles but one.
const USUAL_NAME: &str = "csi.spiffe.io";

fn before(args: DoctorArgs, mistakes: &mut FlagMistakes) -> Option<BeforeOptions> {
    // The variables of a driver's environment are read too, so flags of a driver do not count as mistakes.
    let contrary: Vec<_> = ["at", "pod", "from", "to"].into_iter().filter(|flag| mistakes.given(flag)).collect();
    for flag in &contrary {
        mistakes.add(flag, "looks at a driver, but --pre at a node without one; leave out one of the two");
    }
    let DoctorArgs {
        category,
        output,
        wait,
        kubeconfig,
        driver_name,
        kubelet_dir,
        workload_api_socket_dir,
        host_pid,
        ..
    } = args;
    let options = BeforeOptions {
        driver_name: driver_name.unwrap_or_else(|| USUAL_NAME.to_owned()),
        kubelet_dir,
        agent: workload_api_socket_dir,
        host_pid,
        kubeconfig,
        categories: if category.is_empty() { Category::ALL.to_vec() } else { category },
        output,
        wait: wait.unwrap_or_default(),
    };
    contrary.is_empty().then_some(options)
}

fn host_pid(text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(format!("{text:?} is not the number of a process; write 1 in a pod with hostPID")),
    }
}

fn output(text: &str) -> Result<Output, String> {
    match text {
        "table" => Ok(Output::Table),
        "short" => Ok(Output::Short),
        "json" => Ok(Output::Json),
        _ => Err(format!("{text:?} is not an output format; use table, short or json")),
    }
}

fn category(text: &str) -> Result<Category, String> {
    let found = Category::ALL.into_iter().find(|category| category.name() == text);
    found.ok_or_else(|| {
        format!("{text:?} is not a category; use one of {}", Category::ALL.map(Category::name).join(", "))
    })
}

fn check(text: &str) -> Result<&'static Check, String> {
    findings::check(text).ok_or_else(|| {
        let ids: Vec<_> = findings::checks().map(|check| check.id).collect();
        format!("{text:?} is not a finding; use one of {}", ids.join(", "))
    })
}

/// `+30d`, `-2h` or `45m`.
fn shift(text: &str) -> Result<Shift, String> {
    let (distance, kind): (&str, fn(Duration) -> Shift) = match text.strip_prefix('-') {
        Some(distance) => (distance, Shift::Earlier),
        None => (text.strip_prefix('+').unwrap_or(text), Shift::Later),
    };
    let days = distance.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let distance = match days {
        Some(days) => Some(Duration::from_secs(u64::from(days) * 86_400)),
        None => go_duration::parse(distance).ok(),
    };
    distance.map(kind).ok_or_else(|| format!("{text:?} is not an offset; write it like +30d, +12h or -2h"))
}

impl DoctorCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            DoctorCommand::Explain(check) => Ok(doctor::explain(check)?),
            DoctorCommand::Before(options) => {
                let runtime = super::single_threaded()?;
                Ok(runtime.block_on(doctor::run_before(options))?)
            }
            DoctorCommand::Examine(options) => {
                let runtime = super::single_threaded()?;
                Ok(runtime.block_on(doctor::run(options))?)
            }
        }
    }
}

//! `svid-csi report`.

use std::path::PathBuf;

use clap::Args;

use super::admin_socket::AdminSocketFlags;
use super::mistakes::FlagMistakes;
use super::values;
use crate::doctor::report::{self, Destination, ReportOptions};

const EXAMPLES: &str = "\
The archive holds findings, status, metrics, flags, facts about the kernel and objects of the API server that the driver itself may \
read. It holds no key: what looks like a secret is replaced by [redacted]. The names of pods are in it. Please look into it before you \
send it to others. README.txt inside says what each file is, and what is missing.

Examples:
  From a workstation, out of the driver's container:
    kubectl exec -n NAMESPACE DRIVER-POD -- /bin/svid-csi report \\
      --admin-socket /plugin/data/admin.sock --output - > report.tar.gz

  On the node:
    svid-csi report --data-root /var/lib/svid-csi

  Which files would be in it?
    svid-csi report --data-root /var/lib/svid-csi --dry-run";

/// The flags of the driver whose values hold no secret. The values of all others are redacted in reports.
const OPEN_FLAGS: [&str; 54] = [
    "profile",
    "source",
    "delivery",
    "allow-plan",
    "driver-name",
    "plugin-name",
    "csi-driver-name",
    "endpoint",
    "csi-socket-path",
    "node-id",
    "node-id-env",
    "also-profile",
    "allow-missing-read-only",
    "data-root",
    "data-size-limit",
    "layout",
    "file-name-certificate",
    "file-name-key",
    "file-name-ca",
    "workload-api-socket-dir",
    "stable-socket-dir",
    "broker-socket",
    "broker-address",
    "broker-server-id",
    "trust-domain",
    "certificate-request-duration",
    "key-type",
    "jwt-svid-ttl",
    "local-ca-dir",
    "local-ca-roots",
    "kubelet-dir",
    "kubelet-registration-dir",
    "kubelet-registration-path",
    "startup-taint",
    "metrics-address",
    "admin-socket",
    "log-level",
    "v",
    "log-format",
    "issuer-name",
    "issuer-kind",
    "issuer-group",
    "runtime-issuance-config-map-name",
    "runtime-issuance-config-map-namespace",
    "source-ca-bundle",
    "trust-bundle",
    "use-own-service-account",
    "request-mode",
    "require-chain",
    "renewal-concurrency",
    "kubeconfig",
    "context",
    "cluster",
    "user",
];

/// Pack what a bug report needs, without keys.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    driver: AdminSocketFlags,
    /// The archive; `-` for standard output. Default: svid-csi-report-NODE-TIME.tar.gz in the current folder.
    #[arg(long, value_name = "FILE", value_parser = destination, allow_hyphen_values = true)]
    output: Option<Destination>,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
    /// List the files with their sizes, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Put hashes in place of the names of pods and namespaces and of the parts of SPIFFE IDs. Logs and events are left out then.
    #[arg(long)]
    anonymize: bool,
    /// A kubeconfig. Default: what the driver itself uses.
    #[arg(long, value_name = "FILE", value_parser = values::path)]
    kubeconfig: Option<PathBuf>,
}

/// The report to write.
#[derive(Debug)]
pub struct ReportCommand(ReportOptions);

/// Combines the flags. `None` if the driver's socket is not known because of `mistakes`.
pub(super) fn command(args: ReportArgs, mistakes: &mut FlagMistakes) -> Option<ReportCommand> {
    let socket = args.driver.socket(mistakes)?;
    let ReportArgs { output, force, dry_run, anonymize, kubeconfig, .. } = args;
    let destination = output.unwrap_or(Destination::Named);
    let open_flags = OPEN_FLAGS.into_iter().collect();
    Some(ReportCommand(ReportOptions { socket, destination, force, dry_run, anonymize, kubeconfig, open_flags }))
}

fn destination(text: &str) -> Result<Destination, String> {
    if text == "-" { Ok(Destination::Stdout) } else { values::path(text).map(Destination::File) }
}

impl ReportCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let runtime = super::single_threaded()?;
        Ok(runtime.block_on(report::run(self.0))?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::{Cli, Command, parse};

    /// A new flag of the driver is in one of the two lists.
    #[test]
    fn each_flag_of_the_driver_is_open_or_closed() {
        // Collectors of vendors have keys in their paths.
        const CLOSED: [&str; 2] = ["extra-certificate-request-annotations", "otlp-endpoint"];
        let cli = Cli::command();
        let driver = cli.find_subcommand("driver").unwrap();
        let names = |arg: &clap::Arg| {
            let long = arg.get_long().map(str::to_owned).into_iter();
            let aliases = arg.get_all_aliases().unwrap_or_default().into_iter().map(str::to_owned);
            long.chain(aliases).chain(arg.get_short().map(String::from)).collect::<Vec<_>>()
        };
        let of_driver = driver.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id() != "help");
        let of_driver: BTreeSet<String> = of_driver.flat_map(names).collect();
        let listed: BTreeSet<String> = OPEN_FLAGS.into_iter().chain(CLOSED).map(str::to_owned).collect();
        assert_eq!(of_driver, listed, "does the value hold no secret? Then it belongs into OPEN_FLAGS");
        let hidden = driver.get_arguments().filter(|arg| arg.is_hide_set()).flat_map(names);
        assert!(hidden.into_iter().all(|name| !OPEN_FLAGS.contains(&name.as_str())));
    }

    #[test]
    fn the_destination_is_a_file_or_standard_output() {
        for (flags, destination) in [
            ("", Destination::Named),
            ("--output -", Destination::Stdout),
            ("--output=-", Destination::Stdout),
            ("--output /x/y.tar.gz", Destination::File("/x/y.tar.gz".into())),
        ] {
            let line = format!("svid-csi report --data-root /d {flags}");
            let found = parse(line.split_whitespace().map(Into::into), &|_| None);
            let Ok(Command::Report(ReportCommand(options))) = found else { panic!("{line}: {found:?}") };
            assert_eq!((options.destination, options.socket), (destination, "/d/admin.sock".into()));
        }
    }
}

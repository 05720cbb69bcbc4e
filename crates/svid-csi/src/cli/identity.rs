//! `svid-csi identity`.

use std::process::ExitCode;

use clap::Args;

use super::admin_socket::AdminSocketFlags;
use super::mistakes::FlagMistakes;
use super::renew;
use crate::doctor::identity::{self, IdentityForm, IdentityOptions};
use crate::telemetry::report;

const EXAMPLES: &str = "\
It reads the pod's files, or asks its socket, as the pod does, and compares the certificate with the driver's record. It prints no \
key. It exits with 0 if they are the same and the identity works, with 1 if they differ or peers would refuse it, with 2 if it \
cannot be read.

Examples:
  Which certificate does this pod really have? In the driver's container:
    svid-csi identity --pod shop/web --admin-socket /plugin/data/admin.sock

  Every field of it:
    svid-csi identity --pod shop/web --pem --data-root /var/lib/svid-csi | openssl x509 -noout -text";

/// Show the certificates that a pod on this node has.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(super) struct IdentityArgs {
    /// The pod.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = renew::pod)]
    pod: Option<String>,
    #[command(flatten)]
    driver: AdminSocketFlags,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Print the certificates as PEM, and nothing else.
    #[arg(long)]
    pem: bool,
}

/// The identity to show.
#[derive(Debug)]
pub struct IdentityCommand(IdentityOptions);

/// Combines the flags. `None` if there are `mistakes`.
pub(super) fn command(args: IdentityArgs, mistakes: &mut FlagMistakes) -> Option<IdentityCommand> {
    if args.pod.is_none() {
        mistakes.missing("pod", "name the pod");
    }
    let form = match (args.json, args.pem) {
        (true, true) => {
            mistakes.add("pem", "prints no JSON; leave out one of the two");
            return None;
        }
        (true, false) => IdentityForm::Json,
        (false, true) => IdentityForm::Pem,
        (false, false) => IdentityForm::Text,
    };
    let socket = args.driver.socket(mistakes)?;
    Some(IdentityCommand(IdentityOptions { socket, pod: args.pod?, form }))
}

impl IdentityCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = super::single_threaded()?;
        Ok(runtime.block_on(identity::run(self.0)).unwrap_or_else(|error| {
            report::failure(&error);
            ExitCode::from(2)
        }))
    }
}

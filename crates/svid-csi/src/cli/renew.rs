//! `svid-csi renew`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use http::StatusCode;
use serde::Deserialize;
use svid_csi_core::quoted::Quoted;

use super::admin_socket::AdminSocketFlags;
use super::mistakes::FlagMistakes;
use crate::node::admin::client::{self, AskError};

const EXAMPLES: &str = "\
It asks the driver on this node and returns at once; the files of the volumes change when their new identities have been \
issued. It exits with 1 if the driver cannot be reached or has no such volume.

Examples:
  After the key of a pod has leaked:
    svid-csi renew --pod shop/web --data-root /var/lib/svid-csi

  After a CA was changed, in the driver's container on each node:
    svid-csi renew --all --admin-socket /csi-data-dir/admin.sock";

/// Have the driver on this node renew identities now.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(super) struct RenewArgs {
    /// Renew the volumes of this pod.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = pod)]
    pod: Option<String>,
    /// Renew all volumes on this node.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    driver: AdminSocketFlags,
}

/// The volumes to renew, and the driver's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewCommand {
    /// `namespace/name` of the pod; all pods without it.
    pub pod: Option<String>,
    /// The driver's admin socket.
    pub socket: PathBuf,
}

/// Why nothing is renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The driver cannot be reached.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It does not have such a volume.
    #[error("the driver on this node has no volume with an identity for the pod {0}: does the pod run on this node?")]
    NoVolume(String),
    /// It did not understand the request.
    #[error("unexpected response from the driver: {status} {text}; does it have the same version as this program?")]
    Answer {
        /// The code.
        status: StatusCode,
        /// The body.
        text: Quoted,
    },
}

#[derive(Deserialize)]
struct RenewResponse {
    renewing: usize,
}

/// Combines the flags. `None` if the driver's socket is not known because of `mistakes`.
pub(super) fn command(args: RenewArgs, mistakes: &mut FlagMistakes) -> Option<RenewCommand> {
    match (&args.pod, args.all) {
        (Some(_), true) => mistakes.add("all", "includes the pod of --pod; leave out one of the two"),
        (None, false) => mistakes.missing("pod", "name the pod, or give --all for every volume on this node"),
        (Some(_), false) | (None, true) => {}
    }
    let socket = args.driver.socket(mistakes)?;
    Some(RenewCommand { pod: args.pod, socket })
}

/// A pod. None of the characters that Kubernetes allows must be escaped in a URL.
pub(super) fn pod(text: &str) -> Result<String, String> {
    let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let valid = |part: &str| !part.is_empty() && part.chars().all(name);
    match text.split_once('/') {
        Some((namespace, pod)) if valid(namespace) && valid(pod) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not a pod; write it as NAMESPACE/NAME, such as shop/web-0")),
    }
}

impl RenewCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let runtime = super::single_threaded()?;
        let renewing = runtime.block_on(self.renew())?;
        let volumes = if renewing == 1 { "volume is" } else { "volumes are" };
        writeln!(io::stdout(), "{renewing} {volumes} being renewed")?;
        Ok(())
    }

    async fn renew(&self) -> Result<usize, RenewError> {
        let query = self.pod.as_ref().map_or(String::new(), |pod| format!("?pod={pod}"));
        let (status, text) = client::post(&self.socket, &format!("/renew{query}")).await?;
        match (&self.pod, serde_json::from_slice(&text)) {
            (_, Ok(RenewResponse { renewing })) if status.is_success() => Ok(renewing),
            (Some(pod), Ok(RenewResponse { renewing: 0 })) if status == StatusCode::NOT_FOUND => {
                Err(RenewError::NoVolume(pod.clone()))
            }
            _ => Err(RenewError::Answer { status, text: Quoted::new(text) }),
        }
    }
}

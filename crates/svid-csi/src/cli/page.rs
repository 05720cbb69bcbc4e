//! `svid-csi page`.

use std::path::PathBuf;

use clap::Args;
use tokio::runtime;

use super::mistakes::FlagMistakes;
use super::renew;
use super::values::{self, Switch};
use crate::doctor::page::{self, PageOptions};

const EXAMPLES: &str = "\
The page is one file that a browser opens without a network: the volumes with the lifetimes of their certificates, the \
sources, recent renewals and failures, and what svid-csi doctor finds. It contains no keys.

Examples:
  From a workstation:
    kubectl exec -n NAMESPACE DRIVER-POD -- /bin/svid-csi page --admin-socket /plugin/data/admin.sock > node.html

  On the node:
    svid-csi page --data-root /var/lib/svid-csi --output node.html";

/// Write the status of this node as a page for browsers.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(super) struct PageArgs {
    /// The driver's admin socket. Default: admin.sock in the data root.
    #[arg(long, value_name = "SOCKET", value_parser = values::socket_or_off)]
    admin_socket: Option<Switch<PathBuf>>,
    /// The driver's data root.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    data_root: Option<PathBuf>,
    /// The file to write, readable by its owner only. Default: standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A kubeconfig. Default: what the driver itself uses.
    #[arg(long, value_name = "FILE", value_parser = values::path)]
    kubeconfig: Option<PathBuf>,
}

/// The page to write.
#[derive(Debug)]
pub struct PageCommand(PageOptions);

/// Combines the flags. `None` if the driver's socket is not known because of `mistakes`.
pub(super) fn command(args: PageArgs, mistakes: &mut FlagMistakes) -> Option<PageCommand> {
    let PageArgs { admin_socket, data_root, output, kubeconfig } = args;
    let socket = renew::socket(admin_socket, data_root, mistakes)?;
    Some(PageCommand(PageOptions { socket, output, kubeconfig }))
}

impl PageCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(page::run(self.0))?)
    }
}

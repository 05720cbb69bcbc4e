//! `svid-csi page`.

use std::path::PathBuf;

use clap::Args;

use super::admin_socket::AdminSocketFlags;
use super::mistakes::FlagMistakes;
use super::values;
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
    #[command(flatten)]
    driver: AdminSocketFlags,
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
    let PageArgs { driver, output, kubeconfig } = args;
    let socket = driver.socket(mistakes)?;
    Some(PageCommand(PageOptions { socket, output, kubeconfig }))
}

impl PageCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let runtime = super::single_threaded()?;
        Ok(runtime.block_on(page::run(self.0))?)
    }
}

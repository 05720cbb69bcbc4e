//! `svid-csi demo`.

/// Show, on this machine and without Kubernetes, what the driver does for two pods.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
pub(super) struct DemoArgs {
    /// Print one JSON object per step.
    #[arg(long)]
    json: bool,
}

/// The demo, ready to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoCommand {
    /// Whether steps are printed as JSON.
    pub json: bool,
}

impl From<DemoArgs> for DemoCommand {
    fn from(args: DemoArgs) -> Self {
        Self { json: args.json }
    }
}

impl DemoCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        crate::demo::run(crate::demo::DemoOptions { json: self.json })
    }
}

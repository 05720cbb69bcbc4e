//! `svid-csi status`.

use clap::Args;
use svid_csi_core::findings::volume_state::VolumeState;
use terminal_size::{Width, terminal_size_of};

use super::admin_socket::AdminSocketFlags;
use super::mistakes::FlagMistakes;
use super::{Environment, renew};
use crate::doctor::status::{self, Sort, StatusOptions};

/// Of output whose width is not known.
const WIDE: usize = 1_000;

const EXAMPLES: &str = "\
It asks the driver on this node. The first lines say whether its sources are connected, and how long pods keep their identities \
without them. In a terminal of fewer than 100 columns (or COLUMNS), each volume has a paragraph.

Examples:
  The volumes of a namespace, what expires first on top, again and again:
    svid-csi status --namespace shop --sort expiry --watch --data-root /var/lib/svid-csi

  Everything that is not as it should be:
    svid-csi status --state expired --state missing --state untrusted --data-root /var/lib/svid-csi";

/// Show the volumes of this node and their identities.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    driver: AdminSocketFlags,
    /// Show the volumes of this pod only.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = renew::pod)]
    pod: Option<String>,
    /// Show the volumes of this namespace only.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Show volumes in this state only: expired, missing, untrusted, starting, renewing, removing or ok.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Vec<VolumeState>,
    /// The order: pod, expiry or state.
    #[arg(long, value_name = "ORDER", default_value = "pod", value_parser = sort)]
    sort: Sort,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Show it again every two seconds.
    #[arg(long)]
    watch: bool,
}

/// The status to show.
#[derive(Debug)]
pub struct StatusCommand(StatusOptions);

/// Combines the flags. `None` if the driver's socket is not known because of `mistakes`.
pub(super) fn command(
    args: StatusArgs,
    environment: Environment<'_>,
    mistakes: &mut FlagMistakes,
) -> Option<StatusCommand> {
    let columns = environment("COLUMNS").and_then(|columns| columns.to_str()?.parse().ok());
    let socket = args.driver.socket(mistakes)?;
    let StatusArgs { pod, namespace, state: states, sort, json, watch, .. } = args;
    let of_terminal = || terminal_size_of(std::io::stdout()).map(|(Width(columns), _)| columns.into());
    let width = columns.or_else(of_terminal).unwrap_or(WIDE);
    Some(StatusCommand(StatusOptions { socket, pod, namespace, states, sort, json, watch, width }))
}

fn state(text: &str) -> Result<VolumeState, String> {
    let found = VolumeState::ALL.into_iter().find(|state| state.name() == text);
    found.ok_or_else(|| {
        format!("{text:?} is not a state; use one of {}", VolumeState::ALL.map(VolumeState::name).join(", "))
    })
}

fn sort(text: &str) -> Result<Sort, String> {
    match text {
        "pod" => Ok(Sort::Pod),
        "expiry" => Ok(Sort::Expiry),
        "state" => Ok(Sort::State),
        _ => Err(format!("{text:?} is not an order; use pod, expiry or state")),
    }
}

impl StatusCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let runtime = super::single_threaded()?;
        Ok(runtime.block_on(status::run(self.0))?)
    }
}

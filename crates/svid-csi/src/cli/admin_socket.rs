//! The flags of commands that ask the driver on this node.

use std::path::PathBuf;

use clap::Args;

use super::mistakes::FlagMistakes;
use super::values::{self, Switch};

#[derive(Debug, Args)]
pub(super) struct AdminSocketFlags {
    /// The driver's admin socket. Default: admin.sock in the data root.
    #[arg(long, value_name = "SOCKET", value_parser = values::socket_or_off)]
    admin_socket: Option<Switch<PathBuf>>,
    /// The driver's data root.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    data_root: Option<PathBuf>,
}

impl AdminSocketFlags {
    /// The admin socket that the two flags name.
    pub(super) fn socket(self, mistakes: &mut FlagMistakes) -> Option<PathBuf> {
        match (self.admin_socket, self.data_root) {
            (Some(Switch::On(socket)), _) => Some(socket),
            (Some(Switch::Off), _) => {
                mistakes.add("admin-socket", "0 means that the driver has no admin socket; start it with one");
                None
            }
            (None, Some(root)) => {
                let socket = root.join("admin.sock");
                if let Some(problem) = values::too_long(&socket) {
                    mistakes.add("data-root", problem);
                }
                Some(socket)
            }
            (None, None) => {
                if !mistakes.given("data-root") {
                    mistakes.missing("admin-socket", "give the driver's --admin-socket or its --data-root");
                }
                None
            }
        }
    }
}

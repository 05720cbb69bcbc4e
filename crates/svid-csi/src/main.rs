//! The `svid-csi` binary.

use std::process::ExitCode;

use svid_csi::cli;
use svid_csi::telemetry::{log, report};

/// Only one thread until a command is dispatched, because the demo must enter its namespaces before there is another
/// one.
fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os(), &|name| std::env::var_os(name)) {
        Ok(command) => command,
        Err(answer) => answer.exit(),
    };
    if let Some(log) = command.log() {
        log::init(log, command.spans());
    }
    match command.run() {
        Ok(code) => code,
        Err(error) => {
            report::failure(&*error);
            ExitCode::FAILURE
        }
    }
}

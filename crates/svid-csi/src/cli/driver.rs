//! `svid-csi driver`.

use tracing::Level;

use super::Environment;
use super::config;
use super::flags::DriverArgs;
use super::mistakes::Mistakes;
use super::runtime;
use crate::host::capabilities;
use crate::node::{self, config::Config};
use crate::telemetry::log::LogOptions;

/// The driver, ready to run.
#[derive(Debug)]
pub struct DriverCommand {
    /// The configuration.
    pub config: Config,
    /// How it logs.
    pub log: LogOptions,
    /// Warnings about flags without effect.
    pub warnings: Vec<String>,
}

/// Combines the flags. Not to be used if `mistakes` has found any.
pub(super) fn command(args: DriverArgs, environment: Environment<'_>, mistakes: &mut Mistakes) -> DriverCommand {
    let log = LogOptions {
        level: args.watch.log_level.unwrap_or(Level::INFO),
        format: args.watch.log_format.unwrap_or_default(),
    };
    let (config, warnings) = config::build(args, environment, mistakes);
    DriverCommand { config, log, warnings }
}

impl DriverCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        // Before the first thread is started.
        let missing = capabilities::keep_those_of_driver()?;
        for warning in self.warnings.iter().chain(&missing) {
            tracing::warn!("{warning}");
        }
        Ok(runtime::build(4)?.block_on(node::run(self.config))?)
    }
}

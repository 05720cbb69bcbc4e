//! The command line: from words and the environment to a consistent command.
//!
//! Every mistake is found before the command runs, and all of them are reported at once.

mod admin_socket;
mod approver;
mod argv;
mod broker;
mod cert_manager;
mod client;
mod doctor;
mod driver;
mod drivers;
mod flags;
mod identity;
mod issuance;
mod mistakes;
mod page;
mod profile;
mod renew;
mod report;
mod sockets;
mod status;
mod values;
mod watch;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

pub use self::approver::ApproverCommand;
pub use self::doctor::DoctorCommand;
pub use self::driver::DriverCommand;
pub use self::identity::IdentityCommand;
use self::mistakes::FlagMistakes;
pub use self::page::PageCommand;
pub use self::renew::RenewCommand;
pub use self::report::ReportCommand;
pub use self::status::StatusCommand;
pub use self::watch::WatchCommand;
use crate::demo;
use crate::host::core_dumps;
use crate::telemetry::log::{self, ForSpans, LogOptions};
use crate::telemetry::metrics::Metrics;

/// Looks up an environment variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The requested command.
#[derive(Debug)]
pub enum Command {
    /// Serve volumes on this node.
    Driver(Box<DriverCommand>),
    /// Judge certificate requests.
    Approver(Box<ApproverCommand>),
    /// Renew identities now.
    Renew(RenewCommand),
    /// Find out what is wrong.
    Doctor(DoctorCommand),
    /// Show the volumes of this node.
    Status(StatusCommand),
    /// Show the volumes of this node in a browser.
    Page(PageCommand),
    /// Pack a report of a problem.
    Report(ReportCommand),
    /// Compare a pod's identity with the driver's record.
    Identity(IdentityCommand),
    /// Show the identities of a pod.
    Watch(Box<WatchCommand>),
    /// Demonstrate the driver on this machine.
    Demo(DemoCommand),
}

#[derive(Debug, Parser)]
#[command(name = "svid-csi", version, about, max_term_width = 120, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    Driver(Box<flags::DriverArgs>),
    Approver(Box<approver::ApproverArgs>),
    Renew(renew::RenewArgs),
    Doctor(doctor::DoctorArgs),
    Status(status::StatusArgs),
    Page(page::PageArgs),
    Report(report::ReportArgs),
    Identity(identity::IdentityArgs),
    Watch(Box<watch::WatchArgs>),
    Demo(DemoArgs),
}

/// Reads the command line and the environment.
///
/// # Errors
/// The text to print instead of running a command: help, the version, or every mistake found.
pub fn parse(argv: impl IntoIterator<Item = OsString>, environment: Environment<'_>) -> Result<Command, clap::Error> {
    let mut words = argv::words(argv);
    let mut mistakes = FlagMistakes::default();
    let cli = Cli::command();
    let exec = argv::split_off_command(&mut words);
    if let Some(subcommand) = words.get(1).and_then(|name| cli.find_subcommand(name)) {
        let flags = argv::normalise(subcommand, &words[2..], environment, &mut mistakes);
        words.splice(2.., flags);
    }
    let command = command_of(Cli::try_parse_from(words)?.command, exec, environment, &mut mistakes);
    let command = mistakes.none_or(command)?;
    Ok(command.expect("without a mistake there is a command"))
}

/// `None` only with a mistake.
fn command_of(
    given: CliCommand,
    exec: Option<Vec<String>>,
    environment: Environment<'_>,
    mistakes: &mut FlagMistakes,
) -> Option<Command> {
    Some(match given {
        CliCommand::Driver(args) => Command::Driver(Box::new(driver::command(*args, environment, mistakes))),
        CliCommand::Approver(args) => Command::Approver(Box::new(approver::command(*args, mistakes)?)),
        CliCommand::Renew(args) => Command::Renew(renew::command(args, mistakes)?),
        CliCommand::Doctor(args) => Command::Doctor(doctor::command(args, mistakes)?),
        CliCommand::Status(args) => Command::Status(status::command(args, environment, mistakes)?),
        CliCommand::Identity(args) => Command::Identity(identity::command(args, mistakes)?),
        CliCommand::Page(args) => Command::Page(page::command(args, mistakes)?),
        CliCommand::Report(args) => Command::Report(report::command(args, mistakes)?),
        CliCommand::Watch(args) => Command::Watch(Box::new(watch::command(*args, exec, environment, mistakes))),
        CliCommand::Demo(args) => Command::Demo(args.into()),
    })
}

/// A page of metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsPage {
    /// The program they belong to.
    pub of: &'static str,
    /// All metrics, with every label, in the OpenMetrics text format.
    pub text: String,
}

/// Every metric of the driver and of the approver, for the generated reference.
pub fn metrics() -> [MetricsPage; 2] {
    let of_approver = crate::approver::specimen_of_metrics();
    [MetricsPage { of: "driver", text: Metrics::specimen() }, MetricsPage { of: "approver", text: of_approver }]
}

/// Every subcommand with its flags, for the generated reference, man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

impl Command {
    /// The configuration of this command's log, if it has one.
    pub fn log(&self) -> Option<LogOptions> {
        match self {
            Command::Driver(driver) => Some(driver.log),
            Command::Approver(approver) => Some(approver.log),
            Command::Watch(watch) => Some(watch.log),
            Command::Renew(_)
            | Command::Doctor(_)
            | Command::Status(_)
            | Command::Identity(_)
            | Command::Page(_)
            | Command::Report(_)
            | Command::Demo(_) => None,
        }
    }

    /// What subscribes to the spans of this command, if anything does.
    pub fn spans(&self) -> Option<ForSpans> {
        match self {
            Command::Driver(driver) => driver.traces.as_ref().map(|traces| log::for_spans(traces.layer())),
            _ => None,
        }
    }

    /// Whether real keys will be in the memory of this process.
    fn holds_keys(&self) -> bool {
        match self {
            Command::Driver(_)
            | Command::Approver(_)
            | Command::Doctor(_)
            | Command::Page(_)
            | Command::Report(_)
            | Command::Identity(_)
            | Command::Watch(_) => true,
            // The demo's own process writes its maps of users, which the kernel allows only for dumpable processes.
            Command::Renew(_) | Command::Status(_) | Command::Demo(_) => false,
        }
    }

    /// Runs the command to its end, and returns the exit code of the process.
    ///
    /// # Errors
    /// The error that ended it early.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.holds_keys() {
            core_dumps::forbid()?;
        }
        match self {
            Command::Driver(driver) => driver.run()?,
            Command::Approver(approver) => return approver.run(),
            Command::Renew(renew) => renew.run()?,
            Command::Doctor(doctor) => return doctor.run(),
            Command::Status(status) => status.run()?,
            Command::Page(page) => page.run()?,
            Command::Report(report) => report.run()?,
            Command::Identity(identity) => return identity.run(),
            Command::Watch(watch) => return watch.run(),
            Command::Demo(demo) => demo.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Show, on this machine and without Kubernetes, what the driver does for two pods.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
struct DemoArgs {
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
    fn run(self) -> anyhow::Result<()> {
        demo::run(demo::DemoOptions { json: self.json })
    }
}

/// A runtime for a command that asks and ends.
fn single_threaded() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// A runtime with that many threads for blocking work, each of which uses memory.
fn runtime(blocking_threads: usize) -> io::Result<Runtime> {
    // Two threads are enough for any node and any API server; more would only use more memory.
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(2));
    Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(blocking_threads)
        .thread_name("svid-csi")
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests;

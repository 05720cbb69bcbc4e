//! `svid-csi doctor` gathers facts about this node, and prints what core makes of them; `svid-csi status` and `svid-csi
//! page` show its volumes, `svid-csi identity` those of one pod, and `svid-csi report` packs all that.

pub mod before;
mod cluster;
mod data;
mod delivered;
mod gather;
mod handshake;
pub mod identity;
pub mod page;
mod paths;
mod print;
pub mod report;
mod sockets;
pub mod status;
mod volumes;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use svid_csi_core::findings::facts::Facts;
use svid_csi_core::findings::{Category, Check, Report, Severity, walk};
use tokio::time::{Instant, sleep};

use self::before::BeforeOptions;

use crate::host::clock;

/// The time between two looks while `--wait` lasts.
const PAUSE: Duration = Duration::from_secs(1);

/// The checks, and how their result is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorOptions {
    /// The driver's admin socket.
    pub socket: PathBuf,
    /// The checks of these categories only.
    pub categories: Vec<Category>,
    /// How the result is printed.
    pub output: Output,
    /// How long to wait until there are no faults.
    pub wait: Duration,
    /// Another time than now.
    pub shift: Option<Shift>,
    /// A kubeconfig in place of the driver's own access to the API server.
    pub kubeconfig: Option<PathBuf>,
    /// The subject.
    pub scope: Scope,
}

/// The subject of an examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Node,
    /// The volumes of this pod (`namespace/name`), step by step.
    Pod(String),
    /// Whether these two pods can connect to each other.
    Handshake(String, String),
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// Paragraphs for people.
    #[default]
    Table,
    /// A line for each finding.
    Short,
    /// One JSON object.
    Json,
}

/// How far the clock is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    /// Into the future.
    Later(Duration),
    /// Into the past.
    Earlier(Duration),
}

impl Shift {
    fn of(self, now: SystemTime) -> SystemTime {
        let moved = match self {
            Shift::Later(by) => now.checked_add(by),
            Shift::Earlier(by) => now.checked_sub(by),
        };
        moved.unwrap_or(now)
    }
}

/// Checks the node and prints the result. The exit code is 0 if it is fine, 1 with warnings, 2 with faults.
///
/// # Errors
/// The result cannot be printed, other than because its reader has gone.
pub async fn run(options: DoctorOptions) -> io::Result<ExitCode> {
    let (facts, result) =
        until_fine(options.wait, async || examine(&options).await, |examined: &(Facts, Examined)| examined.1.worst())
            .await;
    write(&print::result(&options, &facts, &result, is_coloured()))?;
    Ok(exit_code(result.worst()))
}

/// Checks a node on which the driver is to be installed. As [`run`] otherwise.
///
/// # Errors
/// The result cannot be printed.
pub async fn run_before(options: BeforeOptions) -> io::Result<ExitCode> {
    let report = until_fine(options.wait, async || before::examine(&options).await, Report::worst).await;
    write(&print::before(options.output, &report, is_coloured()))?;
    Ok(exit_code(report.worst()))
}

/// The last result: the first one without faults, if there is one in time.
async fn until_fine<T>(
    wait: Duration,
    mut examine: impl AsyncFnMut() -> T,
    worst: impl Fn(&T) -> Option<Severity>,
) -> T {
    let deadline = Instant::now() + wait;
    loop {
        let result = examine().await;
        if worst(&result) != Some(Severity::Fault) || Instant::now() + PAUSE >= deadline {
            return result;
        }
        sleep(PAUSE).await;
    }
}

fn exit_code(worst: Option<Severity>) -> ExitCode {
    match worst {
        None => ExitCode::SUCCESS,
        Some(Severity::Warning) => ExitCode::from(1),
        Some(Severity::Fault) => ExitCode::from(2),
    }
}

/// The result of one examination.
enum Examined {
    Node(Report),
    Pod(Vec<walk::Step>),
}

impl Examined {
    fn worst(&self) -> Option<Severity> {
        match self {
            Examined::Node(report) => report.worst(),
            Examined::Pod(steps) => steps.iter().flat_map(|step| &step.findings).map(|finding| finding.severity).max(),
        }
    }
}

async fn examine(options: &DoctorOptions) -> (Facts, Examined) {
    let (facts, paths) = gather::of_driver(&options.socket).await;
    if let (Scope::Handshake(from, to), Ok(driver)) = (&options.scope, &facts.driver) {
        let report = handshake::between(driver, &paths, [from, to]).await;
        return (facts, Examined::Node(report));
    }
    let mut facts = gather::look_around(facts, &paths, &options.socket, options.kubeconfig.clone()).await;
    if let Some(shift) = options.shift {
        facts.now = shift.of(clock::now());
    }
    let result = match &options.scope {
        Scope::Pod(pod) => Examined::Pod(walk::walk(facts.clone(), pod)),
        // Without the driver, two pods cannot meet either.
        Scope::Node | Scope::Handshake(..) => Examined::Node(Report::of(&facts).only(&options.categories)),
    };
    (facts, result)
}

/// Explains a check, without looking at anything.
///
/// # Errors
/// The text cannot be printed.
pub fn explain(check: &Check) -> io::Result<ExitCode> {
    write(&print::explanation(check))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether the reader is a person who has not turned colours off (<https://no-color.org>).
fn is_coloured() -> bool {
    let is_off = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !is_off && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// Whether there still is a reader. One that has gone, such as `head`, has read what it wanted.
fn write(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

//! `svid-csi watch`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal};
use svid_csi_core::files::{FileName, FileNames};
use svid_csi_core::go_duration;
use tracing::Level;

use super::mistakes::FlagMistakes;
use super::{Environment, values};
use crate::telemetry::log::{LogFormat, LogOptions};
use crate::watch::{self, Action, Origin, WatchOptions, WatchedNames};

/// How long `--once` waits by default.
const PATIENCE: Duration = Duration::from_secs(30);

/// The variable with the address of the socket, according to the SPIFFE Workload Endpoint standard (section 4).
const STANDARD_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

const EXAMPLES: &str = "\
Updates go to stdout: a line for each SVID, or with --json an object for each update. What the command waits for goes to \
stderr. It never prints a key or a token. It starts without the Workload API or the files, and keeps running if they go away. \
See docs/watch.md.

Examples:
  What does this pod see?
    svid-csi watch --once

  Make a server reload its certificate:
    svid-csi watch --files /var/run/secrets/spiffe.io --signal 1:HUP
    svid-csi watch --exec nginx -s reload";

/// Show the identities that a pod is given, and act on each change.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(super) struct WatchArgs {
    /// The socket of a Workload API. Default: $SPIFFE_ENDPOINT_SOCKET, or the one in /spiffe-workload-api.
    #[arg(long, value_name = "SOCKET", value_parser = values::socket)]
    socket: Option<PathBuf>,
    /// Watch files in this folder instead.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    files: Option<PathBuf>,
    /// The certificate chain in the folder.
    #[arg(long, value_name = "NAME", default_value = "tls.crt", value_parser = values::file_name)]
    file_cert: FileName,
    /// The private key in the folder. If it is in the file of the certificate chain, the key comes first there.
    #[arg(long, value_name = "NAME", default_value = "tls.key", value_parser = values::file_name)]
    file_key: FileName,
    /// The trust bundle in the folder; it may be missing.
    #[arg(long, value_name = "NAME", default_value = "ca.crt", value_parser = values::file_name)]
    file_bundle: FileName,
    /// Also request a JWT-SVID for this audience, with each update.
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// Exit after the first update, or with code 1 if none arrives in time.
    #[arg(long)]
    once: bool,
    /// How long --once waits [default: 30s].
    #[arg(long, value_name = "DURATION", value_parser = go_duration::parse)]
    timeout: Option<Duration>,
    /// Print one JSON object per update.
    #[arg(long)]
    json: bool,
    /// Send a signal to a process on each change.
    #[arg(long, value_name = "PID[:SIGNAL]", value_parser = signal)]
    signal: Option<(Pid, Signal)>,
    /// Run a command on each change, without a shell; all words that follow are part of it. SVID_CSI_* in its
    /// environment describes the update.
    #[arg(long, value_name = "COMMAND [ARGUMENT]...")]
    exec: Option<String>,
}

/// The source to watch, and the action on each change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchCommand {
    /// The configuration of the log.
    pub log: LogOptions,
    /// Everything else.
    pub options: WatchOptions,
}

/// Combines the flags. `exec` contains the words after `--exec`.
pub(super) fn command(
    args: WatchArgs,
    exec: Option<Vec<String>>,
    environment: Environment<'_>,
    mistakes: &mut FlagMistakes,
) -> WatchCommand {
    let exec = exec.or_else(|| args.exec.as_ref().map(|line| line.split_whitespace().map(str::to_owned).collect()));
    let once = args.once.then_some(args.timeout.unwrap_or(PATIENCE));
    if args.timeout.is_some() && !args.once {
        mistakes.add("timeout", "is how long --once waits; without --once, the command runs until it is stopped");
    }
    if args.files.is_some() && !args.audience.is_empty() {
        mistakes.add("audience", "tokens are requested over a socket; leave out --files, or this flag");
    }
    let format = if args.json { LogFormat::Json } else { LogFormat::Text };
    let (json, audiences) = (args.json, args.audience.clone());
    let action = action(exec, args.signal, mistakes);
    let options = WatchOptions { origin: origin(args, environment, mistakes), audiences, once, json, action };
    WatchCommand { log: LogOptions { level: Level::INFO, format }, options }
}

fn origin(args: WatchArgs, environment: Environment<'_>, mistakes: &mut FlagMistakes) -> Origin {
    let names = WatchedNames { cert: args.file_cert, key: args.file_key, bundle: args.file_bundle };
    match (args.socket, args.files) {
        (Some(_), Some(_)) => {
            mistakes.add("files", "cannot be used with --socket; leave out one of the two");
            Origin::MountedSocket
        }
        (Some(socket), None) => Origin::Socket(socket),
        (None, Some(folder)) => {
            let key = Some(names.key.clone()).filter(|key| *key != names.cert);
            let distinct = FileNames { cert: Some(names.cert.clone()), key, bundle: Some(names.bundle.clone()) };
            if let Err(same) = distinct.check_distinct() {
                mistakes.add("file-cert", same);
            }
            Origin::Files { folder, names }
        }
        (None, None) => standard_socket(environment, mistakes),
    }
}

fn standard_socket(environment: Environment<'_>, mistakes: &mut FlagMistakes) -> Origin {
    let Some(text) = environment(STANDARD_VARIABLE).filter(|text| !text.is_empty()) else {
        return Origin::MountedSocket;
    };
    match values::socket(&text.to_string_lossy()) {
        Ok(socket) => Origin::Socket(socket),
        Err(problem) => {
            if !mistakes.given("socket") {
                mistakes.stray(STANDARD_VARIABLE, problem);
            }
            Origin::MountedSocket
        }
    }
}

fn action(exec: Option<Vec<String>>, signal: Option<(Pid, Signal)>, mistakes: &mut FlagMistakes) -> Option<Action> {
    match (exec, signal) {
        (Some(_), Some(_)) => {
            mistakes.add("signal", "cannot be used with --exec; let the command send the signal");
            None
        }
        (Some(words), None) if words.first().is_none_or(String::is_empty) => {
            mistakes.add("exec", "has no command; write it as --exec COMMAND ARGUMENT...");
            None
        }
        (Some(words), None) if words[0].starts_with('-') => {
            mistakes.add(
                "exec",
                format_args!("is followed by {:?}, which is not a command; put the flags before it", words[0]),
            );
            None
        }
        (Some(words), None) => Some(Action::Exec(words)),
        (None, Some((pid, signal))) => Some(Action::Signal(pid, signal)),
        (None, None) => None,
    }
}

/// `PID` or `PID:SIGNAL`.
fn signal(text: &str) -> Result<(Pid, Signal), String> {
    let (pid, name) = text.split_once(':').unwrap_or((text, "HUP"));
    let number = pid.parse().ok().filter(|_| !pid.starts_with('+'));
    let pid = number.filter(|pid| *pid > 0).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| format!("{text:?} does not begin with a process ID; write it like 1 or 1:HUP"))?;
    Ok((
        pid,
        named(name)
            .ok_or_else(|| format!("{name:?} is not a signal; use {}", SIGNALS.map(|(name, _)| name).join(", ")))?,
    ))
}

const SIGNALS: [(&str, Signal); 9] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("TERM", Signal::TERM),
    ("CONT", Signal::CONT),
    ("WINCH", Signal::WINCH),
];

fn named(name: &str) -> Option<Signal> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal)
}

impl WatchCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        let ended = runtime.block_on(watch::run(self.options));
        // Does not wait for blocked threads, such as one that reads a folder on a dead disk.
        runtime.shutdown_background();
        ended?;
        Ok(ExitCode::SUCCESS)
    }
}

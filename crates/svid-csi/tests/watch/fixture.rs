//! The process and its output.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use svid_csi_testkit::agent::{Agent, Entry};
pub(crate) use svid_csi_testkit::pod;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_svid-csi");

/// The time limit of every step.
const LIMIT: Duration = Duration::from_secs(120);

/// A running `watch`; it is killed when dropped.
pub(crate) struct WatchProcess {
    child: Child,
    updates: Receiver<String>,
    log: Receiver<String>,
    logged: Vec<String>,
}

impl WatchProcess {
    /// Starts it, with updates as JSON.
    pub(crate) fn start<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["watch", "--json"]).args(args).env_remove("SPIFFE_ENDPOINT_SOCKET");
        Self::spawn(command)
    }

    pub(crate) fn socket(socket: &Path, more: &[&str]) -> Self {
        Self::start([&["--socket", socket.to_str().unwrap()], more].concat())
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        // With its commands, which may wait for this test.
        command.process_group(0);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (updates, log) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, updates, log, logged: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next update.
    pub(crate) fn update(&mut self) -> Value {
        let line = self.updates.recv_timeout(LIMIT);
        let line = line.unwrap_or_else(|_| panic!("no update came; the log: {:#?}", self.all_logged()));
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    }

    /// Waits until a line of the log contains this text, including earlier lines.
    pub(crate) fn logs(&mut self, text: &str) {
        while !self.logged.iter().any(|line| line.contains(text)) {
            let line = self.log.recv_timeout(LIMIT);
            self.logged.push(line.unwrap_or_else(|_| panic!("not logged: {text}\n{:#?}", self.logged)));
        }
    }

    /// The number of lines of the log so far that contain this text.
    pub(crate) fn times_logged(&mut self, text: &str) -> usize {
        self.all_logged().iter().filter(|line| line.contains(text)).count()
    }

    fn all_logged(&mut self) -> &[String] {
        self.logged.extend(self.log.try_iter());
        &self.logged
    }

    /// Waits until it ends; returns its status and its remaining output.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        // Both end with the process.
        let updates = self.updates.iter().collect();
        self.logged.extend(self.log.iter());
        (self.child.wait().unwrap(), updates, std::mem::take(&mut self.logged))
    }

    pub(crate) fn terminate(&self) {
        send("TERM", self.pid());
    }
}

impl Drop for WatchProcess {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let lines = BufReader::new(output).lines();
        lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}

pub(crate) fn send(signal: &str, pid: u32) {
    assert!(Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap().success());
}

/// An agent with one entry for every client of its Workload API.
pub(crate) fn agent(folder: &Path) -> Agent {
    let agent = Agent::prepared(folder);
    agent.own(&[Entry::new("spiffe://example.org/workload")]);
    agent
}

pub(crate) fn socket(folder: &Path) -> std::path::PathBuf {
    folder.join("agent/agent.sock")
}

pub(crate) fn serial(update: &Value) -> String {
    update["svids"][0]["serial"].as_str().unwrap().to_owned()
}

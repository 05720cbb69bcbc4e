//! Running approvers.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use svid_csi_testkit::effects;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

const BINARY: &str = env!("CARGO_BIN_EXE_svid-csi");

/// The predecessor's command line, up to the path of the kubeconfig.
const COMMON: &[&str] = &[
    "approver",
    "--issuer-name=spiffe-ca",
    "--trust-domain=example.org",
    "--leader-election-namespace=cert-manager",
    "--readiness-probe-bind-address=127.0.0.1:0",
    "--metrics-bind-address=127.0.0.1:0",
    "--kubeconfig",
];

/// Prepares one for the supervisor.
pub(crate) fn stopped(kubeconfig: &Path) -> std::process::Command {
    let mut command = effects::stopped(BINARY.as_ref());
    command.args(COMMON).arg(kubeconfig).env_clear().env("PATH", "/usr/bin:/bin").stderr(Stdio::null());
    command
}

/// How long a test waits for an event that must occur. Nothing takes that long on any machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// An approver. It is killed when dropped.
pub(crate) struct Approver {
    child: Child,
    log: watch::Receiver<Vec<String>>,
}

impl Approver {
    /// Starts one with the predecessor's command line and these flags.
    pub(crate) fn start(kubeconfig: &Path, flags: &[&str]) -> Self {
        Self::start_in(kubeconfig, flags, &[])
    }

    /// Starts one in an environment with these variables.
    pub(crate) fn start_in(kubeconfig: &Path, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command
            .args(COMMON)
            .arg(kubeconfig)
            .args(flags)
            .env_clear()
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (output, log) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                output.send_modify(|log| log.push(line));
            }
        });
        Self { child, log }
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().join("\n")
    }

    /// Waits for a line in the log that contains all these parts.
    pub(crate) async fn logged(&self, parts: &[&str]) -> String {
        let found = |log: &[String]| log.iter().find(|line| parts.iter().all(|part| line.contains(part))).cloned();
        let mut log = self.log.clone();
        let waiting = tokio::time::timeout(LIMIT, log.wait_for(|log| found(log).is_some())).await;
        match waiting {
            Ok(Ok(log)) => found(&log).unwrap(),
            _ => panic!("no line with {parts:?} in\n{}", self.log()),
        }
    }

    /// The number of lines with this part.
    pub(crate) fn lines(&self, part: &str) -> usize {
        self.log.borrow().iter().filter(|line| line.contains(part)).count()
    }

    /// Connects to the address that serves such pages.
    async fn connect(&self, path: &str) -> TcpStream {
        let line = self.logged(&["serving", if path == "/metrics" { "/metrics" } else { "/readyz" }]).await;
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        TcpStream::connect(address).await.unwrap()
    }

    /// Sends the beginning of a request that never ends; the task ends once the approver has dropped it.
    pub(crate) async fn half_a_request(&self, path: &str) -> tokio::task::JoinHandle<()> {
        let mut stream = self.connect(path).await;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nX-Half: ").as_bytes()).await.unwrap();
        tokio::spawn(async move {
            let mut said = Vec::new();
            let ended = tokio::time::timeout(LIMIT, stream.read_to_end(&mut said)).await;
            let _ = ended.expect("it is let go");
        })
    }

    /// The response to GET, from the address that serves such pages.
    pub(crate) async fn get(&self, path: &str) -> String {
        let mut stream = self.connect(path).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The value of a metric with these labels; 0 if it does not exist.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").await;
        let line = page.lines().find(|line| line.starts_with(&format!("svid_csi_approver_{name} ")));
        line.map_or(0.0, |line| line.split_whitespace().last().unwrap().parse().unwrap())
    }

    /// Waits until a metric has that value. Metrics do not notify about changes, so it is polled.
    pub(crate) async fn counted(&self, name: &str, value: f64) {
        let reached = async { while self.metric(name).await != value {} };
        if tokio::time::timeout(LIMIT, reached).await.is_err() {
            panic!("{name} is not {value}:\n{}\n{}", self.get("/metrics").await, self.log());
        }
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self) {
        self.logged(&["all certificate requests have been listed"]).await;
        assert!(self.get("/readyz").await.starts_with("HTTP/1.1 200"));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// The exit code, once it has ended.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        tokio::time::timeout(LIMIT, self.child.wait()).await.expect("it ends").unwrap().code()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

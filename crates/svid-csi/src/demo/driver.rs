//! The demonstrated driver: this program, started as a child process with the flags that a DaemonSet would pass.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// The driver name whose pods get files.
pub(super) const FILES_DRIVER: &str = "demo.svid-csi";

/// The driver name whose pods get the agent's socket.
pub(super) const SOCKET_DRIVER: &str = "csi.spiffe.io";

/// How long a driver may take to end after SIGTERM.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// The settings of every start of the driver.
#[derive(Debug)]
pub(super) struct DriverSettings {
    /// The demo's work folder.
    pub(super) work: PathBuf,
    /// The trust domain of the identities it issues.
    pub(super) trust_domain: &'static str,
    /// The lifetime of the identities it issues, in whole seconds.
    pub(super) lifetime: Duration,
    /// The CA it shares with the agent.
    pub(super) ca_dir: PathBuf,
    /// The folder of the agent's socket.
    pub(super) agent_dir: PathBuf,
    /// The kubelet's root folder.
    pub(super) kubelet_dir: PathBuf,
    /// The folder of its registration socket.
    pub(super) registration_dir: PathBuf,
}

/// A running driver. It is killed when dropped.
#[derive(Debug)]
pub(super) struct Driver {
    child: Child,
    log: PathBuf,
}

impl DriverSettings {
    fn arguments(&self) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let (files, socket) = (self.csi_socket(FILES_DRIVER), self.csi_socket(SOCKET_DRIVER));
        let pairs = [
            ("source", "local-ca".to_owned()),
            ("delivery", "files".to_owned()),
            ("driver-name", FILES_DRIVER.to_owned()),
            ("node-id", "demo-node".to_owned()),
            ("endpoint", format!("unix://{}", text(&files))),
            ("data-root", text(&self.data_root())),
            ("trust-domain", self.trust_domain.to_owned()),
            ("certificate-request-duration", format!("{}s", self.lifetime.as_secs())),
            ("local-ca-dir", text(&self.ca_dir)),
            ("kubelet-dir", text(&self.kubelet_dir)),
            ("kubelet-registration-dir", text(&self.registration_dir)),
            ("kubelet-registration-path", text(&files)),
            ("also-profile", format!("{SOCKET_DRIVER}:csi-socket={0},registration-path={0}", text(&socket))),
            ("workload-api-socket-dir", text(&self.agent_dir)),
            ("metrics-address", "0".to_owned()),
        ];
        let flags = pairs.into_iter().flat_map(|(flag, value)| [format!("--{flag}"), value]);
        std::iter::once("driver".to_owned()).chain(flags).collect()
    }

    /// The folder of the driver's volumes and records.
    pub(super) fn data_root(&self) -> PathBuf {
        self.work.join("driver")
    }

    fn csi_socket(&self, driver: &str) -> PathBuf {
        self.kubelet_dir.join("plugins").join(driver).join("csi.sock")
    }
}

impl Driver {
    /// Starts a driver; `name` is the name of its log.
    pub(super) fn start(settings: &DriverSettings, name: &str) -> Result<Self> {
        for driver in [FILES_DRIVER, SOCKET_DRIVER] {
            let socket = settings.csi_socket(driver);
            fs::create_dir_all(socket.parent().unwrap_or(&socket))?;
        }
        let log = settings.work.join(format!("{name}.log"));
        let file = File::create(&log)?;
        // The link and not its target, because the work folder may hide the program in the namespace.
        let child = Command::new("/proc/self/exe")
            .args(settings.arguments())
            // The user's SVID_CSI_* variables are flags of another driver.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the driver")?;
        Ok(Self { child, log })
    }

    /// Its process ID.
    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Waits for `step`. If the driver ends first, fails at once with the end of its log.
    pub(super) async fn alive<T>(&mut self, step: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = step => done.with_context(|| self.last_words()),
            ended = self.child.wait() => bail!("the driver ended ({}); {}", ended?, self.last_words()),
        }
    }

    /// Kills it immediately.
    pub(super) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill the driver")
    }

    /// Asks it to end, and checks that it does in time and without an error.
    pub(super) async fn stop(mut self) -> Result<()> {
        let pid =
            self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("the driver has already ended")?;
        kill_process(pid, Signal::TERM)?;
        let ended = tokio::time::timeout(DRAIN_LIMIT, self.child.wait()).await;
        let status = ended.with_context(|| format!("the driver is still running {DRAIN_LIMIT:?} after SIGTERM"))??;
        ensure!(status.success(), "the driver ended with {status}; {}", self.last_words());
        Ok(())
    }

    /// The last lines of its log.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("the last lines of the driver's log: {}", lines.join(" | "))
    }
}

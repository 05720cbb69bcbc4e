//! svid-csi on the host: its driver with cert-manager as the source, and its approver.

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::eventually::{SOON, eventually};
use crate::program::{Program, fetch, free_address};
use crate::requests::Terms;

/// The folder of a program and its account.
pub struct Place<'a> {
    /// The release binary.
    pub binary: PathBuf,
    /// Logs, sockets and data.
    pub folder: &'a Path,
    /// Its account at the API server.
    pub kubeconfig: PathBuf,
}

/// The settings of a driver.
pub struct DriverPlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// The kubelet's root folder.
    pub kubelet: &'a Path,
    /// The node.
    pub node: &'a str,
    /// More flags.
    pub more: Vec<String>,
}

/// A running driver.
pub struct Driver {
    program: RefCell<Program>,
    binary: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    metrics: SocketAddr,
}

impl Driver {
    /// Starts a driver and waits until it listens.
    pub async fn start(place: &Place<'_>, terms: &Terms, plan: &DriverPlan<'_>) -> Result<Self> {
        let metrics = free_address()?;
        let socket = socket(place.folder);
        let socket = socket.display();
        let kubelet = plan.kubelet.display();
        let mut arguments = vec!["driver".to_owned(), "--profile=spiffe.csi.cert-manager.io".to_owned()];
        arguments.extend([
            format!("--csi-driver-name={}", plan.name),
            format!("--kubeconfig={}", place.kubeconfig.display()),
            format!("--issuer-name={}", terms.issuer),
            format!("--trust-domain={}", terms.trust_domain),
            format!("--certificate-request-duration={}", terms.duration()),
            format!("--node-id={}", plan.node),
            format!("--endpoint=unix://{socket}"),
            format!("--data-root={}", place.folder.join("data").display()),
            format!("--kubelet-dir={kubelet}"),
            format!("--kubelet-registration-dir={kubelet}/plugins_registry"),
            format!("--kubelet-registration-path={socket}"),
            format!("--admin-socket={}", place.folder.join("admin.sock").display()),
            format!("--metrics-address={metrics}"),
        ]);
        arguments.extend(plan.more.iter().cloned());
        let (binary, folder) = (place.binary.clone(), place.folder.to_owned());
        let program = RefCell::new(Program::start(&binary, &arguments, &log(&folder))?);
        let driver = Self { program, binary, arguments, folder, metrics };
        driver.wait_listening().await?;
        Ok(driver)
    }

    /// Ends it with SIGKILL and starts it again.
    pub async fn kill_and_restart(&self) -> Result<()> {
        self.program.borrow_mut().kill()?;
        self.program.replace(Program::start(&self.binary, &self.arguments, &log(&self.folder))?);
        self.wait_listening().await
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.program.borrow().pid()
    }

    /// The CSI socket for the kubelet.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(&self.folder)
    }

    /// Its log.
    pub fn log(&self) -> Result<String> {
        self.program.borrow().log()
    }

    /// Its metrics.
    pub async fn metrics(&self) -> Result<String> {
        fetch(self.metrics, "/metrics").await
    }

    /// Renews with the command-line tool; `what` is `--all`, or `--pod` and a pod.
    pub async fn renew(&self, what: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.arg("renew").args(what).arg("--admin-socket").arg(self.folder.join("admin.sock"));
        let output = tokio::task::spawn_blocking(move || command.output()).await?.context("cannot run svid-csi")?;
        let [said, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        ensure!(output.status.success(), "svid-csi renew {what:?}: {said} {errors}");
        Ok(said)
    }

    async fn wait_listening(&self) -> Result<()> {
        let socket = self.socket();
        eventually("the driver to listen", SOON, async || {
            self.program.borrow_mut().check()?;
            UnixStream::connect(&socket).map(drop).with_context(|| format!("{}", socket.display()))
        })
        .await
    }
}

/// A running approver.
pub struct Approver {
    program: Program,
    metrics: SocketAddr,
    health: SocketAddr,
}

impl Approver {
    /// Starts an approver; it is ready once its watch has begun, but may not be the leader yet.
    pub fn start(place: &Place<'_>, terms: &Terms, namespace: &str, more: &[&str]) -> Result<Self> {
        let (metrics, health) = (free_address()?, free_address()?);
        let mut arguments = vec!["approver".to_owned()];
        arguments.extend([
            format!("--kubeconfig={}", place.kubeconfig.display()),
            format!("--issuer-name={}", terms.issuer),
            format!("--trust-domain={}", terms.trust_domain),
            format!("--certificate-request-duration={}", terms.duration()),
            format!("--leader-election-namespace={namespace}"),
            format!("--readiness-probe-bind-address={health}"),
            format!("--metrics-bind-address={metrics}"),
        ]);
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        let program = Program::start(&place.binary, &arguments, &place.folder.join("approver.log"))?;
        Ok(Self { program, metrics, health })
    }

    /// Waits until it reports that it is ready.
    pub async fn wait_ready(&mut self) -> Result<()> {
        eventually("the approver to be ready", SOON, async || {
            self.program.check()?;
            fetch(self.health, "/readyz").await
        })
        .await
        .map(drop)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Its log.
    pub fn log(&self) -> Result<String> {
        self.program.log()
    }

    /// Its metrics.
    pub async fn metrics(&self) -> Result<String> {
        fetch(self.metrics, "/metrics").await
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.program.kill()
    }

    /// Ends it with SIGTERM.
    pub async fn end(self) -> Result<()> {
        self.program.end().await
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("csi.sock")
}

fn log(folder: &Path) -> PathBuf {
    folder.join("driver.log")
}

/// Creates the folder of a program.
pub fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

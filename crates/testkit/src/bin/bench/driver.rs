//! The driver as a process.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use svid_csi::demo::kubelet::Plugin;
use tokio::time::sleep;

use crate::stage::{Stage, ending_with_us};

/// The time after which a starting driver counts as failed.
const LIMIT: Duration = Duration::from_secs(60);
/// The interval at which a starting driver is probed.
const PAUSE: Duration = Duration::from_millis(1);

/// The driver's plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Passthrough,
    Files,
    /// Workload API sockets, with the local CA.
    WorkloadApi,
    /// Workload API sockets, with cert-manager.
    CertManager,
    /// Files, with an agent's Broker API.
    Broker,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Passthrough => "passthrough",
            Mode::Files => "files",
            Mode::WorkloadApi => "workload-api",
            Mode::CertManager => "cert-manager",
            Mode::Broker => "broker",
        }
    }

    /// The admin socket for renewals, if the mode has a data root.
    pub(crate) fn admin_socket(self) -> PathBuf {
        Stage::path(self.name()).join("admin.sock")
    }
}

/// A running driver. It is killed when dropped; its volumes stay.
pub(crate) struct Driver {
    child: Child,
    mode: Mode,
    metrics: SocketAddr,
}

/// The startup time.
pub(crate) struct Started {
    /// Until a call was answered.
    pub(crate) answered: Duration,
    /// Until /readyz reported it.
    pub(crate) ready: Duration,
}

impl Driver {
    /// Starts a driver and waits until it answers and is ready.
    pub(crate) async fn start(mode: Mode) -> Result<(Self, Started)> {
        Self::start_by(ending_with_us(Stage::path("svid-csi")), mode).await
    }

    async fn start_by(mut command: Command, mode: Mode) -> Result<(Self, Started)> {
        // The port is free at this moment; if another process takes it, the driver never becomes ready.
        let metrics = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = OpenOptions::new().create(true).append(true).open(log())?;
        let begun = Instant::now();
        let child = command
            .args(arguments(mode, metrics))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start the driver (setpriv, of util-linux)")?;
        let mut driver = Self { child, mode, metrics };
        while !driver.answers().await {
            driver.check(begun)?;
            sleep(PAUSE).await;
        }
        let answered = begun.elapsed();
        while !driver.is_ready() {
            driver.check(begun)?;
            sleep(PAUSE).await;
        }
        Ok((driver, Started { answered, ready: begun.elapsed() }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The driver's CSI socket, to which the kubelet connects.
    pub(crate) async fn plugin(&self) -> Result<Plugin> {
        Ok(Plugin::connect(&socket(self.mode)).await?)
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    async fn answers(&self) -> bool {
        Plugin::connect(&socket(self.mode)).await.is_ok()
    }

    fn is_ready(&self) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(self.metrics)?;
            stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }

    fn check(&mut self, begun: Instant) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the driver ended ({status}): {}", last_words());
        }
        ensure!(begun.elapsed() < LIMIT, "the driver does not answer: {}", last_words());
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(mode: Mode) -> PathBuf {
    Stage::path(&format!("kubelet/plugins/{}.sock", mode.name()))
}

fn arguments(mode: Mode, metrics: SocketAddr) -> Vec<String> {
    let text = |below: &str| Stage::path(below).display().to_string();
    let mut arguments: Vec<String> = vec!["driver".to_owned(), "--node-id=bench".to_owned()];
    arguments.push(format!("--endpoint={}", socket(mode).display()));
    arguments.push(format!("--metrics-address={metrics}"));
    arguments.push(format!("--kubelet-dir={}", text("kubelet")));
    arguments.push(format!("--data-root={}", text(mode.name())));
    let own = |source, delivery: &str| {
        let name = "--driver-name=bench.svid-csi --trust-domain=example.org".split(' ').map(str::to_owned);
        name.chain([format!("--source={source}"), format!("--delivery={delivery}")])
    };
    match mode {
        Mode::Passthrough => arguments
            .extend(["--profile=csi.spiffe.io".to_owned(), format!("--workload-api-socket-dir={}", text("run/agent"))]),
        Mode::Files | Mode::WorkloadApi => arguments.extend(own("local-ca", mode.name())),
        Mode::Broker => arguments.extend(own("broker", "files").chain([
            format!("--workload-api-socket-dir={}", text("spire/agent")),
            format!("--broker-socket={}", text("spire/broker/api.sock")),
        ])),
        Mode::CertManager => arguments.extend(own("cert-manager", "workload-api").chain([
            format!("--kubeconfig={}", text("kubeconfig")),
            format!("--source-ca-bundle={}", text("ca.crt")),
            "--issuer-name=spiffe-ca".to_owned(),
        ])),
    }
    arguments
}

fn log() -> PathBuf {
    Stage::path("driver.log")
}

/// The end of the driver's log.
fn last_words() -> String {
    let log = fs::read_to_string(log()).unwrap_or_default();
    let lines: Vec<_> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

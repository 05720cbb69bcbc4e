//! A program of a test: it runs on the host, logs into a file, and ends when the value is dropped.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::eventually::{SOON, eventually};

/// See the module documentation.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it; its output is appended to `log`.
    pub fn start<A: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = A>, log: &Path) -> Result<Self> {
        Self::spawn(Command::new(program).args(args), log)
    }

    /// Starts a command; its output is appended to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let output = OpenOptions::new().create(true).append(true).open(log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The output of the program and of its predecessors with the same log.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))
    }

    /// Fails, with the end of its log, if it has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = self.log()?;
            let lines: Vec<_> = log.lines().collect();
            bail!("it has ended ({status}): {}", lines[lines.len().saturating_sub(8)..].join("\n"));
        }
        Ok(())
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM, and waits until it has ended.
    pub async fn end(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("an odd process id")?;
        kill_process(pid, Signal::TERM)?;
        let child = &mut self.child;
        eventually("the program to end", SOON, async || {
            ensure!(child.try_wait()?.is_some(), "it still runs");
            Ok(())
        })
        .await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address to listen on that is currently unused.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The page at a path, if it has status 200.
pub async fn fetch(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an answer of HTTP")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{path} answers {head:?} {body:?}");
    Ok(body.to_owned())
}

/// The sum of the samples of a metric whose labels contain all of `labels`; `None` if there is no such sample.
#[must_use]
pub fn metric(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let wanted = samples.filter(|(series, _)| {
        series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label))
    });
    wanted.filter_map(|(_, value)| value.parse::<f64>().ok()).reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_the_labels_one_does_not_name() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4.5\nab 9\n";
        assert_eq!(metric(text, "a", &["x=\"1\""]), Some(7.5));
        assert_eq!(metric(text, "a", &["y=\"2\""]), Some(3.0));
        assert_eq!(metric(text, "b", &[]), None);
    }
}

//! Runs `svid-csi` in a driver's container. Its output is not trusted: it is limited, and escaped before it is printed.

use std::pin::pin;

use futures::future::try_join;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, AttachedProcess};
use svid_csi_core::quoted::one_line;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use crate::cluster::{Cluster, patiently};
use crate::drivers::DriverPod;
use crate::printing::{self, Stream};

const PROGRAM: &str = "/bin/svid-csi";
/// Of 10,000 volumes with long names. There are 50 at once.
const LONGEST: usize = 8 * 1024 * 1024;
const CHUNK: usize = 16 * 1024;
/// Between the connection and the reader.
const BUFFER: usize = 4 * CHUNK;
const HALF: &str = "the connection ended before the command did";

/// A command that has ended.
pub(crate) struct Ended {
    pub(crate) code: u8,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Ended {
    /// Why it has no answer, in its own words.
    pub(crate) fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let line = text.lines().map(|line| line.trim_start_matches("error: ")).find(|line| !line.trim().is_empty());
        match line {
            Some(line) if line.contains("unrecognized subcommand") => {
                format!("its driver is older than this command: {}", one_line(line))
            }
            Some(line) => one_line(line),
            None => format!("svid-csi ended with {} and without an answer", self.code),
        }
    }
}

/// Runs a command and returns its output.
///
/// # Errors
/// Why it did not run to its end, on one line.
pub(crate) async fn run(cluster: &Cluster, driver: &DriverPod, words: &[&str]) -> Result<Ended, String> {
    let deadline = cluster.node_deadline();
    let mut process = attach(cluster, driver, words, deadline).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = finish(&mut process, deadline, |stream, bytes| {
        let kept = match stream {
            Stream::Stdout => &mut stdout,
            Stream::Stderr => &mut stderr,
        };
        if kept.len() + bytes.len() > LONGEST {
            return Err(too_long());
        }
        kept.extend_from_slice(bytes);
        Ok(())
    })
    .await?;
    Ok(Ended { code, stdout, stderr })
}

/// Runs a command, prints its output as it comes, and returns its exit code.
///
/// # Errors
/// Why it did not run to its end, on one line.
pub(crate) async fn pass_on(cluster: &Cluster, driver: &DriverPod, words: &[&str]) -> Result<u8, String> {
    let deadline = cluster.node_deadline();
    let mut process = attach(cluster, driver, words, deadline).await?;
    let mut printed = 0;
    let print = |stream, bytes: &[u8]| {
        printed += bytes.len();
        if printed > LONGEST {
            return Err(too_long());
        }
        printing::foreign(stream, bytes).map_err(|error| error.to_string())
    };
    finish(&mut process, deadline, print).await
}

fn too_long() -> String {
    format!("the answer is longer than {} MiB", LONGEST / 1024 / 1024)
}

async fn attach(
    cluster: &Cluster,
    driver: &DriverPod,
    words: &[&str],
    deadline: Instant,
) -> Result<AttachedProcess, String> {
    let socket = driver.socket.as_ref().map_err(Clone::clone)?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &driver.namespace);
    let params = AttachParams::default()
        .container(&driver.container)
        .stdin(false)
        .stdout(true)
        .stderr(true)
        .max_stdout_buf_size(BUFFER);
    let command: Vec<_> = [PROGRAM].iter().chain(words).chain(&["--admin-socket", socket]).copied().collect();
    let attached = patiently(deadline, async || pods.exec(&driver.name, command.clone(), &params).await).await;
    // The same reason on many nodes is reported once.
    attached.map_err(|why| why.replace(&driver.name, "POD"))
}

/// Reads the output to its end. If the connection breaks, the output never ends, but there is no status.
async fn finish(
    process: &mut AttachedProcess,
    deadline: Instant,
    mut take: impl FnMut(Stream, &[u8]) -> Result<(), String>,
) -> Result<u8, String> {
    let (stdout, stderr) = (process.stdout().ok_or(HALF)?, process.stderr().ok_or(HALF)?);
    let status = process.take_status().ok_or(HALF)?;
    let take = std::cell::RefCell::new(&mut take);
    let reading = try_join(
        read(stdout, |bytes| take.borrow_mut()(Stream::Stdout, bytes)),
        read(stderr, |bytes| take.borrow_mut()(Stream::Stderr, bytes)),
    );
    let finished = async {
        let (mut reading, mut status) = (pin!(reading), pin!(status));
        // Output that has arrived is read, even if the connection breaks.
        let (status, is_read) = tokio::select! {
            biased;
            read = &mut reading => {
                read?;
                (status.await, true)
            }
            status = &mut status => (status, false),
        };
        let status = status.ok_or(HALF)?;
        if !is_read {
            reading.await?;
        }
        code(&status)
    };
    timeout_at(deadline, finished).await.map_err(|_| "the node did not answer in time".to_owned())?
}

async fn read(
    mut stream: impl AsyncRead + Unpin,
    mut take: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk).await.map_err(|error| error.to_string())? {
            0 => return Ok(()),
            read => take(&chunk[..read])?,
        }
    }
}

fn code(status: &Status) -> Result<u8, String> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let mut causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let exit = causes.find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = exit.and_then(|cause| cause.message.as_deref()?.parse().ok());
    code.ok_or_else(|| {
        format!("svid-csi cannot run in the container: {}", one_line(status.message.as_deref().unwrap_or("no reason")))
    })
}

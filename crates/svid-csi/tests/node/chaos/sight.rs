//! What a pod sees in its volume.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::pki_types::PrivateKeyDer;
use svid_csi::spiffe::svid::{Leaf, Svid};
use svid_csi::telemetry::report::rfc3339;
use tokio::time::timeout;

use super::beliefs::{names, spiffe_id};
use super::plan::Shape;
use crate::workload_api::client::Svids;

/// An identity as a pod sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) serial: String,
    /// RFC 3339.
    not_after: String,
    /// The moment of the files.
    pub(crate) moment: Option<String>,
    /// When the kernel says that their folder was made: the driver's clock may go back.
    pub(crate) made: Option<SystemTime>,
}

impl Sight {
    pub(crate) fn is_expired(&self) -> bool {
        self.not_after < rfc3339(SystemTime::now())
    }
}

/// Why it sees none that is right.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// There is nothing, or it cannot be read.
    Absent(String),
    /// There is something that no pod may ever see.
    Broken(String),
}

impl Wrong {
    pub(crate) fn text(self) -> String {
        match self {
            Wrong::Absent(text) | Wrong::Broken(text) => text,
        }
    }
}

/// What a pod sees; `None` for the agent's sockets.
pub(crate) async fn look(target: &Path, pod: usize, shape: Shape) -> Result<Option<Sight>, Wrong> {
    if shape.is_files() {
        return files(target, pod, shape).map(Some);
    }
    let socket = target.join("agent.sock");
    if shape.is_socket() {
        return through_socket(&socket, pod, shape).await.map(Some);
    }
    UnixStream::connect(socket).map(|_| None).map_err(|error| Wrong::Absent(format!("the agent's socket: {error}")))
}

/// Reads like a careful reader: all files through one resolution of `..data`, and again if it was replaced meanwhile.
pub(crate) fn files(target: &Path, pod: usize, shape: Shape) -> Result<Sight, Wrong> {
    let mut wrong = Wrong::Absent(String::new());
    for _ in 0..20 {
        let moment = fs::read_link(target.join("..data"));
        match moment.map_err(|error| Wrong::Absent(format!("..data: {error}"))).and_then(|moment| {
            let sight = generation(&target.join(&moment), pod, shape)?;
            let made = fs::metadata(target.join(&moment)).and_then(|folder| folder.created());
            let made = made.map_err(|error| Wrong::Absent(format!("..data: {error}")))?;
            Ok(Sight { moment: Some(moment.display().to_string()), made: Some(made), ..sight })
        }) {
            Ok(sight) => return Ok(sight),
            Err(Wrong::Absent(text)) => wrong = Wrong::Absent(text),
            Err(broken) => return Err(broken),
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    Err(wrong)
}

fn generation(folder: &Path, pod: usize, shape: Shape) -> Result<Sight, Wrong> {
    let copy = tempfile::tempdir().unwrap();
    for (name, usual) in names(shape).into_iter().zip(["tls.crt", "tls.key", "ca.crt"]) {
        let contents = fs::read(folder.join(name)).map_err(|error| Wrong::Absent(format!("{name}: {error}")))?;
        fs::write(copy.path().join(usual), contents).unwrap();
    }
    let svid = Svid::read(copy.path()).map_err(|error| Wrong::Broken(format!("the files: {error}")))?;
    checked(&svid, pod, shape)
}

async fn through_socket(socket: &Path, pod: usize, shape: Shape) -> Result<Sight, Wrong> {
    let absent = |error: tonic::Status| Wrong::Absent(format!("the Workload API: {error}"));
    let message = timeout(Duration::from_secs(10), async {
        Svids::open(socket).await.map_err(absent)?.next().await.map_err(absent)
    });
    let message = message.await.map_err(|_| Wrong::Absent("the Workload API: no answer".to_owned()))??;
    let Some(first) = message.svids.into_iter().next() else { return Err(Wrong::Absent("no SVID".to_owned())) };
    let svid = Svid {
        chain: vec![first.x509_svid.into()],
        key: PrivateKeyDer::try_from(first.x509_svid_key)
            .map_err(|error| Wrong::Broken(format!("the key: {error}")))?,
        bundle: vec![first.bundle.into()],
    };
    checked(&svid, pod, shape)
}

fn checked(svid: &Svid, pod: usize, shape: Shape) -> Result<Sight, Wrong> {
    svid.check_key().map_err(|error| Wrong::Broken(format!("the key is not the chain's: {error}")))?;
    let leaf = svid.leaf().map_err(|error| Wrong::Broken(error.to_string()))?;
    let wanted = spiffe_id(pod, shape);
    let Leaf { spiffe_id, serial, not_after } = leaf;
    if spiffe_id != wanted {
        return Err(Wrong::Broken(format!("the identity of {spiffe_id} in a volume of {wanted}")));
    }
    Ok(Sight { serial, not_after, moment: None, made: None })
}

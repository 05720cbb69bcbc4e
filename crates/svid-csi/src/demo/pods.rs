//! The processes in the demo's two pods: a reader of files, and a client of the Workload API.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use svid_csi_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use svid_csi_proto::workload::{X509svid, X509svidRequest, X509svidResponse};
use tonic::Streaming;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::stage::AGENT_SOCKET;
use crate::net::unix_channel;
use crate::spiffe::svid::{FILES, Leaf, Svid};
use crate::spiffe::workload_header::asking;

/// The interval at which a pod that waits for new files reads them.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A pod that reads its identity from files.
#[derive(Debug)]
pub(super) struct FilesPod {
    volume: MountedVolume,
}

/// The volume as it was at the start of the container, which does not see later mounts at the same path.
#[derive(Debug)]
struct MountedVolume(File);

/// A verified identity, with the fields of its leaf.
#[derive(Debug)]
pub(super) struct VerifiedSvid {
    pub(super) svid: Svid,
    pub(super) leaf: Leaf,
}

/// A pod that holds a stream to the agent, through the socket in its volume.
#[derive(Debug)]
pub(super) struct SocketPod {
    volume: MountedVolume,
    stream: Streaming<X509svidResponse>,
}

impl MountedVolume {
    fn open(target: &Path) -> Result<Self> {
        Ok(Self(File::open(target)?))
    }

    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl FilesPod {
    /// A pod whose volume is mounted at `target`.
    pub(super) fn open(target: &Path) -> Result<Self> {
        Ok(Self { volume: MountedVolume::open(target)? })
    }

    /// The identity in the files, verified.
    pub(super) fn read(&self) -> Result<VerifiedSvid> {
        VerifiedSvid::check(Svid::read(&self.volume.path())?)
    }

    /// The identity that follows the one with the serial number `old`.
    pub(super) async fn renewed(&self, old: &str) -> Result<VerifiedSvid> {
        loop {
            let seen = self.read()?;
            if seen.leaf.serial != old {
                return Ok(seen);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The names and modes of its files.
    pub(super) fn listing(&self) -> Result<Vec<String>> {
        let line = |name: &str| {
            let meta = std::fs::metadata(self.volume.file(name)).with_context(|| name.to_owned())?;
            Ok(format!("{name} {:04o}", meta.mode() & 0o7777))
        };
        FILES.into_iter().map(line).collect()
    }

    /// The group of its key.
    pub(super) fn group(&self) -> Result<u32> {
        Ok(std::fs::metadata(self.volume.file(FILES[1]))?.gid())
    }
}

impl SocketPod {
    /// A pod whose volume is mounted at `target`.
    pub(super) async fn open(target: &Path) -> Result<Self> {
        let volume = MountedVolume::open(target)?;
        let stream = subscribe(&volume).await?;
        Ok(Self { volume, stream })
    }

    /// Gets an identity over a new connection, like a newly started process.
    pub(super) async fn reach(&self) -> Result<VerifiedSvid> {
        next(&mut subscribe(&self.volume).await?).await
    }

    /// The next identity from the agent, verified.
    pub(super) async fn next(&mut self) -> Result<VerifiedSvid> {
        next(&mut self.stream).await
    }
}

async fn subscribe(volume: &MountedVolume) -> Result<Streaming<X509svidResponse>> {
    let mut client = SpiffeWorkloadApiClient::new(unix_channel::connect(&volume.file(AGENT_SOCKET)).await?);
    Ok(client.fetch_x509svid(asking(X509svidRequest {})).await?.into_inner())
}

async fn next(stream: &mut Streaming<X509svidResponse>) -> Result<VerifiedSvid> {
    let message = stream.message().await?.context("the agent closed the stream")?;
    let svid = message.svids.into_iter().next().context("the agent sent no SVID")?;
    VerifiedSvid::check(from_wire(svid)?)
}

impl VerifiedSvid {
    /// The key must belong to the leaf, and the chain must lead to the bundle.
    fn check(svid: Svid) -> Result<Self> {
        svid.check_key()?;
        svid.check_chain()?;
        Ok(Self { leaf: svid.leaf()?, svid })
    }
}

fn from_wire(svid: X509svid) -> Result<Svid> {
    let key = PrivateKeyDer::try_from(svid.x509_svid_key).map_err(|_| anyhow!("the key is not DER"))?;
    Ok(Svid { chain: split(&svid.x509_svid)?, key, bundle: split(&svid.bundle)? })
}

/// Certificates are concatenated without separators (Workload API, section 5.2).
fn split(mut der: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der).context("not a certificate")?;
        certificates.push(CertificateDer::from(der[..der.len() - rest.len()].to_vec()));
        der = rest;
    }
    ensure!(!certificates.is_empty(), "no certificate");
    Ok(certificates)
}

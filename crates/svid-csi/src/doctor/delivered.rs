//! An identity as a pod finds it: in files, or over the volume's socket.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use svid_csi_core::files::MAX_VOLUME_BYTES;
use svid_csi_core::findings::facts::{Delivered, FileFacts, VolumeFacts};
use svid_csi_core::quoted::Quoted;
use svid_csi_core::x509_context::split;
use svid_csi_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use svid_csi_proto::workload::{X509svid, X509svidRequest};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::paths::Paths;
use super::sockets::Reachable;
use crate::host::beneath::Folder;
use crate::host::fsx::FsError;
use crate::net::unix_channel;
use crate::spiffe::svid::Svid;
use crate::spiffe::workload_header::asking;
use crate::spiffe::x509_message::MOST_BYTES;
use crate::telemetry::report;

/// The link to the current files.
const CURRENT: &str = "..data";
const PATIENCE: Duration = Duration::from_secs(5);

/// The facts about the identity in a volume's files.
pub(super) fn files(target: &Path, names: &FileFacts) -> Result<Delivered, String> {
    let (svid, mode) = read(target, names)?;
    let open_to_all = if mode & 0o007 == 0 { Vec::new() } else { vec![names.key.clone()] };
    Ok(Delivered { open_to_all, ..seen(&svid)? })
}

/// The identity of a volume, as its pod finds it.
pub(super) async fn svid(volume: &VolumeFacts, paths: &Paths) -> Result<Svid, String> {
    let target = paths.of_driver(&volume.target);
    match (&volume.files, volume.sockets.first()) {
        (Some(names), _) => read(&target, names).map(|(svid, _)| svid),
        (None, Some(socket)) => svid_on_socket(&target.join(socket)).await,
        (None, None) => {
            Err("its volume holds the agent's sockets, or files in a layout without a certificate of its own"
                .to_owned())
        }
    }
}

/// Reads the files through one resolution of `..data`, so that they belong together, and the mode of the key. The pod may
/// have changed the folder.
fn read(target: &Path, names: &FileFacts) -> Result<(Svid, u32), String> {
    let said = |error: FsError| report::chain(&error);
    let volume = Folder::open(target, false).map_err(said)?;
    let folder = match volume.link(CURRENT).map_err(said)? {
        Some(moment) => volume.folder(moment).map_err(said)?,
        None => volume,
    };
    let read = |name: &String| {
        let contents = folder.read(name, MAX_VOLUME_BYTES as u64);
        contents.map_err(|error| format!("{name} cannot be read: {}", report::chain(&error)))
    };
    let parse = |name: &String, pem: &[u8]| {
        let found: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(pem).collect();
        found.map_err(|_| format!("{name} is not PEM text with certificates"))
    };
    let FileFacts { certificate, key, bundle } = names;
    let chain = parse(certificate, &read(certificate)?)?;
    let private =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| format!("{key} is not PEM text with a key"))?;
    // Without a configured trust bundle there is none.
    let bundle = match bundle {
        Some(name) if folder.stat(name).map_err(said)?.is_some() => parse(name, &read(name)?)?,
        _ => Vec::new(),
    };
    let mode = folder.stat(key).map_err(said)?.map_or(0, |stat| stat.st_mode);
    Ok((Svid { chain, key: private, bundle }, mode))
}

/// The facts about the identity on a volume's socket.
pub(super) async fn socket(socket: &Path) -> Result<Delivered, String> {
    seen(&svid_on_socket(socket).await?)
}

/// Asks the volume's socket, as its pod does.
async fn svid_on_socket(socket: &Path) -> Result<Svid, String> {
    let reachable = Reachable::of(socket).map_err(|answer| answer.to_string())?;
    let asked = tokio::time::timeout(PATIENCE, async {
        let channel = unix_channel::connect(&reachable.path()).await.map_err(|error| report::chain(&error))?;
        let mut client = SpiffeWorkloadApiClient::new(channel).max_decoding_message_size(MOST_BYTES);
        let failed = |status: tonic::Status| format!("{:?}: {}", status.code(), Quoted::new(status.message()));
        let mut stream = client.fetch_x509svid(asking(X509svidRequest {})).await.map_err(failed)?.into_inner();
        let message = stream.message().await.map_err(failed)?.ok_or("the socket was closed")?;
        let first = message.svids.into_iter().next().ok_or("the response holds no identity")?;
        served(first)
    });
    asked.await.map_err(|_| format!("no response within {} seconds", PATIENCE.as_secs()))?
}

fn served(svid: X509svid) -> Result<Svid, String> {
    let certificates = |der: &[u8]| split(der).map_err(|error| report::chain(&error));
    let (chain, bundle) = (certificates(&svid.x509_svid)?, certificates(&svid.bundle)?);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(svid.x509_svid_key));
    Ok(Svid { chain, key, bundle })
}

fn seen(svid: &Svid) -> Result<Delivered, String> {
    let leaf = svid.leaf().map_err(|error| report::chain(&error))?;
    let end = |der: &CertificateDer<'_>| {
        X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate.validity().not_after.timestamp())
    };
    Ok(Delivered {
        spiffe_id: leaf.spiffe_id,
        serial: leaf.serial,
        key: svid.check_key().err().map(|error| report::chain(&error)),
        bundle: svid.bundle.iter().filter_map(end).collect(),
        open_to_all: Vec::new(),
    })
}

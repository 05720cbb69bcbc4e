//! The sockets between kubelet and driver, asked as the kubelet asks them.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use svid_csi_core::findings::facts::{Answer, DriverFacts};
use svid_csi_core::quoted::Quoted;
use svid_csi_proto::csi_v1::GetPluginInfoRequest;
use svid_csi_proto::csi_v1::identity_client::IdentityClient;
use svid_csi_proto::pluginregistration_v1::InfoRequest;
use svid_csi_proto::pluginregistration_v1::registration_client::RegistrationClient;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::paths::Paths;
use crate::host::fsx;
use crate::net::unix_channel;
use crate::telemetry::report;

const PATIENCE: Duration = Duration::from_secs(2);

/// A socket by a path that is short enough for connect(2), which takes 107 bytes: the paths of volumes are longer. No link
/// is followed, because a pod may have put one there.
pub(super) struct Reachable {
    handle: OwnedFd,
}

impl Reachable {
    /// # Errors
    /// The reason why nothing can answer there.
    pub(super) fn of(socket: &Path) -> Result<Self, Answer> {
        let unknown =
            |why: &dyn std::fmt::Display| Answer::Unknown(format!("{} cannot be reached: {why}", socket.display()));
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::open(socket, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(Answer::Missing),
            opened => opened.map_err(|errno| unknown(&errno))?,
        };
        let kind = rustix::fs::fstat(&handle).map_err(|errno| unknown(&errno))?.st_mode;
        match FileType::from_raw_mode(kind) {
            FileType::Socket => Ok(Self { handle }),
            _ => Err(unknown(&"it is not a socket")),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.handle.as_raw_fd().to_string())
    }
}

/// What answers on the CSI socket of each driver name.
pub(super) async fn csi(driver: &DriverFacts, paths: &Paths) -> BTreeMap<String, Answer> {
    let asked = driver.names.iter().map(async |name| {
        let answer = plugin(&paths.of_driver(&name.csi_socket)).await;
        (name.name.clone(), answer)
    });
    join_all(asked).await.into_iter().collect()
}

/// What answers on the path that the kubelet was given for each driver name, as far as that can be seen from here.
pub(super) async fn announced(driver: &DriverFacts, paths: &Paths) -> BTreeMap<String, Answer> {
    let announced = driver.names.iter().filter_map(|name| Some((name, name.registration_path.as_ref()?)));
    let asked = announced.map(async |(name, path)| {
        let path = paths.of_driver(path);
        let answer = match path.parent().map_or(Ok(true), fsx::exists) {
            Ok(true) => plugin(&path).await,
            Ok(false) => {
                Answer::Unknown("its folder cannot be seen from here; run this command on the host".to_owned())
            }
            Err(error) => Answer::Unknown(report::chain(&error)),
        };
        (name.name.clone(), answer)
    });
    join_all(asked).await.into_iter().collect()
}

/// What answers on every socket in the folders in which the driver registers.
pub(super) async fn registrations(driver: &DriverFacts, paths: &Paths) -> BTreeMap<String, Answer> {
    let own: Vec<_> = driver.names.iter().filter_map(|name| name.registration_socket.clone()).collect();
    let folders: Vec<_> = own.iter().filter_map(|socket| Path::new(socket).parent().map(Path::to_owned)).collect();
    ask_all(own, &folders, paths).await
}

/// What answers on every socket in these registration folders.
pub(super) async fn in_folders(folders: &[PathBuf], paths: &Paths) -> BTreeMap<String, Answer> {
    ask_all(Vec::new(), folders, paths).await
}

async fn ask_all(mut sockets: Vec<String>, folders: &[PathBuf], paths: &Paths) -> BTreeMap<String, Answer> {
    for folder in folders {
        let entries = fs::read_dir(paths.of_driver(&folder.to_string_lossy())).into_iter().flatten().flatten();
        let found = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
        sockets.extend(found.map(|entry| folder.join(entry.file_name()).to_string_lossy().into_owned()));
    }
    sockets.sort_unstable();
    sockets.dedup();
    let asked = sockets.into_iter().map(async |socket| {
        let answer = registration(&paths.of_driver(&socket)).await;
        (socket, answer)
    });
    join_all(asked).await.into_iter().collect()
}

async fn plugin(socket: &Path) -> Answer {
    answer(socket, async |channel| {
        let info = IdentityClient::new(channel).get_plugin_info(GetPluginInfoRequest {}).await?;
        Ok(info.into_inner().name)
    })
    .await
}

async fn registration(socket: &Path) -> Answer {
    answer(socket, async |channel| {
        let info = RegistrationClient::new(channel).get_info(InfoRequest {}).await?.into_inner();
        match info.r#type.as_str() {
            "CSIPlugin" => Ok(info.name),
            _ => Err(Status::new(Code::Unimplemented, "it registers another kind of plugin")),
        }
    })
    .await
}

async fn answer(socket: &Path, name: impl AsyncFnOnce(Channel) -> Result<String, Status>) -> Answer {
    let reachable = match connect(socket).await {
        Ok(reachable) => reachable,
        Err(answer) => return answer,
    };
    let asked = async {
        let connected = unix_channel::connect(&reachable.path()).await;
        name(connected.map_err(|_| Status::unavailable("the connection was closed"))?).await
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(name)) => Answer::Driver(name),
        Ok(Err(status)) => Answer::Wrong(format!("{:?}: {}", status.code(), Quoted::new(status.message()))),
        Err(_) => Answer::Wrong(format!("no response within {} seconds", PATIENCE.as_secs())),
    }
}

/// Reaches a socket on which a process is listening.
pub(super) async fn connect(socket: &Path) -> Result<Reachable, Answer> {
    let reachable = Reachable::of(socket)?;
    match tokio::time::timeout(PATIENCE, UnixStream::connect(reachable.path())).await {
        Ok(Ok(_)) => Ok(reachable),
        Ok(Err(error)) => Err(match error.kind() {
            ErrorKind::NotFound => Answer::Missing,
            ErrorKind::ConnectionRefused => Answer::Refused,
            // Its backlog is full.
            ErrorKind::WouldBlock => return Ok(reachable),
            _ => Answer::Unknown(format!("{} cannot be reached: {error}", socket.display())),
        }),
        Err(_) => Err(Answer::Wrong(format!("no connection within {} seconds", PATIENCE.as_secs()))),
    }
}

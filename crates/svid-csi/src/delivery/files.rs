//! Delivery `files`: a folder on the data tmpfs, swapped as a whole.
//!
//! Laid out as the kubelet lays out its own projected volumes: visible names are links through `..data`, which is a link
//! to a folder of this moment. Replacing that one link changes certificate, key and bundle together.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use svid_csi_core::files::{FILE_MODE, FOLDER_MODE, FileName, FileNames, RenderedFile};
use svid_csi_core::state::FileId;
use svid_csi_core::volume_id::VolumeId;

use super::views;
use crate::data_root::DataRoot;
use crate::fsx::{self, FsError};
use crate::mount::{self, MountError, MountPoint, MountSource};

const CURRENT: &str = "..data";
const NEXT: &str = "..data_tmp";

/// The folders of all `files` volumes.
#[derive(Debug)]
pub struct Files {
    folders: PathBuf,
    read_only: PathBuf,
}

impl Files {
    /// Prepares the read-only view that volumes are mounted from.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn open(data: &DataRoot) -> Result<Self, MountError> {
        let read_only = data.tmpfs().join("read-only");
        let folders = data.volumes();
        views::ensure(&MountSource::open(&folders)?, &read_only, true)?;
        Ok(Files { folders, read_only })
    }

    /// The identity of the volume's folder, when it is there.
    pub fn root(&self, id: &VolumeId) -> Option<FileId> {
        mount::file_id_of(&self.folder(id))
    }

    /// Makes the volume's folder and tells its identity.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn prepare(&self, id: &VolumeId) -> Result<Option<FileId>, FsError> {
        let folder = self.folder(id);
        fsx::ensure_dir(&folder, FOLDER_MODE)?;
        Ok(mount::file_id_of(&folder))
    }

    /// What is mounted into the pod: the volume's folder, read-only.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn source(&self, id: &VolumeId) -> Result<MountSource, MountError> {
        MountSource::open(&self.read_only.join(id.as_str()))
    }

    /// Replaces what the volume shows. Readers see the old files or the new ones, never a mix.
    ///
    /// # Errors
    /// [`FsError`]; the volume then shows what it showed before.
    pub fn install(
        &self,
        id: &VolumeId,
        files: &[RenderedFile],
        group: Option<u32>,
        now: SystemTime,
    ) -> Result<(), FsError> {
        let folder = self.folder(id);
        fsx::ensure_dir(&folder, FOLDER_MODE)?;
        give(&folder, group)?;
        let moment = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = format!("..{}.{:09}", moment.as_secs(), moment.subsec_nanos());
        let written = write_folder(&folder.join(&name), files, group)
            .and_then(|()| link_names(&folder, files))
            .and_then(|()| swap(&folder, &name));
        let stale = if written.is_ok() { tidy(&folder, &name, files) } else { remove_folder(&folder.join(&name)) };
        written.and(stale)
    }

    /// The certificate and the key that the volume shows, as they were installed.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn shown(&self, id: &VolumeId, names: &FileNames) -> Result<Vec<RenderedFile>, FsError> {
        let current = self.folder(id).join(CURRENT);
        let read = |name: &FileName| {
            let path = current.join(name.as_str());
            let contents = fs::read(&path).map_err(FsError::of("read", &path))?.into();
            Ok(RenderedFile { name: name.clone(), contents })
        };
        [&names.cert, &names.key].into_iter().map(read).collect()
    }

    /// Removes the folders of volumes that `is_known` does not know: a crash left them before anything was in them.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn keep_only(&self, is_known: impl Fn(&VolumeId) -> bool) -> Result<(), FsError> {
        for entry in fs::read_dir(&self.folders).map_err(FsError::of("list", &self.folders))? {
            let path = entry.map_err(FsError::of("list", &self.folders))?.path();
            let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| VolumeId::parse(name).ok());
            if !id.is_some_and(|id| is_known(&id)) && !mount::is_mount_root(&path) {
                remove_folder(&path)?;
            }
        }
        Ok(())
    }

    /// Makes the data behind a mounted target reachable again after the driver's own mount of it was lost.
    ///
    /// A volume's tmpfs lives on behind its target. The target is a read-only mount, and so is the clone of it, until it
    /// is made writable here: at every start again, because a mount that came with the namespace has its old flags.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn reach(&self, id: &VolumeId, point: &MountPoint) -> Result<(), MountError> {
        let folder = self.folder(id);
        fsx::ensure_dir(&folder, FOLDER_MODE)?;
        let source = point.source()?;
        if self.root(id) != Some(source.id()) {
            source.attach_at(&folder)?;
        }
        if mount::is_mount_root(&folder) { mount::remount(&folder, false) } else { Ok(()) }
    }

    /// Ends what [`Files::reach`] began, for a volume that is no longer mounted.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn let_go(&self, id: &VolumeId) -> Result<(), MountError> {
        let folder = self.folder(id);
        if mount::is_mount_root(&folder) { mount::unmount(&folder) } else { Ok(()) }
    }

    /// Removes the volume's folder and all that is in it.
    ///
    /// # Errors
    /// [`MountError`] or the file system's.
    pub fn remove(&self, id: &VolumeId) -> Result<(), MountError> {
        let folder = self.folder(id);
        let failed = |source| MountError::System { action: "remove", path: folder.clone(), source };
        if mount::is_mount_root(&folder) {
            mount::remount(&folder, false)?;
            clear(&folder).map_err(failed)?;
            self.let_go(id)?;
        }
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    fn folder(&self, id: &VolumeId) -> PathBuf {
        self.folders.join(id.as_str())
    }
}

fn give(path: &Path, group: Option<u32>) -> Result<(), FsError> {
    group.map_or(Ok(()), |group| chown(path, None, Some(group)).map_err(FsError::of("give to the fs-group", path)))
}

fn write_folder(folder: &Path, files: &[RenderedFile], group: Option<u32>) -> Result<(), FsError> {
    remove_folder(folder)?;
    fs::DirBuilder::new().mode(FOLDER_MODE).create(folder).map_err(FsError::of("create the folder", folder))?;
    give(folder, group)?;
    for file in files {
        let path = folder.join(file.name.as_str());
        fsx::write_new(&path, &file.contents, FILE_MODE)?;
        give(&path, group)?;
    }
    Ok(())
}

/// Points `..data` at the new folder. The last thing that may fail: a folder that is shown is never taken back.
fn swap(folder: &Path, name: &str) -> Result<(), FsError> {
    let next = folder.join(NEXT);
    fsx::remove_file(&next)?;
    symlink(name, &next).map_err(FsError::of("link", &next))?;
    let current = folder.join(CURRENT);
    fs::rename(&next, &current).map_err(FsError::of("swap", &current))
}

/// Makes sure that every visible name leads through `..data`.
fn link_names(folder: &Path, files: &[RenderedFile]) -> Result<(), FsError> {
    for file in files {
        let visible = folder.join(file.name.as_str());
        if fs::symlink_metadata(&visible).is_err() {
            let through = Path::new(CURRENT).join(file.name.as_str());
            symlink(through, &visible).map_err(FsError::of("link", &visible))?;
        }
    }
    Ok(())
}

/// Removes what earlier moments left: their folders, and names that are no longer written.
fn tidy(folder: &Path, name: &str, files: &[RenderedFile]) -> Result<(), FsError> {
    for entry in fs::read_dir(folder).map_err(FsError::of("list", folder))? {
        let path = entry.map_err(FsError::of("list", folder))?.path();
        let entry = path.file_name().and_then(|entry| entry.to_str()).unwrap_or_default();
        let kept = entry == name || entry == CURRENT || files.iter().any(|file| file.name.as_str() == entry);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !kept && metadata.is_dir() => remove_folder(&path)?,
            Ok(_) if !kept => fsx::remove_file(&path)?,
            _ => {}
        }
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<(), FsError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FsError::of("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// Empties a folder that cannot be removed because it is a mount root: the keys must not linger behind it.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if fs::symlink_metadata(&path)?.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
    }
    Ok(())
}

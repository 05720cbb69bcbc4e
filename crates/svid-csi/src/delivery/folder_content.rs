//! The content of a volume's folder, read without trusting it.

use std::ffi::{OsStr, OsString};

use rustix::fs::FileType;
use svid_csi_core::files::{FILE_MODE, FileName, MAX_VOLUME_BYTES, RenderedFile};
use svid_csi_core::quoted::Quoted;

use super::files::{CURRENT, NEXT, is_moment};
use super::volume_folder::VolumeFolder;
use crate::host::beneath::Folder;
use crate::host::fsx::FsError;
use crate::host::seal;

/// The content of a volume's folder with delivery `files`.
#[derive(Debug)]
pub enum FolderContent {
    /// Nothing was delivered.
    Nothing,
    /// The delivered files.
    Files(DeliveredFiles),
    /// Something other than the driver has changed it in this way, so nothing in it can be trusted.
    Changed(String),
}

/// The target of `..data`, and the names in it.
#[derive(Debug)]
pub struct DeliveredFiles {
    folder: Folder,
    names: Vec<OsString>,
}

/// Inspects a volume's folder. If volumes are sealed, a file without a seal was changed.
///
/// # Errors
/// [`FsError`] if that cannot be determined.
pub fn look(volume: &VolumeFolder) -> Result<FolderContent, FsError> {
    looked_at(volume, volume.seen().seals())
}

/// Inspects the folder at startup and seals it, because an earlier version or a kill may have left it unsealed.
///
/// # Errors
/// [`FsError`].
pub fn look_and_seal(volume: &VolumeFolder) -> Result<FolderContent, FsError> {
    let content = looked_at(volume, false)?;
    if let FolderContent::Files(delivered) = &content {
        delivered.names.iter().try_for_each(|name| delivered.folder.seal_file(name))?;
        delivered.folder.seal()?;
        volume.seen().seal()?;
    }
    Ok(content)
}

fn looked_at(volume: &VolumeFolder, sealed: bool) -> Result<FolderContent, FsError> {
    let folder = volume.seen();
    if folder.stat(CURRENT)?.is_none() {
        return Ok(FolderContent::Nothing);
    }
    let changed = |what: String| Ok(FolderContent::Changed(what));
    let Some(name) = folder.link(CURRENT)?.filter(|name| is_moment(name)) else {
        return changed(format!("{CURRENT} is not a link to the delivered files"));
    };
    if !has_type(folder, &name, FileType::Directory)? {
        return changed(format!("{CURRENT} is a broken link"));
    }
    let delivered = folder.folder(&name)?;
    let delivered = DeliveredFiles { names: delivered.names()?, folder: delivered };
    for name in &delivered.names {
        if !delivered.holds(name, sealed)? {
            return changed(format!("{} is not a delivered file", Quoted::new(name.as_encoded_bytes())));
        }
        if !leads_through(folder, name)? {
            return changed(format!("{} is not a link to its file", Quoted::new(name.as_encoded_bytes())));
        }
    }
    let is_own = |name: &OsString| name == CURRENT || name == NEXT || is_moment(name) || delivered.names.contains(name);
    for name in folder.names()? {
        // A kill between creating the names and the files leaves a name that leads to nothing.
        if !is_own(&name) && !leads_through(folder, &name)? {
            return changed(format!("{} was added", Quoted::new(name.as_encoded_bytes())));
        }
    }
    if sealed && !(folder.is_sealed()? && delivered.folder.is_sealed()?) {
        return changed("its seal was removed".to_owned());
    }
    Ok(FolderContent::Files(delivered))
}

impl DeliveredFiles {
    /// The contents of the delivered files.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn files(&self) -> Result<Vec<RenderedFile>, FsError> {
        let named = self.names.iter().filter_map(|name| FileName::parse(name.to_str()?).ok());
        let read = |name: FileName| {
            let contents = self.folder.read(name.as_str(), MAX_VOLUME_BYTES as u64)?;
            Ok(RenderedFile { name, contents })
        };
        named.map(read).collect()
    }

    /// Whether it has the properties of a delivered file.
    fn holds(&self, name: &OsStr, sealed: bool) -> Result<bool, FsError> {
        let Some(stat) = self.folder.stat(name)? else { return Ok(false) };
        let as_delivered = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && (stat.st_nlink, stat.st_uid, stat.st_mode & 0o7777) == (1, 0, FILE_MODE);
        if !as_delivered || !sealed {
            return Ok(as_delivered);
        }
        let file = self.folder.file(name)?;
        seal::is_sealed(file).map_err(FsError::of("inspect", &self.folder.shown_path().join(name)))
    }
}

fn leads_through(folder: &Folder, name: &OsStr) -> Result<bool, FsError> {
    let mut through = OsString::from(CURRENT);
    through.push("/");
    through.push(name);
    Ok(folder.link(name)? == Some(through))
}

fn has_type(folder: &Folder, name: &OsStr, wanted: FileType) -> Result<bool, FsError> {
    Ok(folder.stat(name)?.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == wanted))
}

//! The records of the volumes, one file each.

use std::fs;
use std::path::{Path, PathBuf};

use svid_csi_core::state::{Record, RecordError};
use svid_csi_core::volume_id::VolumeId;

use crate::host::fsx::{self, FsError};

/// The folder of the records. Without one, they exist only in this process.
#[derive(Debug)]
pub struct Store {
    folder: Option<PathBuf>,
}

/// The content of a record's file.
pub type Loaded = (VolumeId, Result<Record, Unreadable>);

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Its file cannot be read.
    #[error(transparent)]
    File(#[from] FsError),
    /// It belongs to another volume.
    #[error("the record belongs to the volume {0}, but its file has another name")]
    Misnamed(VolumeId),
    /// Its contents are not a record.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Store {
    /// A store in `folder`, which exists, or in memory only.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Store { folder }
    }

    /// Writes the record of a volume, and replaces an earlier one atomically.
    ///
    /// # Errors
    /// [`FsError`]; the earlier record is then unchanged.
    pub fn put(&self, record: &Record) -> Result<(), FsError> {
        self.path(&record.spec.id).map_or(Ok(()), |path| fsx::write_atomic(&path, &record.to_json(), 0o600))
    }

    /// Removes the record of a volume.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn remove(&self, id: &VolumeId) -> Result<(), FsError> {
        self.path(id).map_or(Ok(()), |path| fsx::remove_file(&path))
    }

    /// Reads all records; unreadable ones are returned beside the others.
    ///
    /// # Errors
    /// [`FsError`] if the folder or a file cannot be read at all.
    pub fn load(&self) -> Result<Vec<Loaded>, FsError> {
        self.folder.as_deref().map_or(Ok(Vec::new()), load)
    }

    /// Reads the record of one volume; `None` if there is none.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn get(&self, id: &VolumeId) -> Result<Option<Record>, Unreadable> {
        match self.path(id) {
            Some(path) if fsx::exists(&path)? => read(id, &path).map(Some),
            _ => Ok(None),
        }
    }

    /// Moves the records of an earlier run from `folder`, which may be missing, including unreadable ones.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn take_over(&self, folder: &Path) -> Result<(), FsError> {
        if !fsx::exists(folder)? {
            return Ok(());
        }
        for (id, old) in files(folder)? {
            let record = fs::read(&old).map_err(FsError::of("read", &old))?;
            if let Some(new) = self.path(&id)
                && !fsx::exists(&new)?
            {
                fsx::write_atomic(&new, &record, 0o600)?;
            }
            fsx::remove_file(&old)?;
        }
        Ok(())
    }

    fn path(&self, id: &VolumeId) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(file_name(id)))
    }
}

fn file_name(id: &VolumeId) -> String {
    format!("{id}.json")
}

fn load(folder: &Path) -> Result<Vec<Loaded>, FsError> {
    let read = |(id, path): (VolumeId, PathBuf)| {
        let record = read(&id, &path);
        (id, record)
    };
    Ok(files(folder)?.into_iter().map(read).collect())
}

fn read(id: &VolumeId, path: &Path) -> Result<Record, Unreadable> {
    let record = Record::from_json(&fs::read(path).map_err(FsError::of("read", path))?)?;
    if record.spec.id == *id { Ok(record) } else { Err(Unreadable::Misnamed(record.spec.id.clone())) }
}

/// The files of records, by volume id. Removes incomplete files that a crash left.
fn files(folder: &Path) -> Result<Vec<(VolumeId, PathBuf)>, FsError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(FsError::of("list", folder))? {
        let path = entry.map_err(FsError::of("list", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') {
            // It is not a record; if it cannot be removed, it does no harm.
            let _ = fsx::remove_file(&path);
        } else if let Some(id) = name.strip_suffix(".json").and_then(|id| VolumeId::parse(id).ok()) {
            files.push((id, path));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use svid_csi_core::target::TargetPath;
    use svid_csi_core::volume::{Content, VolumeSpec};

    use super::*;

    #[test]
    fn a_record_under_another_volumes_name_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(Some(folder.path().to_owned()));
        let spec = VolumeSpec {
            id: VolumeId::parse("csi-1").unwrap(),
            target: TargetPath::parse("/pods/u/volumes/kubernetes.io~csi/v/mount").unwrap(),
            read_only: true,
            pod: None,
            content: Content::Passthrough,
        };
        store.put(&Record::intended("csi.spiffe.io", spec.into(), None)).unwrap();
        fs::copy(folder.path().join("csi-1.json"), folder.path().join("csi-2.json")).unwrap();
        let read: Vec<_> = store.load().unwrap();
        let good = |name: &str| read.iter().any(|(id, record)| id.as_str() == name && record.is_ok());
        assert_eq!((good("csi-1"), good("csi-2"), read.len()), (true, false, 2));
    }
}

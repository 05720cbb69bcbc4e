//! The records of the volumes, one file each.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use svid_csi_core::state::{Record, RecordError};
use svid_csi_core::volume_id::VolumeId;

use crate::host::fsx::{self, FsError};

/// The folder of the records. Without one, they exist only in this process.
#[derive(Debug)]
pub struct Store {
    folder: Option<PathBuf>,
    /// Records of an earlier run that could not be moved yet.
    unmoved: Mutex<HashMap<VolumeId, PathBuf>>,
    /// Volumes whose records [`Store::load`] found but could not read.
    unread: Mutex<HashSet<VolumeId>>,
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
        Store { folder, unmoved: Mutex::default(), unread: Mutex::default() }
    }

    /// Moves the records of an earlier run from `folder`, which may be missing, including unreadable ones. A move
    /// that fails is retried when its volume is needed.
    ///
    /// # Errors
    /// [`FsError`] if they cannot be listed.
    pub fn take_over(&self, folder: &Path) -> Result<(), FsError> {
        if !fsx::exists(folder)? {
            return Ok(());
        }
        *self.unmoved() = files(folder)?.into_iter().collect();
        let ids: Vec<_> = self.unmoved().keys().cloned().collect();
        for id in ids {
            // Loading the records reports it.
            let _ = self.move_record(&id);
        }
        Ok(())
    }

    /// The path of another file that is kept like the records.
    pub fn beside(&self, name: &str) -> Option<PathBuf> {
        self.folder.as_deref().map(|folder| folder.with_file_name(name))
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
        let mut unmoved = self.unmoved();
        // First, because it would be read again once the other is gone.
        if let Some(path) = unmoved.get(id) {
            fsx::remove_file(path)?;
            unmoved.remove(id);
        }
        self.path(id).map_or(Ok(()), |path| fsx::remove_file(&path))
    }

    /// Reads all records; unreadable ones are returned beside the others.
    ///
    /// # Errors
    /// [`FsError`] if the folder cannot be read at all.
    pub fn load(&self) -> Result<Vec<Loaded>, FsError> {
        let mut loaded = self.folder.as_deref().map_or(Ok(Vec::new()), load)?;
        let mut unmoved: Vec<_> = self.unmoved().keys().cloned().collect();
        unmoved.retain(|id| loaded.iter().all(|(moved, _)| moved != id));
        for id in unmoved {
            let record = self.get(&id).transpose();
            loaded.extend(record.map(|record| (id, record)));
        }
        let unread = loaded.iter().filter(|(_, record)| record.is_err()).map(|(id, _)| id.clone());
        *self.unread() = unread.collect();
        Ok(loaded)
    }

    /// Whether a volume may have a record that is not in memory. [`Store::load`] has read all others, or this process has
    /// written them.
    pub fn may_have_unread(&self, id: &VolumeId) -> bool {
        self.unread().contains(id)
    }

    /// The volumes whose records could not be read.
    pub fn all_unread(&self) -> Vec<VolumeId> {
        self.unread().iter().cloned().collect()
    }

    /// The record of that volume, or that it has none, is in memory from now on. Returns whether it was not before.
    pub fn was_read(&self, id: &VolumeId) -> bool {
        self.unread().remove(id)
    }

    /// Reads the record of one volume; `None` if there is none.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn get(&self, id: &VolumeId) -> Result<Option<Record>, Unreadable> {
        self.move_record(id)?;
        match self.path(id) {
            Some(path) if fsx::exists(&path)? => read(id, &path).map(Some),
            _ => Ok(None),
        }
    }

    /// Moves a record of an earlier run, if it is not moved yet; a newer one stays.
    fn move_record(&self, id: &VolumeId) -> Result<(), FsError> {
        let mut unmoved = self.unmoved();
        let (Some(old), Some(new)) = (unmoved.get(id), self.path(id)) else { return Ok(()) };
        if !fsx::exists(&new)? {
            let record = match fs::read(old) {
                // An administrator has deleted it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    unmoved.remove(id);
                    return Ok(());
                }
                read => read.map_err(FsError::of("read", old))?,
            };
            fsx::write_atomic(&new, &record, 0o600)?;
        }
        // The new one counts; what stays of the old one goes with it.
        if fsx::remove_file(old).is_ok() {
            unmoved.remove(id);
        }
        Ok(())
    }

    fn unmoved(&self) -> MutexGuard<'_, HashMap<VolumeId, PathBuf>> {
        self.unmoved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unread(&self) -> MutexGuard<'_, HashSet<VolumeId>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn spec(id: &str) -> VolumeSpec {
        VolumeSpec {
            id: VolumeId::parse(id).unwrap(),
            target: TargetPath::parse("/pods/u/volumes/kubernetes.io~csi/v/mount").unwrap(),
            read_only: true,
            pod: None,
            content: Content::Passthrough,
        }
    }

    #[test]
    fn a_record_under_another_volumes_name_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(Some(folder.path().to_owned()));
        store.put(&Record::intended("csi.spiffe.io", spec("csi-1").into(), None)).unwrap();
        fs::copy(folder.path().join("csi-1.json"), folder.path().join("csi-2.json")).unwrap();
        let read: Vec<_> = store.load().unwrap();
        let good = |name: &str| read.iter().any(|(id, record)| id.as_str() == name && record.is_ok());
        assert_eq!((good("csi-1"), good("csi-2"), read.len()), (true, false, 2));
    }

    #[test]
    fn a_former_record_that_cannot_be_read_is_left_alone_and_does_not_stop_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let (records, former) = (folder.path().join("records"), folder.path().join("former"));
        for folder in [&records, &former] {
            fs::create_dir(folder).unwrap();
        }
        let record = |id: &str| Record::intended("csi.spiffe.io", spec(id).into(), None);
        let earlier = Store::new(Some(former.clone()));
        earlier.put(&record("csi-1")).unwrap();
        // A folder cannot be read as a file.
        fs::create_dir(former.join("csi-2.json")).unwrap();
        let store = Store::new(Some(records));
        store.take_over(&former).unwrap();
        let (one, two) = (VolumeId::parse("csi-1").unwrap(), VolumeId::parse("csi-2").unwrap());
        let loaded: HashMap<_, _> = store.load().unwrap().into_iter().collect();
        assert!(loaded[&one].is_ok() && matches!(loaded[&two], Err(Unreadable::File(_))));
        assert!(matches!(store.get(&two), Err(Unreadable::File(_))), "not knowing is never no");
        fs::remove_dir(former.join("csi-2.json")).unwrap();
        earlier.put(&record("csi-2")).unwrap();
        assert!(store.get(&two).unwrap().is_some());
        store.remove(&two).unwrap();
        assert!(store.get(&two).unwrap().is_none() && fs::read_dir(former).unwrap().next().is_none());
    }
}

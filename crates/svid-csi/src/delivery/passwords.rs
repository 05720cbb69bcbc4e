//! The passwords that pods chose for their PKCS#12 files, stored on the data tmpfs, out of reach of pods. The kubelet
//! sends them with a publish; renewals also need them, even after a restart of the driver.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use svid_csi_core::pkcs12::Password;
use svid_csi_core::secret::Secret;
use svid_csi_core::volume_id::VolumeId;

use crate::host::data_root::DataRoot;
use crate::host::fsx::{self, FsError};

/// The passwords of all volumes.
#[derive(Debug)]
pub struct Passwords {
    folder: PathBuf,
}

impl Passwords {
    /// Those on the data tmpfs. The folder is created with the first password, because a full tmpfs must not prevent
    /// the driver from starting.
    pub fn of(data: &DataRoot) -> Self {
        Passwords { folder: data.tmpfs().join("passwords") }
    }

    /// Whether it differs from the stored password of the volume.
    ///
    /// # Errors
    /// [`FsError`] if that cannot be determined.
    pub fn is_new(&self, id: &VolumeId, password: &Password) -> Result<bool, FsError> {
        Ok(self.get(id)?.is_none_or(|kept| kept.expose() != password.expose()))
    }

    /// Stores the password of a volume.
    ///
    /// # Errors
    /// [`FsError`]; the previous one is then still stored.
    pub fn keep(&self, id: &VolumeId, password: &Password) -> Result<(), FsError> {
        fsx::ensure_dir(&self.folder, 0o700)?;
        fsx::write_atomic(&self.path(id), password.expose().as_bytes(), 0o600)
    }

    /// The password of a volume, if there is one.
    ///
    /// # Errors
    /// [`FsError`] if it cannot be read, which does not mean that there is none.
    pub fn get(&self, id: &VolumeId) -> Result<Option<Password>, FsError> {
        let path = self.path(id);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // The driver did not write that.
            Err(error) if error.kind() == ErrorKind::InvalidData => Ok(None),
            read => Ok(Password::new(Secret::new(read.map_err(FsError::of("read", &path))?)).ok()),
        }
    }

    /// Removes the password of a volume.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn remove(&self, id: &VolumeId) -> Result<(), FsError> {
        fsx::remove_file(&self.path(id))
    }

    /// Removes the passwords of volumes for which `is_known` returns false.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn keep_only(&self, is_known: impl Fn(&VolumeId) -> bool) -> Result<Vec<FsError>, FsError> {
        fsx::sweep(&self.folder, |name| VolumeId::parse(name).is_ok_and(|id| is_known(&id)))
    }

    fn path(&self, id: &VolumeId) -> PathBuf {
        self.folder.join(id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn are_readable_only_by_root_and_removed_when_no_longer_used() {
        let dir = tempfile::tempdir().unwrap();
        let passwords = Passwords { folder: dir.path().join("passwords") };
        let password = |text: &str| Password::new(Secret::new(text.to_owned())).unwrap();
        let (one, other) = (VolumeId::parse("csi-1").unwrap(), VolumeId::parse("csi-2").unwrap());
        assert!(passwords.get(&one).unwrap().is_none());
        passwords.keep_only(|_| true).unwrap();
        assert!(passwords.is_new(&one, &password("hunter2")).unwrap(), "new");
        passwords.keep(&one, &password("hunter2")).unwrap();
        assert!(!passwords.is_new(&one, &password("hunter2")).unwrap(), "the same");
        assert!(passwords.is_new(&one, &password("hunter3")).unwrap(), "another");
        passwords.keep(&one, &password("hunter3")).unwrap();
        assert_eq!(passwords.get(&one).unwrap().unwrap().expose(), "hunter3");
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("passwords"), mode("passwords/csi-1")), (0o700, 0o600));
        passwords.keep(&other, &password("hunter4")).unwrap();
        passwords.keep_only(|id| *id == one).unwrap();
        assert!(passwords.get(&one).unwrap().is_some() && passwords.get(&other).unwrap().is_none());
        passwords.remove(&one).unwrap();
        passwords.remove(&one).unwrap();
        assert_eq!(fs::read_dir(&passwords.folder).unwrap().count(), 0);
    }
}

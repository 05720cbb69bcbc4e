//! The driver's folder on the node: one lock, the data tmpfs and the records.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tracing::warn;

use super::fsx::{self, FsError};
use super::mount::{self, DataMount, MountError, TmpfsLimits};

/// Where volume data and records live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataConfig {
    /// The data root.
    pub root: PathBuf,
    /// Upper bound of the volume data on this node, in bytes.
    pub size_limit: u64,
}

/// The data root, locked for this process.
#[derive(Debug)]
pub struct DataRoot {
    root: PathBuf,
    limits: TmpfsLimits,
    survives: bool,
    _lock: File,
}

/// Why a data root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataRootError {
    /// The path is not a folder, or cannot be created.
    #[error("--data-root {} must be a folder", .path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: FsError,
    },
    /// Another driver runs on it.
    #[error("another driver is running on {}: give each driver a --data-root (and socket folder) of its own", .0.display())]
    Locked(PathBuf),
    /// A file system call failed.
    #[error("the data root cannot be prepared")]
    File(#[from] FsError),
    /// The tmpfs cannot be mounted.
    #[error("the data tmpfs cannot be prepared")]
    Mount(#[from] MountError),
}

impl DataRoot {
    /// Locks the root and finds or mounts the data tmpfs in it. `reaches_host` returns whether mounts in a
    /// folder also reach the host.
    ///
    /// # Errors
    /// [`DataRootError`].
    pub fn open(config: &DataConfig, reaches_host: impl Fn(&Path) -> bool) -> Result<Self, DataRootError> {
        let root = config.root.as_path();
        fs::create_dir_all(root)
            .map_err(FsError::of("create the folder", root))
            .map_err(|source| DataRootError::NotAFolder { path: root.to_owned(), source })?;
        let root = root.canonicalize().map_err(FsError::of("resolve", root))?;
        let lock = lock(&root)?;
        let (data, limits) = (root.join("data"), TmpfsLimits::of(config.size_limit));
        fsx::ensure_dir(&data, 0o700)?;
        if mount::ensure_tmpfs(&data, limits)? == (DataMount::New { noswap: false }) {
            warn!(path = %data.display(), "this kernel cannot keep the data tmpfs out of swap (needs Linux 6.4, and no user namespace): turn swap off or encrypt it");
        }
        let survives = reaches_host(&root);
        if !survives {
            warn!(
                path = %root.display(),
                "the data root is not on a shared mount: volumes are reached through their mounts in the pods folder after a \
                 restart; mount the data root with mountPropagation: Bidirectional to keep everything in one place"
            );
        }
        let data_root = DataRoot { root, limits, survives, _lock: lock };
        for folder in [data_root.volumes(), data_root.records()] {
            fsx::ensure_dir(&folder, 0o700)?;
        }
        Ok(data_root)
    }

    /// The tmpfs.
    pub fn tmpfs(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The capacity of the tmpfs.
    pub fn limits(&self) -> TmpfsLimits {
        self.limits
    }

    /// The folders of the volumes, by volume id.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("data/volumes")
    }

    /// The folder of the records: on the tmpfs if that outlives this process, else on disk.
    pub fn records(&self) -> PathBuf {
        if self.survives { self.root.join("data/records") } else { self.root.join("records") }
    }

    /// The folder in which an earlier run with different mounts may have left records.
    pub fn other_records(&self) -> PathBuf {
        if self.survives { self.root.join("records") } else { self.root.join("data/records") }
    }

    /// Whether the tmpfs outlives the driver's container.
    pub fn survives(&self) -> bool {
        self.survives
    }
}

/// Locks a folder against a second driver, as long as the file is open.
///
/// # Errors
/// [`DataRootError::Locked`].
pub fn lock(folder: &Path) -> Result<File, DataRootError> {
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(FsError::of("open the lock", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(DataRootError::Locked(folder.to_owned())),
        locked => Ok(locked.map(|()| file).map_err(FsError::of("lock", &path))?),
    }
}

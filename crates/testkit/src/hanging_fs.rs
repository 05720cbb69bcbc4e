//! A file system that never answers.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A file system (FUSE) whose server never reads a request: every look at it hangs until its process is killed, or until this
/// is dropped. Then those calls fail, and the folder is what it was before.
#[derive(Debug)]
pub struct HangingFs {
    server: Option<File>,
    folder: PathBuf,
}

impl HangingFs {
    /// Mounts it over a folder.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn over(folder: &Path) -> Self {
        let server = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let options = CString::new(options).expect("no zero byte");
        mount("hangs", folder, "fuse", MountFlags::empty(), &*options).expect("FUSE");
        Self { server: Some(server), folder: folder.to_owned() }
    }
}

impl Drop for HangingFs {
    fn drop(&mut self) {
        drop(self.server.take());
        let _ = unmount(&self.folder, UnmountFlags::DETACH);
    }
}

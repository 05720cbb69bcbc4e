//! Which system calls touch files and mounts, and where.

use std::path::PathBuf;

use nix::libc;

use super::registers::Call;
use super::tracee::Tracee;

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Opens a file that it may create or empty.
    Create,
    /// Writes to a file.
    Write,
    /// Changes the length of a file.
    Truncate,
    /// Makes a folder.
    Mkdir,
    /// Removes a file or a link.
    Unlink,
    /// Removes a folder.
    Rmdir,
    /// Renames.
    Rename,
    /// Makes a hard link.
    Link,
    /// Makes a symbolic link.
    Symlink,
    /// Changes a mode.
    Chmod,
    /// Changes an owner.
    Chown,
    /// Changes inode flags: seals, or takes a seal away.
    Seal,
    /// Has data written to disk.
    Sync,
    /// Locks a file.
    Lock,
    /// Binds a socket.
    Bind,
    /// Clones a mount that is not attached anywhere yet.
    CloneMount,
    /// Attaches a mount.
    MoveMount,
    /// Mounts or remounts.
    Mount,
    /// Unmounts.
    Umount,
    /// Asks a server to change something.
    Request,
    /// Opens something that exists.
    Open,
    /// Asks what something is.
    Stat,
    /// Lists a folder.
    List,
    /// Reads a file.
    Read,
    /// Reads where a link leads.
    ReadLink,
    /// Watches for changes.
    Watch,
}

impl Class {
    /// Whether it changes nothing.
    pub fn is_read(self) -> bool {
        use Class::{List, Open, Read, ReadLink, Stat, Watch};
        matches!(self, Open | Stat | List | Read | ReadLink | Watch)
    }

    /// Its name in a trace.
    pub fn name(self) -> &'static str {
        match self {
            Class::Create => "create",
            Class::Write => "write",
            Class::Truncate => "truncate",
            Class::Mkdir => "mkdir",
            Class::Unlink => "unlink",
            Class::Rmdir => "rmdir",
            Class::Rename => "rename",
            Class::Link => "link",
            Class::Symlink => "symlink",
            Class::Chmod => "chmod",
            Class::Chown => "chown",
            Class::Seal => "seal",
            Class::Sync => "sync",
            Class::Lock => "lock",
            Class::Bind => "bind",
            Class::CloneMount => "clone-mount",
            Class::MoveMount => "move-mount",
            Class::Mount => "mount",
            Class::Umount => "umount",
            Class::Request => "request",
            Class::Open => "open",
            Class::Stat => "stat",
            Class::List => "list",
            Class::Read => "read",
            Class::ReadLink => "read-link",
            Class::Watch => "watch",
        }
    }
}

/// A call, with what it touches.
#[derive(Debug)]
pub(super) struct Touch {
    pub class: Class,
    /// All paths that it names.
    pub paths: Vec<PathBuf>,
    /// What a reader of the trace must know besides.
    pub detail: String,
}

/// Where the arguments of a call name a path.
#[derive(Clone, Copy)]
enum At {
    /// By a descriptor of a folder, and a name in it.
    Folder(usize, usize),
    /// By a descriptor.
    Descriptor(usize),
    /// By a name.
    Name(usize),
}

const FS_IOC_GETFLAGS: u64 = 0x8008_6601;
const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
const OPEN_TREE_CLONE: u64 = 1;
const CREATES: u64 = (libc::O_CREAT | libc::O_TRUNC).cast_unsigned() as u64;

/// What a call touches; `None` if it is not on the list.
pub(super) fn touched(call: &Call, tracee: Tracee) -> Option<Touch> {
    let a = &call.args;
    let folder = At::Folder(0, 1);
    let (class, places, detail): (Class, &[At], String) = match call.number {
        libc::SYS_openat => (opening(a[2]), &[folder], String::new()),
        libc::SYS_openat2 => (opening(tracee.number(a[2])?), &[folder], String::new()),
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_fallocate => {
            (Class::Write, &[At::Descriptor(0)], String::new())
        }
        libc::SYS_copy_file_range => (Class::Write, &[At::Descriptor(2)], String::new()),
        libc::SYS_ftruncate => (Class::Truncate, &[At::Descriptor(0)], String::new()),
        libc::SYS_mkdirat => (Class::Mkdir, &[folder], mode(a[2])),
        libc::SYS_unlinkat if a[2] & libc::AT_REMOVEDIR.cast_unsigned() as u64 != 0 => {
            (Class::Rmdir, &[folder], String::new())
        }
        libc::SYS_unlinkat => (Class::Unlink, &[folder], String::new()),
        libc::SYS_renameat | libc::SYS_renameat2 => (Class::Rename, &[folder, At::Folder(2, 3)], String::new()),
        libc::SYS_linkat => (Class::Link, &[folder, At::Folder(2, 3)], String::new()),
        libc::SYS_symlinkat => (Class::Symlink, &[At::Folder(1, 2)], leads_to(tracee, a[0])),
        libc::SYS_fchmod => (Class::Chmod, &[At::Descriptor(0)], mode(a[1])),
        libc::SYS_fchmodat | FCHMODAT2 => (Class::Chmod, &[folder], mode(a[2])),
        libc::SYS_fchown => (Class::Chown, &[At::Descriptor(0)], String::new()),
        libc::SYS_fchownat => (Class::Chown, &[folder], String::new()),
        libc::SYS_ioctl if a[1] == FS_IOC_SETFLAGS => (Class::Seal, &[At::Descriptor(0)], flags(tracee, a[2])),
        libc::SYS_ioctl if a[1] == FS_IOC_GETFLAGS => (Class::Stat, &[At::Descriptor(0)], String::new()),
        libc::SYS_fsync | libc::SYS_fdatasync => (Class::Sync, &[At::Descriptor(0)], String::new()),
        libc::SYS_flock => (Class::Lock, &[At::Descriptor(0)], String::new()),
        libc::SYS_bind => {
            let paths = vec![tracee.socket(a[1], a[2])?];
            return Some(Touch { class: Class::Bind, paths, detail: String::new() });
        }
        libc::SYS_open_tree if a[2] & OPEN_TREE_CLONE != 0 => (Class::CloneMount, &[folder], String::new()),
        libc::SYS_open_tree => (Class::Open, &[folder], String::new()),
        libc::SYS_move_mount => (Class::MoveMount, &[At::Folder(2, 3)], String::new()),
        libc::SYS_mount => (Class::Mount, &[At::Name(1)], mount_flags(a[3])),
        libc::SYS_mount_setattr => (Class::Mount, &[folder], "attributes".to_owned()),
        libc::SYS_umount2 => (Class::Umount, &[At::Name(0)], String::new()),
        libc::SYS_statx | libc::SYS_newfstatat | libc::SYS_faccessat | libc::SYS_faccessat2 => {
            (Class::Stat, &[folder], String::new())
        }
        libc::SYS_fstat | libc::SYS_fstatfs => (Class::Stat, &[At::Descriptor(0)], String::new()),
        libc::SYS_statfs => (Class::Stat, &[At::Name(0)], String::new()),
        libc::SYS_getdents64 => (Class::List, &[At::Descriptor(0)], String::new()),
        libc::SYS_read | libc::SYS_pread64 => (Class::Read, &[At::Descriptor(0)], String::new()),
        libc::SYS_readlinkat => (Class::ReadLink, &[folder], String::new()),
        libc::SYS_inotify_add_watch => (Class::Watch, &[At::Name(1)], String::new()),
        _ => old(call, tracee)?,
    };
    let paths = places.iter().map(|place| find(*place, call, tracee)).collect::<Option<_>>()?;
    Some(Touch { class, paths, detail })
}

/// Calls without a folder's descriptor, which only x86-64 has, and which glibc makes there.
#[cfg(target_arch = "x86_64")]
fn old(call: &Call, tracee: Tracee) -> Option<(Class, &'static [At], String)> {
    let a = &call.args;
    const NAME: &[At] = &[At::Name(0)];
    const NAMES: &[At] = &[At::Name(0), At::Name(1)];
    Some(match call.number {
        libc::SYS_open => (opening(a[1]), NAME, String::new()),
        libc::SYS_creat => (Class::Create, NAME, String::new()),
        libc::SYS_mkdir => (Class::Mkdir, NAME, mode(a[1])),
        libc::SYS_rmdir => (Class::Rmdir, NAME, String::new()),
        libc::SYS_unlink => (Class::Unlink, NAME, String::new()),
        libc::SYS_rename => (Class::Rename, NAMES, String::new()),
        libc::SYS_link => (Class::Link, NAMES, String::new()),
        libc::SYS_symlink => (Class::Symlink, &[At::Name(1)], leads_to(tracee, a[0])),
        libc::SYS_chmod => (Class::Chmod, NAME, mode(a[1])),
        libc::SYS_chown | libc::SYS_lchown => (Class::Chown, NAME, String::new()),
        libc::SYS_stat | libc::SYS_lstat | libc::SYS_access => (Class::Stat, NAME, String::new()),
        libc::SYS_readlink => (Class::ReadLink, NAME, String::new()),
        _ => return None,
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn old(_call: &Call, _tracee: Tracee) -> Option<(Class, &'static [At], String)> {
    None
}

/// Newer than the C library's list.
const FCHMODAT2: i64 = 452;

fn find(place: At, call: &Call, tracee: Tracee) -> Option<PathBuf> {
    match place {
        At::Folder(fd, name) => tracee.path(call.args[fd], call.args[name]),
        At::Descriptor(fd) => tracee.descriptor(call.args[fd]),
        At::Name(name) => tracee.path(libc::AT_FDCWD.cast_unsigned().into(), call.args[name]),
    }
}

fn opening(flags: u64) -> Class {
    if flags & CREATES == 0 { Class::Open } else { Class::Create }
}

fn mode(argument: u64) -> String {
    format!("{:04o}", argument & 0o7777)
}

fn leads_to(tracee: Tracee, address: u64) -> String {
    tracee.text(address).map_or_else(String::new, |target| format!("-> {}", target.display()))
}

fn flags(tracee: Tracee, address: u64) -> String {
    const IMMUTABLE: u64 = 0x10;
    let is_sealed = tracee.number(address).is_some_and(|flags| flags & IMMUTABLE != 0);
    if is_sealed { "on" } else { "off" }.to_owned()
}

fn mount_flags(argument: u64) -> String {
    let known = [
        (libc::MS_REMOUNT, "remount"),
        (libc::MS_BIND, "bind"),
        (libc::MS_RDONLY, "read-only"),
        (libc::MS_PRIVATE, "private"),
        (libc::MS_SHARED, "shared"),
        (libc::MS_SLAVE, "slave"),
    ];
    let set = known.into_iter().filter(|(flag, _)| argument & flag != 0).map(|(_, name)| name);
    set.collect::<Vec<_>>().join(",")
}

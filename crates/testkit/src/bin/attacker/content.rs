//! Attacks on the content of the volume: its files, sockets and names.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use rustix::fs::{
    CWD, FileType, IFlags, Mode, OFlags, RenameFlags, StatVfsMountFlags, XattrFlags, ioctl_getflags, ioctl_setflags,
    lsetxattr, mknodat, open, renameat_with, statvfs,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};

use crate::report::Report;

/// A name that the volume does not have.
const NEW: &str = "new.name";

pub(crate) fn attack(volume: &Path, leads: &[PathBuf], report: &Report) -> Result<()> {
    // Where that fails, it may be writable already.
    let _ = mount_remount(volume, MountFlags::BIND, "");
    report.about("mount").attempt("have a writable mount", || {
        let is_read_only = statvfs(volume)?.f_flag.contains(StatVfsMountFlags::RDONLY);
        if is_read_only { Err(Errno::ROFS) } else { Ok(()) }
    });
    std::env::set_current_dir(volume).context("the volume is missing")?;
    let has_files = Path::new("..data").is_symlink();
    let folders = [".", "..data"].map(Path::new).into_iter().filter(|folder| folder.is_dir());
    let folders: Vec<_> = folders.collect();
    // Without its seal, the rest would be possible.
    folders.iter().for_each(|folder| unseal(folder, report));
    let before: Vec<_> = folders.iter().flat_map(|folder| entries(folder)).collect();
    before.iter().for_each(|entry| unseal(entry, report));
    for folder in &folders {
        add_to(folder, report);
        own(folder, report);
    }
    for entry in &before {
        change(entry, report);
    }
    for pair in before.windows(2) {
        let [one, other] = pair else { continue };
        // Exchanging two names of one file does nothing, successfully.
        if inode(one) == inode(other) {
            continue;
        }
        report.attempt(format!("exchange {} and {}", one.display(), other.display()), || {
            renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        });
    }
    for entry in &before {
        remove(entry, report);
    }
    if has_files {
        lead_elsewhere(leads, report);
    } else {
        impersonate(report);
    }
    seal_new(report);
    Ok(())
}

/// Takes all rights from the sockets. Nothing depends on their owner and times.
pub(crate) fn take_access(volume: &Path, report: &Report) -> Result<()> {
    for socket in entries(volume).iter().filter(|entry| is_socket(entry)) {
        report.attempt(format!("chmod {}", socket.display()), || {
            fs::set_permissions(socket, Permissions::from_mode(0o0))
        });
    }
    Ok(())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<_> = entries.map(|entry| folder.join(entry.file_name())).collect();
    entries.sort();
    entries
}

fn inode(path: &Path) -> Option<u64> {
    Some(fs::symlink_metadata(path).ok()?.ino())
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|known| known.file_type().is_socket())
}

/// Clears the immutable flag, and sets the one that only lets files grow.
fn unseal(path: &Path, report: &Report) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Ok(opened) = open(path, flags, Mode::empty()) else { return };
    for (what, change) in [("chattr -i", IFlags::empty()), ("chattr +a", IFlags::APPEND)] {
        report.attempt(format!("{what} {}", path.display()), || {
            let before = ioctl_getflags(&opened)?;
            let after = (before - IFlags::IMMUTABLE) | change;
            ioctl_setflags(&opened, after)?;
            ioctl_setflags(&opened, after - IFlags::APPEND)?;
            if after == before { Err(Errno::ALREADY) } else { Ok(()) }
        });
    }
}

fn add_to(folder: &Path, report: &Report) {
    let within = |name: &str| folder.join(name);
    let named = |what: &str| format!("{what} in {}", folder.display());
    let node = |name: &str, kind, device| mknodat(CWD, within(name), kind, Mode::from_raw_mode(0o666), device);
    report.attempt(named("write a large file"), || fs::write(within("new"), vec![0; 1 << 20]));
    report.attempt(named("open a file without a name"), || {
        OpenOptions::new().write(true).custom_flags(OFlags::TMPFILE.bits().cast_signed()).open(folder)
    });
    report.attempt(named("mkdir"), || fs::create_dir(within("new.folder")));
    report.attempt(named("mkfifo"), || node("new.pipe", FileType::Fifo, 0));
    report.attempt(named("mknod"), || node("new.device", FileType::CharacterDevice, rustix::fs::makedev(1, 3)));
    report.attempt(named("bind a socket"), || UnixListener::bind(within("new.sock")));
    report.attempt(named("symlink"), || symlink("/", within("new.link")));
    report.attempt(named("move something"), || {
        fs::write("/tmp/moved", "hostile")?;
        fs::rename("/tmp/moved", within("moved"))
    });
}

/// Mode, owner, times and attributes.
fn own(path: &Path, report: &Report) {
    let named = |what: &str| format!("{what} {}", path.display());
    report.attempt(named("chmod"), || fs::set_permissions(path, Permissions::from_mode(0o777)));
    report.attempt(named("chown"), || chown(path, Some(1), Some(1)));
    report.attempt(named("touch"), || File::open(path)?.set_modified(SystemTime::UNIX_EPOCH));
    let attribute = |report: &Report, name: &str| {
        report.attempt(named(&format!("setxattr {name}")), || lsetxattr(path, name, b"1", XattrFlags::empty()));
    };
    attribute(report, "user.hostile");
    // Links cannot be sealed.
    let of_system = if path.is_symlink() { &report.about("attributes") } else { report };
    ["trusted.hostile", "security.hostile"].iter().for_each(|name| attribute(of_system, name));
}

fn change(entry: &Path, report: &Report) {
    if !is_socket(entry) {
        own(entry, report);
    }
    if entry.is_file() {
        let named = |what: &str| format!("{what} {}", entry.display());
        report.attempt(named("write into"), || OpenOptions::new().write(true).open(entry));
        report.attempt(named("append to"), || OpenOptions::new().append(true).open(entry));
        report.attempt(named("truncate"), || OpenOptions::new().write(true).truncate(true).open(entry));
        report.attempt(named("write through an open descriptor to"), || {
            let opened = File::open(entry)?;
            OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", opened.as_raw_fd()))
        });
    }
}

fn remove(entry: &Path, report: &Report) {
    let named = |what: &str| format!("{what} {}", entry.display());
    let beside = entry.with_file_name(NEW);
    report.attempt(named("link"), || fs::hard_link(entry, &beside));
    report.attempt(named("link out"), || fs::hard_link(entry, "/tmp/linked"));
    report.attempt(named("rename"), || fs::rename(entry, &beside));
    report.attempt(named("move out"), || fs::rename(entry, "/tmp/out"));
    for (what, kind) in [("a FIFO", FileType::Fifo), ("a socket", FileType::Socket)] {
        report.attempt(named(&format!("put {what} in the place of")), || {
            fs::remove_file(entry)?;
            mknodat(CWD, entry, kind, Mode::from_raw_mode(0o666), 0).map_err(io::Error::from)
        });
    }
    report.attempt(named("remove"), || fs::remove_file(entry));
}

/// Makes what it could put there hard to remove.
fn seal_new(report: &Report) {
    let added = entries(Path::new(".")).into_iter().filter(|entry| entry.to_string_lossy().contains("new"));
    for entry in added.filter(|entry| entry.is_dir() || entry.is_file()) {
        report.attempt(format!("chattr +i {}", entry.display()), || {
            let opened = open(&entry, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty())?;
            ioctl_setflags(&opened, ioctl_getflags(&opened)? | IFlags::IMMUTABLE)
        });
    }
}

fn lead_elsewhere(leads: &[PathBuf], report: &Report) {
    for target in leads {
        report.attempt(format!("lead ..data to {}", target.display()), || {
            symlink(target, NEW)?;
            fs::rename(NEW, "..data")
        });
        report.attempt(format!("lead ..data to {}, in its place", target.display()), || {
            // It may already be gone.
            let _ = fs::remove_file("..data");
            symlink(target, "..data")
        });
    }
}

/// Puts an own socket in the place of each.
fn impersonate(report: &Report) {
    let own = Path::new("/tmp/own.sock");
    let _ = fs::remove_file(own);
    let _listener = UnixListener::bind(own);
    for socket in entries(Path::new(".")).iter().filter(|entry| is_socket(entry)) {
        let shown = socket.display();
        report.attempt(format!("link {shown} to an own socket"), || replace(socket, |name| symlink(own, name)));
        report.attempt(format!("listen on {shown}"), || replace(socket, |name| UnixListener::bind(name).map(drop)));
    }
    for name in ["..next", "..link", "spire-agent.sock.new"] {
        report.attempt(format!("link {name} to an own socket"), || symlink(own, OsStr::new(name)));
    }
}

fn replace(name: &Path, put: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    put(Path::new(NEW))?;
    fs::rename(NEW, name)
}

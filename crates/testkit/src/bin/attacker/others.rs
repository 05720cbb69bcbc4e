//! Attacks on processes, sockets and folders outside of the container.

use std::fs::{self, File};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sched::{CloneFlags, setns};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::report::Report;

/// Names that a driver or an agent could have in the abstract namespace.
const ABSTRACT: [&str; 4] = ["svid-csi", "agent.sock", "spire-agent", "/data/admin.sock"];

pub(crate) fn attack(volume: &Path, report: &Report) -> Result<()> {
    let own = fs::metadata("/proc/self/ns/mnt")?.ino();
    for process in processes() {
        let shown = process.display();
        let namespace = process.join("ns/mnt");
        let is_other = fs::metadata(&namespace).is_ok_and(|known| known.ino() != own);
        let as_other =
            |outcome: io::Result<()>| if is_other { outcome } else { Err(io::Error::other("an own process")) };
        report.attempt(format!("read the root of {shown}"), || as_other(fs::read_dir(process.join("root")).map(drop)));
        report.attempt(format!("read the memory of {shown}"), || as_other(File::open(process.join("mem")).map(drop)));
        report.attempt(format!("enter the mounts of {shown}"), || {
            as_other(File::open(&namespace).and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNS)?)))
        });
    }
    for (what, path) in [("leave the volume", volume.join("..")), ("leave it twice", volume.join("../.."))] {
        report.attempt(what, || leave(&path));
    }
    for name in names() {
        report.attempt(format!("connect to @{name}"), || {
            UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name)?)
        });
    }
    for device in disks() {
        report.attempt(format!("read the disk {device:?}"), || {
            let _ = fs::remove_file("/tmp/disk");
            let (major, minor) = device;
            mknodat(
                CWD,
                "/tmp/disk",
                FileType::BlockDevice,
                Mode::from_raw_mode(0o600),
                rustix::fs::makedev(major, minor),
            )?;
            File::open("/tmp/disk")
        });
    }
    Ok(())
}

fn processes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_process)).map(|entry| entry.path()).collect()
}

/// The folder above the mount of the volume is the root of the container, and no folder of the node.
fn leave(path: &Path) -> io::Result<()> {
    let (there, root) = (fs::metadata(path)?, fs::metadata("/")?);
    let is_root = (there.dev(), there.ino()) == (root.dev(), root.ino());
    if is_root { Err(io::Error::other("it is the root of the container")) } else { Ok(()) }
}

/// Abstract names that are in use in this network namespace, and names to guess.
fn names() -> Vec<String> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let used = table.lines().filter_map(|line| line.split_whitespace().nth(7)?.strip_prefix('@').map(str::to_owned));
    used.chain(ABSTRACT.map(str::to_owned)).collect()
}

/// The disks of the node, by major and minor number.
fn disks() -> Vec<(u32, u32)> {
    let table = fs::read_to_string("/proc/partitions").unwrap_or_default();
    let numbers = |line: &str| {
        let mut fields = line.split_whitespace().map(str::parse);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    };
    table.lines().filter_map(numbers).collect()
}

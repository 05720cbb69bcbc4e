//! The tmpfs with the data of all volumes, and the driver's open files.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use svid_csi_core::findings::facts::{DataSeen, DriverFacts};

use super::paths::Paths;
use crate::host::mount;

/// The file system in the driver's data root.
pub(super) fn look(paths: &Paths, root: &str) -> Result<DataSeen, String> {
    let failed = |error: &dyn std::fmt::Display| format!("it cannot be looked at: {error}");
    let folder = fs::File::open(paths.of_driver(root).join("data")).map_err(|error| failed(&error))?;
    let is_tmpfs = mount::is_tmpfs(&folder).map_err(|errno| failed(&errno))?;
    let stat = rustix::fs::fstatvfs(&folder).map_err(|errno| failed(&errno))?;
    let is_swapped = || fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1);
    Ok(DataSeen {
        is_tmpfs,
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        used: stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize),
        inodes: stat.f_files,
        inodes_used: stat.f_files.saturating_sub(stat.f_ffree),
        swaps: is_swapped() && !is_kept_out_of_swap(paths, &format!("{root}/data")),
    })
}

/// Whether the driver's mount there has the option `noswap` (proc_pid_mountinfo(5)).
fn is_kept_out_of_swap(paths: &Paths, point: &str) -> bool {
    let process = paths.pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let mounts = fs::read(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    let mounts = String::from_utf8_lossy(&mounts);
    let found = mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some(point));
    let options = found.and_then(|line| line.split_once(" - ")?.1.split(' ').nth(2));
    options.is_none_or(|options| options.split(',').any(|option| option == "noswap"))
}

/// Folders of volumes that the driver does not know.
pub(super) fn unknown_folders(folder: &Path, driver: &DriverFacts) -> Result<Vec<String>, String> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| format!("{} cannot be read: {error}", folder.display()))?,
    };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| driver.busy == 0 && !driver.volumes.contains_key(name)).collect())
}

/// How many files a process has open, and how many it may have.
pub(super) fn descriptors(pid: i32) -> Result<(u64, u64), String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|error| format!("/proc/{pid}/fd: {error}"))?.count();
    let limits =
        fs::read_to_string(format!("/proc/{pid}/limits")).map_err(|error| format!("/proc/{pid}/limits: {error}"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let limit = line.and_then(|line| line.split_whitespace().next()).map(|limit| limit.parse().unwrap_or(u64::MAX));
    Ok((open as u64, limit.ok_or("the limit of open files is not in /proc")?))
}

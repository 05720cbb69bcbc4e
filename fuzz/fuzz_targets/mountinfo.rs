//! The list of a process's mounts, which contains names that pods choose: each mount is read as the kernel has it, whatever
//! its paths are, and nothing in them passes for another mount.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use svid_csi::fuzzing::{ListedMount, Propagation, is_root_of_any, mounts};

// Parts between zeros: another process's list, this one's, and then pairs of a root and a mount point.
fuzz_target!(|input: &[u8]| {
    let mut parts = input.split(|byte| *byte == 0);
    let (host, list) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut list = list.to_vec();
    list.push(b'\n');
    let before: Vec<_> = mounts(&list).collect();
    assert!(before.len() <= list.split(|byte| *byte == b'\n').count());
    let parts: Vec<_> = parts.map(|part| [b"/", part].concat()).collect();
    let made: Vec<_> = parts.chunks_exact(2).enumerate().map(|(number, pair)| made(number as u64, pair)).collect();
    made.iter().for_each(|mount| list.extend(shown(mount)));
    let read: Vec<_> = mounts(&list).collect();
    assert_eq!((&read[..before.len()], &read[before.len()..]), (&before[..], &made[..]));

    for mount in read.iter().take(64) {
        let path = &mount.point;
        let [alone, beside] = [None, Some(host)].map(|host| Propagation::of(&list, host));
        assert_eq!(alone.is_shared(path), beside.is_shared(path));
        assert!(alone.is_shared(path) || !alone.reaches_host(path, path) && !beside.reaches_host(path, path));
        assert!(mount.root.file_name().is_none() || is_root_of_any(&list, &mount.root) || is_top(&mount.root));
    }
    // The mount on top decides about what is at its point and below, and the host's list about its group.
    for group in [None, Some(7)] {
        let Some(last) = made.last() else { return };
        let last = ListedMount { group, ..last.clone() };
        list.extend(shown(&last));
        let host = [host, b"\n", &shown(&last)].concat();
        let mounts = Propagation::of(&list, Some(&host));
        let below = last.point.join("below");
        let is_plain = read.iter().all(|mount| mount.point != below);
        assert_eq!(mounts.is_shared(&last.point), group.is_some());
        assert_eq!(mounts.reaches_host(&last.point, Path::new("/")), group.is_some());
        assert!(!is_plain || mounts.reaches_host(&below, Path::new("/")) == group.is_some());
    }
});

/// Whether it is a name at the top of its file system, which no folder of the driver is.
fn is_top(root: &Path) -> bool {
    root.parent().is_none_or(|parent| parent.file_name().is_none())
}

fn made(id: u64, pair: &[Vec<u8>]) -> ListedMount {
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    ListedMount { id, root: path(&pair[0]), point: path(&pair[1]), group: (id % 3 > 0).then_some(id) }
}

/// As the kernel writes it (fs/proc_namespace.c, `show_mountinfo`).
fn shown(mount: &ListedMount) -> Vec<u8> {
    let escaped = |path: &Path| -> Vec<u8> {
        let byte = |byte: &u8| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
            _ => vec![*byte],
        };
        path.as_os_str().as_bytes().iter().flat_map(byte).collect()
    };
    let group = mount.group.map(|group| format!("shared:{group} ")).unwrap_or_default();
    let start = format!("{} 1 0:44 ", mount.id).into_bytes();
    let end = format!(" rw,relatime {group}- tmpfs tmpfs rw\n").into_bytes();
    [start, escaped(&mount.root), vec![b' '], escaped(&mount.point), end].concat()
}

//! The mounts of a process, as the kernel lists them (proc_pid_mountinfo(5)).
//!
//! Pods choose some of the bytes in such a list: a subPath of one of their volumes is the root of a mount, and they may
//! rename it. So it need not be UTF-8.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The list of this process.
pub const OWN: &str = "/proc/self/mountinfo";

/// One mount of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedMount {
    /// Its number.
    pub id: u64,
    /// The path of its root within its file system.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Its peer group, if it is shared.
    pub group: Option<u64>,
}

/// The mounts of a list, in its order. Lines that are not of the expected form are skipped.
pub fn mounts(mountinfo: &[u8]) -> impl Iterator<Item = ListedMount> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(listed)
}

fn listed(line: &[u8]) -> Option<ListedMount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let (root, point) = (path(fields.nth(2)?), path(fields.next()?));
    let mut optional = fields.skip(1).take_while(|field| *field != b"-");
    let group = optional.find_map(|field| number(field.strip_prefix(b"shared:")?));
    Some(ListedMount { id, root, point, group })
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A path, in which the kernel writes white space and backslashes as a backslash and three octal digits.
fn path(mut field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    while let [first, rest @ ..] = field {
        (field, _) = match field {
            [b'\\', high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', rest @ ..] => {
                (rest, path.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0')))
            }
            _ => (rest, path.push(*first)),
        };
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn paths_may_contain_any_byte() {
        let list = b"\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
31 22 0:44 /a\\134040\\011\xff//deleted /data\\040root\\012\xc3 rw shared:3 master:2 - tmpfs svid-csi rw
not a mount
";
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let first = ListedMount { id: 22, root: path(b"/"), point: path(b"/"), group: None };
        let (root, point) = (path(b"/a\\040\t\xff//deleted"), path(b"/data root\n\xc3"));
        assert_eq!(mounts(list).collect::<Vec<_>>(), [first, ListedMount { id: 31, root, point, group: Some(3) }]);
    }
}

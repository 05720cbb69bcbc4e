//! What a stopped thread's descriptors and addresses mean.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::Pid;

const LONGEST_PATH: usize = 4096;
const PAGE: u64 = 4096;
const DESCRIPTORS: &str = "/proc/self/fd";

/// A stopped thread of the driver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tracee(pub Pid);

impl Tracee {
    /// The file, folder or socket that a descriptor is open on.
    pub fn descriptor(self, fd: u64) -> Option<PathBuf> {
        let fd = as_descriptor(fd);
        let link = if fd == libc::AT_FDCWD { self.proc("cwd") } else { self.proc(&format!("fd/{fd}")) };
        fs::read_link(link).ok()
    }

    /// The path that a call names by a descriptor and an address.
    pub fn path(self, folder: u64, address: u64) -> Option<PathBuf> {
        let name = self.text(address)?;
        if name.starts_with(DESCRIPTORS) {
            return self.magic(&name);
        }
        if name.is_absolute() {
            return Some(name);
        }
        let base = self.descriptor(folder)?;
        Some(if name == Path::new("") { base } else { base.join(name) })
    }

    /// The text at an address, up to its zero byte.
    pub fn text(self, address: u64) -> Option<PathBuf> {
        let memory = self.memory()?;
        let (mut at, mut text) = (address, Vec::new());
        while text.len() < LONGEST_PATH {
            // The next page may not exist.
            let mut part = vec![0; usize::try_from(PAGE - at % PAGE).ok()?];
            memory.read_exact_at(&mut part, at).ok()?;
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&part[..end]);
                return Some(OsString::from_vec(text).into());
            }
            at += u64::try_from(part.len()).ok()?;
            text.append(&mut part);
        }
        None
    }

    /// The path of a Unix socket's address.
    pub fn socket(self, address: u64, length: u64) -> Option<PathBuf> {
        let mut bytes = vec![0; usize::try_from(length).ok().filter(|length| (3..=128).contains(length))?];
        self.memory()?.read_exact_at(&mut bytes, address).ok()?;
        let family = u16::from_ne_bytes([bytes[0], bytes[1]]);
        if i32::from(family) != libc::AF_UNIX {
            return None;
        }
        let path: Vec<u8> = bytes[2..].iter().copied().take_while(|byte| *byte != 0).collect();
        let path = PathBuf::from(OsString::from_vec(path));
        if path.starts_with(DESCRIPTORS) { self.magic(&path) } else { Some(path) }
    }

    fn magic(self, path: &Path) -> Option<PathBuf> {
        let mut parts = path.strip_prefix(DESCRIPTORS).ok()?.components();
        let base = self.descriptor(parts.next()?.as_os_str().to_str()?.parse().ok()?)?;
        let rest = parts.as_path();
        // Joining nothing would add a slash.
        Some(if rest == Path::new("") { base } else { base.join(rest) })
    }

    /// The first bytes at an address, as many as can be read at once.
    pub fn bytes(self, address: u64, length: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).ok()?.min(LONGEST_PATH)];
        let count = self.memory()?.read_at(&mut bytes, address).ok()?;
        bytes.truncate(count);
        Some(bytes)
    }

    /// Whether a descriptor is a TCP connection to that server.
    pub fn is_connected_to(self, fd: u64, server: SocketAddr) -> bool {
        let SocketAddr::V4(server) = server else { return false };
        let socket = fs::read_link(self.proc(&format!("fd/{}", as_descriptor(fd)))).unwrap_or_default();
        let Some(inode) = socket.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']')) else {
            return false;
        };
        let peer = format!("{:08X}:{:04X}", u32::from_ne_bytes(server.ip().octets()), server.port());
        let table = fs::read_to_string(self.proc("net/tcp")).unwrap_or_default();
        table.lines().any(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            columns.get(2) == Some(&&*peer) && columns.get(9) == Some(&inode)
        })
    }

    /// A number at an address.
    pub fn number(self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.memory()?.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_ne_bytes(bytes))
    }

    /// Replaces the number at an address.
    pub fn write(self, address: u64, number: u64) -> io::Result<()> {
        File::options().write(true).open(self.proc("mem"))?.write_all_at(&number.to_ne_bytes(), address)
    }

    fn memory(self) -> Option<File> {
        File::open(self.proc("mem")).ok()
    }

    fn proc(self, below: &str) -> PathBuf {
        format!("/proc/{}/{below}", self.0).into()
    }
}

/// Descriptors are passed in 32 bits; the others are undefined.
fn as_descriptor(argument: u64) -> i32 {
    let [a, b, c, d, ..] = argument.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

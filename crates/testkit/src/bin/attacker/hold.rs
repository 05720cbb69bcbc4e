//! A container that keeps whatever it can get.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::net::SendFlags;
use svid_csi_testkit::pass;

/// More than a pod may have.
const CONNECTIONS: usize = 96;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// No attempt to write waits longer, whatever the driver reads.
const PATIENCE: Duration = Duration::from_millis(200);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Types of HTTP/2 frames (RFC 9113, section 6).
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

pub(crate) fn hold(volume: &Path, held: &Path, until: &Path) -> Result<()> {
    std::env::set_current_dir(volume).context("the volume is missing")?;
    if Path::new("..data").is_dir() {
        std::env::set_current_dir("..data")?;
    }
    let (files, sockets) = found(volume)?;
    let files: Vec<_> = files.iter().flat_map(File::open).collect();
    for file in &files {
        // Another container of the volume may hold it.
        let _ = flock(file, FlockOperation::NonBlockingLockExclusive);
    }
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let Some(socket) = sockets.get(number % sockets.len().max(1)) else { break };
        connections.extend(connect(socket, number));
    }
    fs::write(held, "").context("cannot report")?;
    while !until.exists() {
        thread::sleep(LOOK_EVERY);
    }
    fs::remove_file(held)?;
    Ok(())
}

/// Files and folders to open, and sockets.
fn found(volume: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let data = volume.join("..data");
    let folders = [volume, data.as_path()];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let is_socket = |path: &PathBuf| fs::metadata(path).is_ok_and(|known| known.file_type().is_socket());
    let (sockets, mut files): (Vec<_>, Vec<_>) = entries.map(|entry| entry.path()).partition(is_socket);
    files.extend(folders.map(Path::to_owned));
    Ok((files, sockets))
}

/// A connection with one of several kinds of content. The driver may end it at any time.
fn connect(socket: &Path, number: usize) -> Option<(UnixStream, Option<OwnedFd>)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let mut passed = None;
    let _ = match number % 6 {
        0 => Ok(()),
        1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"),
        2 => pass_many(&stream, &mut passed),
        3 => stream.write_all(&huge_headers()),
        4 => stream.write_all(&pings()),
        _ => stream.write_all(&[0xff; 1 << 16]),
    };
    Some((stream, passed))
}

/// Descriptors, as long as the socket accepts them.
fn pass_many(stream: &UnixStream, passed: &mut Option<OwnedFd>) -> std::io::Result<()> {
    let (one, other) = UnixStream::pair()?;
    for bytes in std::iter::once(PREFACE).chain(std::iter::repeat_n(b"x".as_slice(), 64)) {
        pass(stream, bytes, SendFlags::DONTWAIT, &one)?;
    }
    *passed = Some(other.into());
    Ok(())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn begin() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A header of a megabyte, which does not end.
fn huge_headers() -> Vec<u8> {
    let part = [b'a'; 16_000];
    let mut all = begin();
    // A literal field with a new name whose length is beyond all limits (RFC 7541, 6.2.2 and 5.1).
    all.extend(frame(HEADERS, 0, 1, &[&[0, 0x7f, 0xff, 0xff, 0xff, 0x0f], &part[..]].concat()));
    all.extend((0..64).flat_map(|_| frame(CONTINUATION, 0, 1, &part)));
    all
}

/// Each wants an answer, which is never read.
fn pings() -> Vec<u8> {
    let mut all = begin();
    all.extend((0..20_000).flat_map(|_| frame(PING, 0, 0, b"hostile!")));
    all
}

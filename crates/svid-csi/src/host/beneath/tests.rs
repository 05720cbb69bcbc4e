use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use super::*;

/// A folder, and beside it a folder that must stay out of reach.
fn scene() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("inside")).unwrap();
    fs::create_dir_all(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/secret"), "secret").unwrap();
    let folder = Folder::open(&dir.path().join("inside"), false).unwrap();
    (dir, folder)
}

fn much_later() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

#[test]
fn no_link_leads_out() {
    let (dir, folder) = scene();
    symlink("../outside", dir.path().join("inside/way")).unwrap();
    symlink("../outside/secret", dir.path().join("inside/file")).unwrap();
    assert!(folder.folder("way").is_err() && folder.folder("..").is_err() && folder.folder("way/.").is_err());
    assert!(folder.read("file", 100).is_err() && folder.read("../outside/secret", 100).is_err());
    assert!(folder.create("file", b"x", 0o400, None).is_err() && folder.create("way/new", b"x", 0o400, None).is_err());
    assert_eq!(folder.link("way").unwrap().unwrap(), "../outside");
    folder.remove("way").unwrap();
    folder.clear(much_later()).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("outside/secret")).unwrap(), "secret");
}

#[test]
fn only_regular_files_of_limited_size_are_read() {
    let (dir, folder) = scene();
    rustix::fs::mkfifoat(&folder, "fifo", Mode::from_raw_mode(0o600)).unwrap();
    fs::write(dir.path().join("inside/large"), "12345").unwrap();
    assert!(folder.read("fifo", 100).is_err() && folder.read("large", 4).is_err());
    assert_eq!(folder.read("large", 5).unwrap().as_slice(), b"12345");
}

#[test]
fn all_content_is_removed_at_any_depth() {
    let (dir, folder) = scene();
    let mut deepest = Folder::open(&dir.path().join("inside"), false).unwrap();
    for _ in 0..3_000 {
        deepest = deepest.create_folder("d", 0o700).unwrap();
        symlink(dir.path().join("outside"), deepest.through_descriptor("link")).unwrap();
    }
    deepest.create("..moved.2", b"in the way", 0o400, None).unwrap();
    folder.create("..moved.1", b"in the way", 0o400, None).unwrap();
    folder.clear(much_later()).unwrap();
    assert!(folder.names().unwrap().is_empty());
    assert!(dir.path().join("outside/secret").exists());
}

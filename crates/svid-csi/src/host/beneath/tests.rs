use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

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

fn much_time() -> Budget {
    Budget::of(Duration::from_secs(600))
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
    folder.clear(&mut much_time()).unwrap();
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
    folder.clear(&mut much_time()).unwrap();
    assert!(folder.names().unwrap().is_empty());
    assert!(dir.path().join("outside/secret").exists());
}

/// However the entries are spread over folders: one removal, and several within one budget.
#[test]
fn a_removal_gives_up_after_few_entries_once_its_time_is_over() {
    let (dir, folder) = scene();
    let made = ["a", "b"].map(|top| dir.path().join("inside").join(top));
    for inner in made.iter().flat_map(|top| (0..10).map(move |number| top.join(number.to_string()))) {
        fs::create_dir_all(&inner).unwrap();
        (0..100).for_each(|number| fs::write(inner.join(number.to_string()), "").unwrap());
    }
    let files = || -> usize {
        let inner = made.iter().filter(|top| top.exists()).flat_map(|top| fs::read_dir(top).unwrap());
        inner.map(|inner| fs::read_dir(inner.unwrap().path()).unwrap().count()).sum()
    };
    let mut budget = Budget::of(Duration::ZERO);
    for top in ["a", "b"] {
        let error = folder.remove_within(top, &mut budget).unwrap_err();
        assert!(error.to_string().contains("empty"), "{error}");
    }
    let removed = 2000 - files();
    assert!((200..=256).contains(&removed), "{removed} files removed");
    while folder.remove_within("a", &mut Budget::of(Duration::ZERO)).is_err() {}
    folder.remove_within("b", &mut much_time()).unwrap();
    assert!(folder.names().unwrap().is_empty());
}

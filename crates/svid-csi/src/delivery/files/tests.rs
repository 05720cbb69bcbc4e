use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use svid_csi_core::files::FileName;
use svid_csi_testkit::TestName;

use super::*;
use crate::delivery::folder_content::{self, FolderContent};
use crate::telemetry::captured_log::CapturedLog;

fn file(name: &str, contents: &str) -> RenderedFile {
    RenderedFile { name: FileName::parse(name).unwrap(), contents: contents.as_bytes().to_vec().into() }
}

/// Runs a test with the folder of a volume on a tmpfs, beside a folder that must stay out of reach.
fn with_volume(body: impl FnOnce(&Path, &VolumeFolder)) {
    svid_csi_testkit::in_mount_ns_as(&TestName::of(&body), || {
        let dir = tempfile::tempdir().unwrap();
        rustix::mount::mount("t", dir.path(), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        for folder in ["v", "other"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("other/secret"), "secret").unwrap();
        let folders = Folder::open(dir.path(), false).unwrap();
        let device = crate::host::mount::file_id(&folders.stat_self().unwrap()).device;
        body(&dir.path().join("v"), &VolumeFolder::open(&folders, "v", device, None).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("other/secret")).unwrap(), "secret");
        rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

fn shows(volume: &VolumeFolder) -> Vec<(String, String)> {
    let FolderContent::Files(delivered) = folder_content::look(volume).unwrap() else {
        panic!("{:?}", folder_content::look(volume))
    };
    let text = |file: RenderedFile| (file.name.as_str().to_owned(), String::from_utf8(file.contents.to_vec()).unwrap());
    let mut files: Vec<_> = delivered.files().unwrap().into_iter().map(text).collect();
    files.sort();
    files
}

#[test]
fn a_clock_that_reads_the_same_twice_writes_into_another_folder() {
    with_volume(|path, volume| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        install(volume, &[file("a", "1")], None, now).unwrap();
        let first = fs::read_link(path.join("..data")).unwrap();
        install(volume, &[file("a", "2")], None, now).unwrap();
        assert_ne!(fs::read_link(path.join("..data")).unwrap(), first);
        assert_eq!(shows(volume), [("a".to_owned(), "2".to_owned())]);
        assert_eq!(fs::read_dir(path).unwrap().count(), 3, "a, ..data and one folder");
    });
}

#[test]
fn every_change_by_a_pod_is_detected_and_reverted() {
    type Attack = fn(&Path);
    let attacks: [(&str, Attack); 10] = [
        ("..data is not a link", |path| {
            fs::remove_file(path.join("..data")).unwrap();
            symlink("../other", path.join("..data")).unwrap();
        }),
        ("..data is not a link", |path| {
            fs::remove_file(path.join("..data")).unwrap();
            fs::create_dir_all(path.join("..data/a/b")).unwrap();
        }),
        ("..data is a broken link", |path| {
            fs::remove_file(path.join("..data")).unwrap();
            symlink("..1.1", path.join("..data")).unwrap();
            symlink("../other", path.join("..1.1")).unwrap();
        }),
        ("\"secret\" is not a delivered file", |path| {
            symlink("../../other/secret", path.join("..data/secret")).unwrap();
        }),
        ("\"a\" is not a delivered file", |path| {
            fs::remove_file(path.join("..data/a")).unwrap();
            fs::hard_link(path.parent().unwrap().join("other/secret"), path.join("..data/a")).unwrap();
        }),
        ("\"a\" is not a delivered file", |path| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            fs::set_permissions(path.join("..data/a"), mode).unwrap();
        }),
        ("\"a\" is not a link to its file", |path| {
            fs::remove_file(path.join("a")).unwrap();
            symlink("../other/secret", path.join("a")).unwrap();
        }),
        ("\"a\" is not a link to its file", |path| {
            fs::remove_file(path.join("a")).unwrap();
            fs::create_dir_all(path.join("a/deep/er")).unwrap();
        }),
        ("\"more\\n\" was added", |path| fs::write(path.join("more\n"), "x").unwrap()),
        ("\"..link\" was added", |path| symlink("../other", path.join("..link")).unwrap()),
    ];
    for (number, (seen, attack)) in attacks.into_iter().enumerate() {
        with_volume(|path, volume| {
            install(volume, &[file("a", "1"), file("b", "2")], None, SystemTime::UNIX_EPOCH).unwrap();
            attack(path);
            let FolderContent::Changed(how) = folder_content::look(volume).unwrap() else {
                panic!("{number} was not seen")
            };
            assert!(how.contains(seen), "{number}: {how}");
            install(volume, &[file("a", "3")], None, SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(shows(volume), [("a".to_owned(), "3".to_owned())], "{number}");
            assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "3");
            assert_eq!(fs::read_dir(path).unwrap().count(), 3, "{number}");
        });
    }
}

#[test]
fn a_name_whose_file_is_missing_is_not_a_change_by_the_pod() {
    with_volume(|path, volume| {
        install(volume, &[file("a", "1")], None, SystemTime::UNIX_EPOCH).unwrap();
        // The state after a kill between creating the names and the files they lead to.
        symlink("..data/b", path.join("b")).unwrap();
        assert_eq!(shows(volume), [("a".to_owned(), "1".to_owned())]);
        install(volume, &[file("c", "3")], None, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(fs::read_dir(path).unwrap().count(), 3);
    });
}

/// A process of the pod with a descriptor of its folder, in which the driver has opened the seal.
#[test]
fn a_pod_that_keeps_adding_files_does_not_hold_the_driver() {
    use std::sync::atomic::{AtomicBool, Ordering};
    with_volume(|path, volume| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let ended = AtomicBool::new(false);
        let fill = |writer: usize| {
            for number in 0_usize.. {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let _ = fs::File::create(path.join(format!("{writer}-{number}")));
            }
        };
        std::thread::scope(|scope| {
            let fill = &fill;
            (0..4).for_each(|writer| drop(scope.spawn(move || fill(writer))));
            // Foreign files are removed, as far as possible in the available time.
            install(volume, &[file("a", "1")], None, now).unwrap();
            ended.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "1", "the pod has it");
        // Each attempt removes more of them.
        loop {
            install(volume, &[file("a", "2")], None, now).unwrap();
            if fs::read_dir(path).unwrap().count() == 3 {
                break;
            }
        }
        assert_eq!(shows(volume), [("a".to_owned(), "2".to_owned())]);
    });
}

/// Others wait for the space on the node meanwhile.
#[test]
fn a_pod_that_keeps_filling_the_next_link_delays_a_delivery_only_shortly() {
    use std::sync::atomic::{AtomicBool, Ordering};
    with_volume(|path, volume| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        install(volume, &[file("a", "1")], None, now).unwrap();
        let (next, ended) = (path.join(NEXT), AtomicBool::new(false));
        let fill = |writer: usize| {
            let _ = fs::create_dir(&next);
            for number in 0_usize.. {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let _ = fs::create_dir(&next);
                let _ = fs::File::create(next.join(format!("{writer}-{number}")));
            }
        };
        std::thread::scope(|scope| {
            let fill = &fill;
            // What the pod has made in the moment in which the seal was open.
            volume.change(|_| fs::create_dir(&next).map_err(FsError::of("create", &next))).unwrap();
            (0..4).for_each(|writer| drop(scope.spawn(move || fill(writer))));
            let (begin, slow) = (std::time::Instant::now(), Duration::from_secs(4));
            let _ = install(volume, &[file("a", "2")], None, now);
            let took = begin.elapsed();
            ended.store(true, Ordering::Relaxed);
            assert!(took < slow, "{took:?}: twice 200 ms, and what the machine adds");
        });
        while install(volume, &[file("a", "3")], None, now).is_err() {}
        assert_eq!(shows(volume), [("a".to_owned(), "3".to_owned())]);
    });
}

/// Otherwise it would not be recorded, and its renewal would come too late.
#[test]
fn former_files_that_cannot_be_removed_do_not_fail_a_delivery() {
    let log = CapturedLog::start();
    with_volume(|path, volume| {
        let stuck = path.join("..1.000000001");
        fs::create_dir(&stuck).unwrap();
        rustix::mount::mount("t", &stuck, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        install(volume, &[file("a", "1")], None, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(shows(volume), [("a".to_owned(), "1".to_owned())]);
        assert_eq!(log.lines("cannot remove former files from a volume").len(), 1);
        rustix::mount::unmount(&stuck, rustix::mount::UnmountFlags::empty()).unwrap();
        install(volume, &[file("a", "2")], None, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(fs::read_dir(path).unwrap().count(), 3, "a, ..data and one folder");
    });
}

#[test]
fn a_failed_rollback_does_not_hide_why_the_delivery_failed() {
    let log = CapturedLog::start();
    with_volume(|path, volume| {
        install(volume, &[file("a", "1")], None, SystemTime::UNIX_EPOCH).unwrap();
        let current = path.join("..data");
        fs::remove_file(&current).unwrap();
        symlink("..1.1", &current).unwrap();
        let next = path.join("..data_tmp");
        fs::create_dir(&next).unwrap();
        rustix::mount::mount("t", &next, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        let error = install(volume, &[file("b", "2")], None, SystemTime::UNIX_EPOCH).unwrap_err();
        assert!(error.path.ends_with("..data_tmp"), "{error:?}");
        assert_eq!(log.lines("cannot remove undelivered files from a volume").len(), 1);
    });
}

/// Keeps code that accesses volumes by path from being added again: deliveries access their files only by descriptors.
#[test]
fn no_path_leads_into_a_volume() {
    for (name, source) in [
        ("host/beneath.rs", include_str!("../../host/beneath.rs")),
        ("host/beneath/removal.rs", include_str!("../../host/beneath/removal.rs")),
        ("delivery/files.rs", include_str!("../files.rs")),
        ("delivery/folders.rs", include_str!("../folders.rs")),
        ("delivery/folder_content.rs", include_str!("../folder_content.rs")),
        ("delivery/volume_folder.rs", include_str!("../volume_folder.rs")),
        ("delivery/workload_api/socket.rs", include_str!("../workload_api/socket.rs")),
        ("node/volume/changed.rs", include_str!("../../node/volume/changed.rs")),
        ("node/volume/condition.rs", include_str!("../../node/volume/condition.rs")),
        ("node/volume/deliver.rs", include_str!("../../node/volume/deliver.rs")),
    ] {
        for banned in ["std::fs::", "use std::fs;", " fs::read", "rustix::fs::CWD", "canonicalize"] {
            let allowed = source.lines().filter(|line| *line == "use std::fs::File;");
            let found = source.matches(banned).count() - allowed.filter(|line| line.contains(banned)).count();
            assert_eq!(found, 0, "{name} uses {banned}");
        }
    }
}

use std::fs;
use std::future::Future;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{CurrentBundle, pem};
use crate::source::trust_bundle::{BundleSource, start};
use crate::tasks::Tasks;
use crate::telemetry::captured_log::CapturedLog;
use crate::telemetry::metrics::Metrics;

fn follow(path: &Path) -> CurrentBundle {
    start(BundleSource::File(path.to_owned()), None, &Metrics::default(), &Tasks::default()).unwrap()
}

fn has_one(current: &CurrentBundle) -> bool {
    current.bundle.borrow().is_some()
}

/// A folder, and a followed bundle in it.
fn followed() -> (TempDir, PathBuf, CurrentBundle) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("certs/ca.crt");
    fs::create_dir(dir.path().join("certs")).unwrap();
    fs::write(&file, pem()).unwrap();
    let current = follow(&file);
    assert!(has_one(&current), "it was read before anything else");
    (dir, file, current)
}

fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

/// Fails instead of waiting forever.
async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(60), test).await.expect("the change was not noticed")
}

#[tokio::test]
async fn files_are_followed_in_every_way_of_replacing_them() {
    let (dir, file, mut current) = followed();
    in_time(async {
        let (a, b, c, d) = (pem(), pem(), pem(), pem());
        fs::write(&file, &a).unwrap();
        current.becomes(&a).await;
        replace(&file, &b);
        current.becomes(&b).await;
        fs::rename(dir.path().join("certs"), dir.path().join("old")).unwrap();
        current.troubled("No such file").await;
        fs::create_dir(dir.path().join("certs")).unwrap();
        fs::write(&file, &c).unwrap();
        current.becomes(&c).await;
        fs::remove_file(&file).unwrap();
        current.troubled("No such file").await;
        assert!(has_one(&current), "the last good one stays");
        let mut slowly = fs::File::create(&file).unwrap();
        for part in d.as_bytes().chunks(100) {
            slowly.write_all(part).unwrap();
        }
        drop(slowly);
        current.becomes(&d).await;
        current.untroubled().await;
    })
    .await;
}

#[tokio::test]
async fn a_kubernetes_volume_is_followed_through_its_links() {
    let dir = tempfile::tempdir().unwrap();
    let publish = |stamp: &str, pem: &str| {
        fs::create_dir(dir.path().join(stamp)).unwrap();
        fs::write(dir.path().join(stamp).join("ca.crt"), pem).unwrap();
        symlink(stamp, dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    };
    let (a, b) = (pem(), pem());
    publish("..1", &a);
    symlink("..data/ca.crt", dir.path().join("ca.crt")).unwrap();
    let mut current = follow(&dir.path().join("ca.crt"));
    assert!(has_one(&current));
    publish("..2", &b);
    in_time(current.becomes(&b)).await;
}

#[tokio::test]
async fn a_file_behind_a_link_to_elsewhere_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (elsewhere, link) = (dir.path().join("elsewhere/ca.pem"), dir.path().join("certs/ca.crt"));
    for file in [&elsewhere, &link] {
        fs::create_dir(file.parent().unwrap()).unwrap();
    }
    fs::write(&elsewhere, pem()).unwrap();
    symlink(&elsewhere, &link).unwrap();
    let mut current = follow(&link);
    for replace in [|file: &Path, text: &str| fs::write(file, text).unwrap(), replace] {
        let next = pem();
        replace(&elsewhere, &next);
        in_time(current.becomes(&next)).await;
    }
}

#[tokio::test]
async fn a_file_may_appear_with_all_the_folders_above_it() {
    let log = CapturedLog::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a/b/c/ca.crt");
    let mut current = follow(&file);
    assert!(!has_one(&current));
    let lines = log.lines(file.to_str().unwrap());
    assert!(
        lines.len() == 1 && lines[0].contains("the trust bundle is invalid and no earlier one exists"),
        "{lines:?}"
    );
    in_time(async {
        let good = pem();
        for folder in ["a", "a/b", "a/b/c"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
            // Lets it notice, so that it has to wait for the next one.
            tokio::task::yield_now().await;
        }
        replace(&file, &good);
        current.becomes(&good).await;
    })
    .await;
}

#[tokio::test]
async fn a_broken_file_is_reported_once_and_the_last_bundle_kept() {
    let log = CapturedLog::start();
    let (dir, file, mut current) = followed();
    in_time(async {
        let first = fs::read_to_string(&file).unwrap();
        current.bundle.mark_unchanged();
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for name in ["a", "b"] {
            replace(&file, &format!("# {name}\n{key}"));
            current.troubled("the trust bundle holds a private key (PEM block 1)").await;
            fs::write(dir.path().join("certs").join(name), "").unwrap();
        }
        replace(&file, "");
        current.troubled("the trust bundle has no certificate").await;
        replace(&file, &first);
        current.untroubled().await;
        assert!(!current.bundle.has_changed().unwrap(), "it is what it was before");
        let commented = format!("# the same\n{first}");
        replace(&file, &commented);
        current.becomes(&commented).await;
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        current.troubled("it is not a file").await;
    })
    .await;
    let of_key = log.lines("private key (PEM block 1)");
    assert!(of_key.len() == 1 && of_key[0].contains("using the last good one"), "{of_key:?}");
    assert!(of_key[0].contains(file.to_str().unwrap()) && of_key[0].contains("--source-ca-bundle"), "{of_key:?}");
    assert_eq!(log.lines("the trust bundle has no certificate").len(), 1);
}

#[tokio::test]
async fn a_ca_key_beside_the_bundle_causes_a_warning() {
    let log = CapturedLog::start();
    let (dir, file, mut current) = followed();
    let warnings = || log.lines("the CA's private key is on this node").len();
    assert_eq!(warnings(), 0);
    let key = dir.path().join("certs/tls.key");
    in_time(async {
        for expected in [1, 1, 2] {
            if expected == 2 {
                fs::remove_file(&key).unwrap();
                let without = pem();
                replace(&file, &without);
                current.becomes(&without).await;
            }
            fs::write(&key, "a key").unwrap();
            let next = pem();
            replace(&file, &next);
            current.becomes(&next).await;
            assert_eq!(warnings(), expected);
        }
    })
    .await;
    let _again = follow(&file);
    assert_eq!(warnings(), 3, "a start tells it at once");
}

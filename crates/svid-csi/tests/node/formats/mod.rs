//! local-ca -> files, in every format.

pub(crate) mod layouts;
mod passwords;
pub(crate) mod store;
pub(crate) mod tokens;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_core::bundle_document::BundleDocument;
use svid_csi_core::identity::PrivateKey;

use self::store::opens;
use self::tokens::{bundles, subject};
use crate::endpoints::{metric, renew_all};
use crate::fixture::{Node, serial, svid, test, until, volume};

const ADMIN: &str = "--admin-socket={dir}/admin.sock";

/// A volume with every possible file.
fn everything(pod: &str) -> InlineVolume {
    let attributes = [
        ("audience", "vault, spiffe://example.org/db"),
        ("file-token", "vault.jwt,db.jwt"),
        ("file-combined", "both.pem"),
        ("file-pkcs12", "key.p12"),
        ("file-pkcs12-bundle", "trust.p12"),
        ("file-bundle-json", "bundle.json"),
    ];
    attributes.iter().fold(volume(pod), |volume, (name, value)| volume.attribute(&format!("svid-csi/{name}"), value))
}

const FILES: [&str; 10] = [
    "both.pem",
    "bundle.json",
    "ca.crt",
    "db.jwt",
    "jwt_bundles.json",
    "key.p12",
    "tls.crt",
    "tls.key",
    "trust.p12",
    "vault.jwt",
];

fn names(target: &Path) -> Vec<String> {
    let entries = fs::read_dir(target).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|name| !name.starts_with("..")).collect();
    names.sort();
    names
}

fn contents(target: &Path) -> Vec<Vec<u8>> {
    FILES.iter().map(|name| fs::read(target.join(name)).unwrap()).collect()
}

/// All files in the volume belong together if they are read through one resolution of `..data`.
fn agrees(target: &Path) -> bool {
    let Ok(now) = fs::canonicalize(target.join("..data")) else { return false };
    let files: Option<Vec<_>> = FILES.iter().map(|name| fs::read(now.join(name)).ok()).collect();
    let Some(files) = files else { return false };
    let file = |name: &str| files[FILES.iter().position(|known| *known == name).unwrap()].as_slice();
    let both = file("both.pem");
    assert_eq!(both, [file("tls.crt"), file("tls.key")].concat());
    let key = PrivateKey::from_pem(std::str::from_utf8(file("tls.key")).unwrap()).unwrap();
    assert!(opens(file("key.p12"), "changeit") && opens(file("trust.p12"), "changeit"));
    let bundles = bundles(file("jwt_bundles.json"));
    for (name, audience) in [("vault.jwt", "vault"), ("db.jwt", "spiffe://example.org/db")] {
        assert_eq!(subject(file(name), audience, &bundles), "spiffe://example.org/ns/shop/sa/web");
    }
    let document = BundleDocument::read(file("bundle.json")).unwrap();
    assert_eq!((document.anchors.len(), &document.jwt), (1, &**bundles.values().next().unwrap()));
    !key.der().is_empty()
}

#[test]
fn all_formats_exist_and_change_together() {
    test(async || {
        let node = Node::files(&[ADMIN]).await;
        let target = node.publish(&everything("web")).await;
        assert_eq!(names(&target), FILES);
        for name in FILES {
            let mode = fs::metadata(target.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o440, "{name}");
        }
        assert!(agrees(&target));
        let before = contents(&target);
        node.publish(&everything("web")).await;
        assert_eq!(contents(&target), before, "a republish changes nothing");
        for _ in 0..5 {
            let last = serial(&target);
            renew_all(&node).await;
            until("everything is renewed", async || agrees(&target) && serial(&target) != last).await;
        }
        for name in ["bundle.json", "ca.crt", "jwt_bundles.json"] {
            let index = FILES.iter().position(|known| *known == name).unwrap();
            assert_eq!(contents(&target)[index], before[index], "{name} says the same");
        }
        assert_eq!(names(&target), FILES);
        node.unpublish(&everything("web")).await;
    });
}

#[test]
fn a_full_tmpfs_keeps_everything() {
    test(async || {
        let node = Node::files(&["--data-size-limit=1Mi", ADMIN, "--metrics-address=127.0.0.1:0"]).await;
        let target = node.publish(&everything("web")).await;
        let before = contents(&target);
        let filler = node.path("root/data/filler");
        let _ = fs::write(&filler, vec![0; 2 << 20]);
        renew_all(&node).await;
        until("the failure is counted", async || metric(&node, "renewal_failures_total").await == Some(1.0)).await;
        assert_eq!(contents(&target), before);
        fs::remove_file(filler).unwrap();
        renew_all(&node).await;
        until("everything is renewed", async || agrees(&target) && contents(&target) != before).await;
    });
}

#[test]
fn a_volume_may_request_other_files_later() {
    test(async || {
        let node = Node::files(&[]).await;
        let target = node.publish(&everything("web")).await;
        let fewer = volume("web").attribute("svid-csi/audience", "vault");
        assert_eq!(node.publish(&fewer).await, target);
        assert_eq!(names(&target), ["ca.crt", "jwt_bundles.json", "jwt_svid_0.token", "tls.crt", "tls.key"]);
        svid(&target);
    });
}

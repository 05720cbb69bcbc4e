//! Over files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use svid_csi_proto::workload::X509svid;
use svid_csi_testkit::agent::{Agent, Entry};

use crate::fixture::{WatchProcess, agent, pod, serial};

/// A folder of files in the layout of the kubelet's writer and the driver.
struct Volume<'a> {
    folder: &'a Path,
    stamp: u32,
}

impl<'a> Volume<'a> {
    fn new(folder: &'a Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        Self { folder, stamp: 0 }
    }

    /// Replaces all files at once.
    fn write(&mut self, files: &[(&str, String)]) {
        self.stamp += 1;
        let stamped = format!("..{}", self.stamp);
        fs::create_dir(self.folder.join(&stamped)).unwrap();
        for (name, contents) in files {
            fs::write(self.folder.join(&stamped).join(name), contents).unwrap();
            let _ = symlink(format!("..data/{name}"), self.folder.join(name));
        }
        symlink(stamped, self.folder.join("..new")).unwrap();
        fs::rename(self.folder.join("..new"), self.folder.join("..data")).unwrap();
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// The agent's identity, with chain and bundle of one certificate each.
fn svid(agent: &Agent) -> X509svid {
    agent.register(&pod("web"), &[Entry::new("spiffe://example.org/workload")]);
    agent.response(&pod("web")).svids.remove(0)
}

fn files(svid: &X509svid) -> [(&'static str, String); 3] {
    [
        ("tls.crt", pem("CERTIFICATE", &svid.x509_svid)),
        ("tls.key", pem("PRIVATE KEY", &svid.x509_svid_key)),
        ("ca.crt", pem("CERTIFICATE", &svid.bundle)),
    ]
}

fn watch(folder: &Path, more: &[&str]) -> WatchProcess {
    WatchProcess::start([&["--files", folder.to_str().unwrap()], more].concat())
}

#[test]
fn a_folder_that_does_not_exist_yet_is_followed_through_each_swap() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let folder = dir.path().join("a/b/mount");
    let mut watch = watch(&folder, &[]);
    watch.logs("`tls.crt` cannot be read");
    let mut volume = Volume::new(&folder);
    volume.write(&files(&svid(&agent)));
    let first = watch.update();
    assert_eq!(first["svids"][0]["spiffe_id"], "spiffe://example.org/workload");
    assert_eq!((&first["source"], &first["svids"][0]["bundle"]), (&folder.to_str().unwrap().into(), &1.into()));
    volume.write(&files(&svid(&agent)));
    let second = watch.update();
    assert_ne!(serial(&first), serial(&second));

    fs::rename(&folder, dir.path().join("gone")).unwrap();
    let mut volume = Volume::new(&folder);
    volume.write(&files(&svid(&agent)));
    let third = watch.update();
    assert_eq!(third["update"], 3);
    assert_ne!(serial(&second), serial(&third));
}

#[test]
fn files_that_do_not_belong_together_are_not_an_update() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let folder = dir.path().join("mount");
    let mut volume = Volume::new(&folder);
    let good = files(&svid(&agent));
    let [chain, _, bundle] = good.clone();
    let [_, key, _] = files(&svid(&agent));
    volume.write(&[chain.clone(), key, bundle.clone()]);
    let mut watch = watch(&folder, &[]);
    watch.logs("the private key does not belong to the leaf");
    volume.write(&[chain.clone(), ("tls.key", "no key".to_owned()), bundle]);
    watch.logs("the private key is not readable");
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = crate::fixture::agent(elsewhere.path());
    let [.., foreign] = files(&svid(&stranger));
    volume.write(&[chain, good[1].clone(), foreign]);
    watch.logs("does not lead to the trust bundle");
    volume.write(&good);
    assert_eq!(watch.update()["update"], 1);
}

#[test]
fn names_are_chosen_and_a_bundle_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let [(_, chain), (_, key), _] = files(&svid(&agent));
    fs::write(dir.path().join("svid.pem"), chain).unwrap();
    fs::write(dir.path().join("svid_key.pem"), key).unwrap();
    let watch = watch(dir.path(), &["--file-cert=svid.pem", "--file-key=svid_key.pem", "--once"]);
    let (status, updates, log) = watch.end();
    assert_eq!((status.code(), updates.len()), (Some(0), 1), "{log:#?}");
    assert!(updates[0].contains(r#""bundle":0"#), "{updates:?}");
}

#[test]
fn a_credential_bundle_is_certificate_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let [(_, chain), (_, key), bundle] = files(&svid(&agent));
    let flags = ["--file-cert=bundle.pem", "--file-key=bundle.pem", "--once"];
    fs::write(dir.path().join("bundle.pem"), format!("{key}{chain}")).unwrap();
    fs::write(dir.path().join(bundle.0), bundle.1).unwrap();
    let (status, updates, log) = watch(dir.path(), &flags).end();
    assert_eq!((status.code(), updates.len()), (Some(0), 1), "{log:#?}");
    fs::write(dir.path().join("bundle.pem"), &key).unwrap();
    let (status, _, log) = watch(dir.path(), &[&flags[..], &["--timeout=100ms"]].concat()).end();
    assert_eq!(status.code(), Some(1));
    assert!(log.last().unwrap().contains("`bundle.pem` is not PEM text with certificates"), "{log:#?}");
}

#[test]
fn once_reports_missing_files() {
    let dir = tempfile::tempdir().unwrap();
    let (status, updates, log) = watch(dir.path(), &["--once", "--timeout=100ms"]).end();
    assert_eq!((status.code(), updates.len()), (Some(1), 0));
    assert!(log.last().unwrap().contains("`tls.crt` cannot be read: No such file"), "{log:#?}");
}

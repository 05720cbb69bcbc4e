//! spiffe-helper on a socket of the driver, and what the driver writes itself for the same settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::agent::Entry;

use super::{Program, built};
use crate::broker::scene::{FILES, SOCKET, Scene, id, scene_test};
use crate::fixture::{pod, until};
use crate::formats::tokens::{bundles, subject};

const LIMIT: Duration = Duration::from_secs(60);

/// The settings of spiffe-helper, and the attributes that docs/files.md says are the same.
const SAME: &[(&str, &[(&str, &str)])] = &[
    ("", &[("layout", "spiffe-helper")]),
    (
        "svid_file_name = \"a.crt\"\nsvid_key_file_name = \"a.key\"\nsvid_bundle_file_name = \"ca.pem\"",
        &[("file-cert", "a.crt"), ("file-key", "a.key"), ("file-bundle", "ca.pem")],
    ),
    ("add_intermediates_to_bundle = true", &[("layout", "spiffe-helper"), ("intermediates", "with-bundle")]),
    ("include_federated_domains = true", &[("layout", "spiffe-helper"), ("federated", "merged")]),
    ("hint = \"internal\"", &[("layout", "spiffe-helper"), ("hint", "internal")]),
    (
        "jwt_svids = [{jwt_audience = \"vault\", jwt_svid_file_name = \"vault.jwt\"}]\njwt_bundle_file_name = \"keys.json\"",
        &[
            ("layout", "spiffe-helper"),
            ("audience", "vault"),
            ("file-token", "vault.jwt"),
            ("file-jwt-bundle", "keys.json"),
        ],
    ),
];
/// The names in spiffe-helper's documentation; it has no defaults.
const NAMES: [&str; 3] = [
    "svid_file_name = \"svid.pem\"",
    "svid_key_file_name = \"svid_key.pem\"",
    "svid_bundle_file_name = \"svid_bundle.pem\"",
];

/// One case of the table.
struct Case {
    settings: &'static str,
    /// The name of the file with the certificate.
    certificate: &'static str,
    helper: Program,
    /// The folder of spiffe-helper.
    helped: PathBuf,
    /// The driver's volume.
    driven: PathBuf,
}

impl Case {
    async fn start(scene: &Scene, number: usize, program: &Path, socket: &Path) -> Self {
        let (settings, attributes) = SAME[number];
        let helped = scene.node.path(&format!("helped-{number}"));
        fs::create_dir(&helped).unwrap();
        let renamed = settings.contains("a.crt");
        let (named, certificate) = if renamed { (String::new(), "a.crt") } else { (NAMES.join("\n"), "svid.pem") };
        let config = format!(
            "agent_address = \"{}\"\ncert_dir = \"{}\"\n{named}\n{settings}\n",
            socket.display(),
            helped.display()
        );
        let path = scene.node.path(&format!("helper-{number}.conf"));
        fs::write(&path, config).unwrap();
        let helper =
            Program::start(&scene.node, &format!("helper-{number}"), Command::new(program).arg("-config").arg(path));
        let volume = InlineVolume::new(&pod("web"), &format!("files-{number}"));
        // The helper leaves other trust domains out unless it is asked to merge them.
        let separate =
            if settings.contains("federated") { volume } else { volume.attribute("svid-csi/federated", "none") };
        let volume = attributes
            .iter()
            .fold(separate, |volume, (name, value)| volume.attribute(&format!("svid-csi/{name}"), value));
        Self { settings, certificate, helper, helped, driven: scene.node.publish(&volume).await }
    }

    /// Why the two folders differ, if they do.
    fn difference(&self) -> Option<String> {
        let Ok(now) = fs::canonicalize(self.driven.join("..data")) else { return Some("no files".to_owned()) };
        let names = |folder: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            names
        };
        let (theirs, ours) = (names(&self.helped), names(&now));
        if theirs != ours {
            return Some(format!("{theirs:?} and {ours:?}"));
        }
        let read = |folder: &Path, name: &str| fs::read(folder.join(name)).unwrap_or_default();
        let differs = |name: &&std::ffi::OsString| {
            let name = name.to_str().unwrap();
            let (theirs, ours) = (read(&self.helped, name), read(&now, name));
            match name {
                // Half-written files of spiffe-helper have no last character.
                "keys.json" => !theirs.ends_with(b"}") || !accepts(&theirs, &read(&now, "vault.jwt")),
                "vault.jwt" => !accepts(&read(&now, "keys.json"), &theirs),
                _ => theirs != ours,
            }
        };
        ours.iter().find(differs).map(|name| format!("{} is not the same", name.display()))
    }
}

/// Waits until spiffe-helper and the driver have written the same.
async fn all_agree(cases: &[Case], when: &str) {
    for case in cases {
        let mut last = None;
        let agree = async {
            until(&format!("the same files {when}, with {:?}", case.settings), async || {
                last = case.difference();
                last.is_none()
            })
            .await;
        };
        if tokio::time::timeout(LIMIT, agree).await.is_err() {
            panic!("{when}, with {:?}: {last:?}\n{}", case.settings, case.helper.log());
        }
    }
}

/// The number of certificates in a PEM file.
fn blocks(pem: &[u8]) -> usize {
    String::from_utf8_lossy(pem).matches("BEGIN CERTIFICATE").count()
}

/// Whether the token is one of the pod, by these keys.
fn accepts(keys: &[u8], token: &[u8]) -> bool {
    !token.is_empty() && subject(token, "vault", &bundles(keys)) == id("web")
}

#[test]
#[ignore = "needs Go: just consumers"]
fn spiffe_helper_writes_what_the_driver_writes() {
    scene_test(&[FILES, SOCKET, &["--allow-plan=broker:workload-api"]], async |scene| {
        let entries = [Entry::new(&id("web")), Entry::new(&id("web-internal")).hint("internal")];
        scene.agent.register(&pod("web"), &entries);
        let other = TestCa::new("other").bundle_der();
        scene.agent.edit(&pod("web"), |response| {
            _ = response.federated_bundles.insert("spiffe://other.org".to_owned(), other)
        });
        let program = built(&scene.node, "spiffe-helper");
        let socket = InlineVolume::new(&pod("web"), "socket").attribute("svid-csi/delivery", "workload-api");
        let socket = scene.node.publish(&socket).await.join("agent.sock");
        let mut cases = Vec::new();
        for number in 0..SAME.len() {
            cases.push(Case::start(&scene, number, &program, &socket).await);
        }
        all_agree(&cases, "at first").await;
        scene.agent.add_root_with_intermediate();
        all_agree(&cases, "with a second authority").await;
        let chains =
            || -> Vec<_> { cases.iter().map(|case| fs::read(case.helped.join(case.certificate)).ok()).collect() };
        let before = chains();
        scene.agent.rotate(&pod("web"));
        until("spiffe-helper has the next certificates", async || {
            chains().iter().zip(&before).all(|(now, before)| now != before)
        })
        .await;
        all_agree(&cases, "after a rotation").await;
        let with_intermediate = chains().iter().flatten().filter(|chain| blocks(chain) == 2).count();
        assert_eq!(with_intermediate, SAME.len() - 1, "the intermediate is where the settings want it");
    });
}

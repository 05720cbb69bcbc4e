//! local-ca -> files in every layout, on real volumes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi::spiffe::svid::Svid;
use svid_csi_core::bundle_map::BundleMap;
use svid_csi_core::files::{Format, LAYOUTS, Layout, LayoutFile};
use svid_csi_core::spiffe_id::TrustDomain;

use super::{ADMIN, names};
use crate::endpoints::renew_all;
use crate::fixture::{Node, test, until, volume};

const TRUST_DOMAIN: &str = "example.org";

fn in_layout(layout: Layout) -> InlineVolume {
    volume(&format!("web-{layout}")).attribute("svid-csi/layout", &layout.to_string())
}

fn name_of(file: &LayoutFile) -> String {
    let trust_domain = if file.format == Format::BundlePerDomain { TRUST_DOMAIN } else { "" };
    format!("{trust_domain}{}", file.name)
}

/// The names of a layout's files, in the trust domain of these tests.
fn files_of(layout: Layout) -> Vec<String> {
    let mut names: Vec<_> = layout.row().files.iter().map(name_of).collect();
    names.sort();
    names
}

/// The identity that a volume shows, through one resolution of `..data`: what is in several files is the same. Nothing while it
/// is being replaced.
pub(crate) fn identity(target: &Path, layout: Layout) -> Option<Svid> {
    let folder = fs::canonicalize(target.join("..data")).ok()?;
    let (mut chains, mut keys, mut bundles) = (Vec::new(), Vec::new(), Vec::new());
    for file in layout.row().files {
        let contents = fs::read(folder.join(name_of(file))).ok()?;
        let certificates = || -> Vec<CertificateDer<'static>> {
            CertificateDer::pem_slice_iter(&contents).map(Result::unwrap).collect()
        };
        match file.format {
            Format::Chain => chains.push(certificates()),
            Format::Key => keys.push(PrivateKeyDer::from_pem_slice(&contents).unwrap()),
            Format::CredentialBundle => {
                assert!(contents.starts_with(b"-----BEGIN PRIVATE KEY-----\n"));
                chains.push(certificates());
                keys.push(PrivateKeyDer::from_pem_slice(&contents).unwrap());
            }
            Format::Bundle | Format::BundlePerDomain => bundles.push(certificates()),
            Format::BundleMap => {
                let map = BundleMap::read(&contents);
                bundles.push(map.anchors(&TrustDomain::parse(TRUST_DOMAIN).unwrap()).unwrap().to_vec());
            }
            Format::Hints => assert!(contents.starts_with(b"{\n  \"hints\": [\n")),
        }
    }
    assert!(chains.windows(2).all(|two| two[0] == two[1]) && bundles.windows(2).all(|two| two[0] == two[1]));
    assert!(keys.windows(2).all(|two| two[0].secret_der() == two[1].secret_der()));
    let svid = Svid { chain: chains.pop()?, key: keys.pop()?, bundle: bundles.pop()? };
    svid.check_key().unwrap();
    svid.check_chain().unwrap();
    Some(svid)
}

fn serial(target: &Path, layout: Layout) -> String {
    let svid = (0..50).find_map(|_| identity(target, layout)).expect("an identity");
    svid.leaf().unwrap().serial
}

#[test]
fn each_layout_has_its_files_through_renewals_and_a_restart() {
    test(async || {
        let mut node = Node::files(&[ADMIN]).await;
        let mut volumes = Vec::new();
        for row in LAYOUTS {
            let target = node.publish(&in_layout(row.layout)).await;
            assert_eq!(names(&target), files_of(row.layout), "{}", row.name);
            for name in names(&target) {
                let file = fs::metadata(target.join(&name)).unwrap();
                assert_eq!(file.permissions().mode() & 0o7777, 0o440, "{}: {name}", row.name);
            }
            volumes.push((row.layout, serial(&target, row.layout), target));
        }
        renew_all(&node).await;
        for (layout, first, target) in &mut volumes {
            let renewed = async || identity(target, *layout).is_some_and(|svid| svid.leaf().unwrap().serial != *first);
            until("it is renewed", renewed).await;
            assert_eq!(names(target), files_of(*layout));
            *first = serial(target, *layout);
        }
        node.kill();
        node.start().await;
        for (layout, renewed, target) in &volumes {
            node.publish(&in_layout(*layout)).await;
            assert_eq!(serial(target, *layout), *renewed, "a restart changes nothing");
            node.unpublish(&in_layout(*layout)).await;
        }
        assert_eq!(fs::read_dir(node.path("root/data/volumes")).unwrap().count(), 0, "nothing is left");
    });
}

#[test]
fn a_volume_may_ask_for_another_layout_later() {
    test(async || {
        let node = Node::files(&[]).await;
        for row in LAYOUTS.iter().chain(LAYOUTS.iter().rev()) {
            let target = node.publish(&volume("web").attribute("svid-csi/layout", row.name)).await;
            assert_eq!(names(&target), files_of(row.layout), "{}: those before are gone", row.name);
            serial(&target, row.layout);
        }
        let (_, refused) = node.refused(&volume("web").attribute("svid-csi/layout", "nginx")).await;
        let says = "volume attribute svid-csi/layout is \"nginx\", but only `pem`, `spiffe`, `pod-certificate`, `gke`, \
                    `spiffe-helper`, `istio` are possible";
        assert!(refused.contains(says), "{refused}");
    });
}

/// As the documentation of Google Kubernetes Engine has it.
fn from_gke() -> InlineVolume {
    let volume = volume("example-pod").attribute("signerName", "spiffe.gke.io/fleet-svid");
    InlineVolume { read_only: false, ..volume.attribute("trustDomain", "fleet-project/svc.id.goog") }
}

#[test]
fn manifests_written_for_gke_start_here() {
    test(async || {
        let mut node = Node::new(&[&[
            "--source=local-ca",
            "--driver-name=podcertificate.gke.io",
            "--layout=gke",
            "--allow-missing-read-only",
            "--trust-domain=example.org",
            "--data-root={dir}/root",
        ]]);
        node.start().await;
        let target = node.publish(&from_gke()).await;
        let files = [
            "ca_certificates.pem",
            "certificates.pem",
            "credential-bundle.pem",
            "private_key.pem",
            "trust_bundles.json",
        ];
        assert_eq!(names(&target), files);
        serial(&target, Layout::Gke);
    });
}

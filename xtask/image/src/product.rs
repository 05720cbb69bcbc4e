//! The shipped image, in its four configurations.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::arch::Arch;
use crate::image::Image;
use crate::layer::{Entry, Layer, pack};
use crate::linked::Linked;
use crate::notice;

/// The size limit of the layer.
pub const LIMIT: usize = 16 * 1024 * 1024;
/// The path of the licences in the image.
const LICENCES: &str = "usr/share/doc/svid-csi";

/// One entry point of the image: the image name in a manifest selects the driver it gets.
pub struct Configuration {
    /// The name of the image and of the program in it.
    pub name: &'static str,
    title: &'static str,
    user: &'static str,
}

/// The driver under its own name, as a replacement for spiffe-csi, and as replacements for csi-driver-spiffe's driver
/// and approver.
pub const CONFIGURATIONS: [Configuration; 4] = [
    Configuration { name: PROGRAM, title: "svid-csi", user: "" },
    Configuration { name: "spiffe-csi-driver", title: "svid-csi in place of spiffe-csi", user: "" },
    Configuration { name: "cert-manager-csi-driver-spiffe", title: "svid-csi in place of csi-driver-spiffe", user: "" },
    Configuration {
        name: "cert-manager-csi-driver-spiffe-approver",
        title: "svid-csi in place of csi-driver-spiffe's approver",
        // It must not run as root, and the predecessor's chart leaves the user to the image.
        user: "65532",
    },
];

/// The program that all of them run.
const PROGRAM: &str = "svid-csi";

/// The images, named `<repository>/<configuration>:<tag>`.
#[must_use]
pub fn images(repository: &str, tag: &str, revision: Option<&str>) -> Vec<Image> {
    let image = |configuration: &Configuration| Image {
        reference: format!("{repository}/{}:{tag}", configuration.name),
        entrypoint: vec![format!("/bin/{}", configuration.name)],
        user: configuration.user,
        labels: labels(configuration, revision),
    };
    CONFIGURATIONS.iter().map(image).collect()
}

/// The layer they share, as a tar archive.
pub fn layer(repo: &Path, arch: Arch, programs: &Path) -> Result<Vec<u8>> {
    let licence = fs::read_to_string(repo.join("LICENSE")).context("cannot read LICENSE")?;
    let mut layer: Layer = vec![("bin".to_owned(), Entry::Folder(0o755))];
    layer.push((format!("bin/{PROGRAM}"), Entry::Program(programs.join(PROGRAM))));
    let aliases = CONFIGURATIONS.iter().map(|configuration| configuration.name).filter(|name| *name != PROGRAM);
    layer.extend(aliases.map(|name| (format!("bin/{name}"), Entry::Link(PROGRAM.to_owned()))));
    for (at, _) in LICENCES.match_indices('/').chain([(LICENCES.len(), "")]) {
        layer.push((LICENCES[..at].to_owned(), Entry::Folder(0o755)));
    }
    layer.push((format!("{LICENCES}/LICENSE"), Entry::Text(licence)));
    layer.push((format!("{LICENCES}/THIRD-PARTY"), Entry::Text(notice::text(&Linked::read(repo, arch)?)?)));
    let layer = pack(&layer)?;
    ensure!(layer.len() <= LIMIT, "the image has {} bytes, where {LIMIT} are the limit", layer.len());
    Ok(layer)
}

fn labels(configuration: &Configuration, revision: Option<&str>) -> BTreeMap<String, String> {
    let repository = env!("CARGO_PKG_REPOSITORY");
    let fixed = [
        ("title", configuration.title),
        ("description", "SPIFFE identities for Kubernetes pods through a CSI volume"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("licenses", env!("CARGO_PKG_LICENSE")),
        ("url", repository),
        ("source", repository),
    ];
    let labels = fixed.into_iter().chain(revision.map(|revision| ("revision", revision)));
    labels.map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.to_owned())).collect()
}

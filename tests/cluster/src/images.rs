//! The container images of the tests, built from static programs and loaded into containerd.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use svid_csi_image::arch::Arch;
use svid_csi_image::image::Image;
use svid_csi_image::layer::{Entry, Layer, pack};
use svid_csi_image::{compile, docker, product, sha256};

use crate::files;
use crate::layout::Layout;
use crate::peers;
use crate::tools::{self, Tools};

/// A shell and its tools; also the sandbox of pods.
pub const BUSYBOX: &str = "svid-csi.test/busybox:e2e";
/// The driver, under its own name.
pub const DRIVER: &str = "svid-csi.test/svid-csi:e2e";
/// The driver in place of `spiffe-csi`.
pub const SPIFFE_CSI: &str = "svid-csi.test/spiffe-csi-driver:e2e";
/// The driver in place of `csi-driver-spiffe`.
pub const CSI_DRIVER_SPIFFE: &str = "svid-csi.test/cert-manager-csi-driver-spiffe:e2e";
/// The approver in place of that of `csi-driver-spiffe`.
pub const APPROVER: &str = "svid-csi.test/cert-manager-csi-driver-spiffe-approver:e2e";
/// The shell with the scripted agent and the workload of the testkit.
pub const WORKLOAD: &str = "svid-csi.test/workload:e2e";
/// The registry in all names.
pub const REPOSITORY: &str = "svid-csi.test";
/// Their tag.
pub const TAG: &str = "e2e";
/// The tag of the driver's image as the next release.
pub const NEXT_TAG: &str = "e2e-next";

/// Makes and loads the image every pod needs.
pub fn load_base(layout: &Layout, tools: &Tools) -> Result<()> {
    load(layout, tools, "busybox", &pack(&shell()?)?, &[image(BUSYBOX, &["/bin/sleep", "2147483647"])])
}

/// Builds the driver as shipped, and returns the folder of the program.
pub fn compile_driver(layout: &Layout) -> Result<PathBuf> {
    compile::compile(&layout.repo, Arch::host())
}

/// Builds the programs of this repository and loads the images of the driver and of the workloads.
pub fn load_all(layout: &Layout, tools: &Tools, say: &mut dyn FnMut(&str)) -> Result<()> {
    let programs = compile_driver(layout)?;
    let driver = product::layer(&layout.repo, Arch::host(), &programs)?;
    let size = driver.len() as f64 / f64::from(1 << 20);
    say(&format!("the image of the driver has {size:.1} MiB in one layer"));
    load(layout, tools, "svid-csi", &driver, &product::images(REPOSITORY, TAG, None))?;
    let mut layer = shell()?;
    layer.extend(peers::layer(layout)?);
    load(layout, tools, "workload", &pack(&layer)?, &[image(WORKLOAD, &["/bin/sh"])])
}

/// The images that pods of Kubernetes' own specs use.
const OF_SPECS: [&str; 2] = ["/agnhost:", "/busybox:"];

/// Makes one image of agnhost and busybox, and loads it with the names that both have in their registries.
pub fn load_for_specs(layout: &Layout, tools: &Tools) -> Result<()> {
    let suite = tools.program("storage-suite");
    let list = Command::new(&suite)
        .arg("--list-images")
        .output()
        .with_context(|| format!("cannot run {} (tests/cluster/cluster foreign builds it)", suite.display()))?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let names = list.lines().filter(|name| OF_SPECS.iter().any(|wanted| name.contains(wanted)));
    // The order changes from call to call.
    let names: BTreeSet<_> = names.collect();
    let images: Vec<_> = names.into_iter().map(|name| image(name, &["/bin/agnhost"])).collect();
    ensure!(!images.is_empty(), "{} names no image of agnhost: {list}", suite.display());
    let mut layer = shell()?;
    layer.push(program("agnhost", tools.program("agnhost")));
    load(layout, tools, "specs", &pack(&layer)?, &images)
}

/// The path of the shipped program after [`load_all`], which also runs on the host.
#[must_use]
pub fn binary(layout: &Layout) -> PathBuf {
    compile::programs(&layout.repo, Arch::host()).join("svid-csi")
}

/// Runs containerd's own client.
pub fn ctr(layout: &Layout, tools: &Tools, arguments: &[&str]) -> Result<()> {
    let output = Command::new(tools.program("ctr"))
        .arg("--address")
        .arg(layout.containerd_socket())
        .args(["--namespace", "k8s.io"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run ctr")?;
    if !output.status.success() {
        bail!("ctr {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Gives the image of the driver a second tag, [`NEXT_TAG`].
pub fn tag_next(layout: &Layout) -> Result<()> {
    let next = DRIVER.replace(TAG, NEXT_TAG);
    ctr(layout, &Tools::new(layout), &["images", "tag", "--force", DRIVER, &next])
}

/// Writes the archive and imports it, unless this cluster has already imported it.
fn load(layout: &Layout, tools: &Tools, name: &str, layer: &[u8], images: &[Image]) -> Result<()> {
    let folder = layout.work.join("images");
    fs::create_dir_all(&folder)?;
    let (archive, marker) = (folder.join(format!("{name}.tar")), folder.join(format!("{name}.loaded")));
    let contents = docker::archive(Arch::host(), layer, images)?;
    let print = sha256(&contents);
    if fs::read_to_string(&marker).is_ok_and(|loaded| loaded == print) {
        return Ok(());
    }
    files::write(&archive, contents)?;
    ctr(layout, tools, &["images", "import", &archive.display().to_string()])?;
    files::write(&marker, print)
}

/// A test image, run as root.
fn image(reference: &str, entrypoint: &[&str]) -> Image {
    let entrypoint = entrypoint.iter().map(|word| (*word).to_owned()).collect();
    Image { reference: reference.to_owned(), entrypoint, ..Image::default() }
}

fn shell() -> Result<Layer> {
    let busybox = tools::find("busybox")?;
    let list = Command::new(&busybox).arg("--list").output().context("cannot run busybox")?;
    let folders = [("bin", 0o755), ("etc", 0o755), ("run", 0o755), ("tmp", 0o1777)];
    let mut layer: Layer = folders.map(|(name, mode)| (name.to_owned(), Entry::Folder(mode))).into();
    layer.push(program("busybox", busybox));
    let applets = String::from_utf8_lossy(&list.stdout).into_owned();
    layer.extend(applets.lines().filter(|name| *name != "busybox").map(|name| link(name, "busybox")));
    layer.push(("etc/passwd".to_owned(), Entry::Text("root:x:0:0::/:/bin/sh\n".to_owned())));
    layer.push(("etc/group".to_owned(), Entry::Text("root:x:0:\n".to_owned())));
    Ok(layer)
}

fn program(name: &str, source: PathBuf) -> (String, Entry) {
    (format!("bin/{name}"), Entry::Program(source))
}

fn link(name: &str, target: &str) -> (String, Entry) {
    (format!("bin/{name}"), Entry::Link(target.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_of_the_driver_have_the_names_that_the_tests_use() {
        let images = product::images(REPOSITORY, TAG, None);
        let names: Vec<_> = images.iter().map(|image| image.reference.as_str()).collect();
        assert_eq!(names, [DRIVER, SPIFFE_CSI, CSI_DRIVER_SPIFFE, APPROVER]);
    }
}

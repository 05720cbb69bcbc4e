//! The container images of the tests, made of static programs and handed to containerd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::files;
use crate::image::{self, Entry, Image, Layer};
use crate::layout::Layout;
use crate::tools::{self, Tools};

/// A shell and its tools; also what holds a pod's namespaces.
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
/// What the driver's image may take.
pub const LIMIT: u64 = 15 * 1024 * 1024;

/// Makes and loads the image every pod needs.
pub fn load_base(layout: &Layout, tools: &Tools) -> Result<()> {
    let images = [Image { reference: BUSYBOX.to_owned(), entrypoint: words(&["/bin/sleep", "2147483647"]), user: "" }];
    load(layout, tools, "busybox", &shell()?, &images).map(drop)
}

/// Builds the programs of this repository and loads the images of the driver and of the workloads.
pub fn load_all(layout: &Layout, tools: &Tools, say: &mut dyn FnMut(&str)) -> Result<()> {
    let programs = build(layout)?;
    let size = load(layout, tools, "svid-csi", &driver_layer(&programs), &driver_images())?;
    say(&format!("the image of the driver has {:.1} MiB in one layer", size as f64 / f64::from(1 << 20)));
    ensure!(size <= LIMIT, "the image of the driver is larger than {LIMIT} bytes");
    let workload = [Image { reference: WORKLOAD.to_owned(), entrypoint: words(&["/bin/sh"]), user: "" }];
    let mut layer = shell()?;
    layer.extend(["scripted-agent", "workload"].map(|name| program(name, programs.join(name))));
    load(layout, tools, "workload", &layer, &workload).map(drop)
}

/// Where [`load_all`] leaves the programs, which also run on the host.
pub fn programs(layout: &Layout) -> Result<PathBuf> {
    Ok(layout.repo.join("target/cluster").join(host_target()?).join("release"))
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

/// Writes the archive and imports it, unless this cluster has it already. Returns the layer's size.
fn load(layout: &Layout, tools: &Tools, name: &str, layer: &Layer, images: &[Image]) -> Result<u64> {
    let folder = layout.work.join("images");
    fs::create_dir_all(&folder)?;
    let archive = folder.join(format!("{name}.tar"));
    let size = image::write_archive(&archive, layer, images)?;
    let (print, marker) = (image::fingerprint(&archive)?, folder.join(format!("{name}.loaded")));
    if fs::read_to_string(&marker).is_ok_and(|loaded| loaded == print) {
        return Ok(size);
    }
    ctr(layout, tools, &["images", "import", &archive.display().to_string()])?;
    files::write(&marker, print)?;
    Ok(size)
}

fn driver_layer(programs: &Path) -> Layer {
    let aliases = [SPIFFE_CSI, CSI_DRIVER_SPIFFE, APPROVER].map(|image| link(base_name(image), "svid-csi"));
    let mut layer = vec![("bin".to_owned(), Entry::Folder(0o755)), program("svid-csi", programs.join("svid-csi"))];
    layer.extend(aliases);
    layer
}

/// One image an entry point: which driver a manifest gets is decided by the image it names.
fn driver_images() -> [Image; 4] {
    [DRIVER, SPIFFE_CSI, CSI_DRIVER_SPIFFE, APPROVER].map(|image| {
        let entrypoint = vec![format!("/bin/{}", base_name(image))];
        // The predecessor's approver must not run as root, and its chart leaves it to the image as whom.
        let user = if image == APPROVER { "65532" } else { "" };
        Image { reference: image.to_owned(), entrypoint, user }
    })
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

/// Static release builds: the driver first and alone, so that it is built with exactly what it ships with.
fn build(layout: &Layout) -> Result<PathBuf> {
    let target = host_target()?;
    for package in ["svid-csi", "svid-csi-testkit"] {
        let status = Command::new("cargo")
            .args(["build", "--release", "--locked", "--bins", "--package", package, "--target", &target])
            .arg("--target-dir")
            .arg(layout.repo.join("target/cluster"))
            .current_dir(&layout.repo)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .status()
            .context("cannot run cargo")?;
        ensure!(status.success(), "cargo build of {package} failed: {status}");
    }
    programs(layout)
}

fn host_target() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not name its host")?;
    Ok(host.to_owned())
}

fn base_name(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split(':').next().unwrap_or(name)
}

fn program(name: &str, source: PathBuf) -> (String, Entry) {
    (format!("bin/{name}"), Entry::Program(source))
}

fn link(name: &str, target: &str) -> (String, Entry) {
    (format!("bin/{name}"), Entry::Link(target.to_owned()))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

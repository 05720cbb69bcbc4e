//! The Go programs of the cluster, built from the pinned modules in `tools/` and kept in the cache, and the Python
//! programs with their libraries.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::files;
use crate::layout::Layout;

/// The modules besides Kubernetes', separate if their requirements conflict.
const MODULES: [&str; 8] = ["actionlint", "containerd", RUNC, "cni", "csi-sanity", "gospiffe", HELM, CERT_MANAGER];
/// The module of the current runc, partly in C: it enters namespaces before Go starts.
const RUNC: &str = "runc";
/// The module of SPIRE, partly in C (its database).
const SPIRE: &str = "spire";
/// The module of Kubernetes' own specs for storage drivers, and of the program in the image of their pods.
const STORAGE_SUITE: &str = "storage-suite";
/// The modules that take minutes to build, and are built only for the tests with them.
const FOREIGN: [&str; 2] = [SPIRE, STORAGE_SUITE];
/// The module of Helm, the only one that the tests of the chart need.
const HELM: &str = "helm";
/// The module that runs cert-manager, whose resource definitions are stored beside it.
pub const CERT_MANAGER: &str = "certmanager";
/// The location of those: a published module, and a folder in it.
const RESOURCE_DEFINITIONS: (&str, &str) = ("github.com/cert-manager/cert-manager", "deploy/crds");
/// A client of the Workload API in Python, in a folder of `tools/` as well.
const PYTHON: &str = "pyspiffe";
/// The JSON schemas of Kubernetes' objects, and a program that validates manifests with them.
const SCHEMAS: &str = "kubernetes-validate";
/// Programs from Debian packages, each with its package.
const DEBIAN: [(&str, &str); 4] =
    [("etcd", "etcd-server"), ("runc", "runc"), ("busybox", "busybox-static"), ("iptables", "iptables")];

/// The file in a folder of programs that identifies their sources.
const BUILT_FROM: &str = ".built-from";

/// The folders of the programs.
#[derive(Clone, Debug)]
pub struct Tools {
    folder: PathBuf,
    /// The module of the programs of Kubernetes.
    kubernetes: String,
}

impl Tools {
    /// The programs from an earlier [`Tools::build`].
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        Self { folder: layout.cache.join("tools"), kubernetes: format!("kubernetes-{}", layout.kubernetes) }
    }

    /// Builds programs that are missing or outdated. Concurrent runs are safe.
    pub fn build(layout: &Layout, say: &mut dyn FnMut(&str)) -> Result<Self> {
        let tools = Self::new(layout);
        for (program, package) in DEBIAN {
            find(program).with_context(|| format!("install the Debian package {package} (tests/cluster/setup)"))?;
        }
        let _lock = tools.lock()?;
        for module in tools.modules() {
            tools.build_module(&layout.sources().join("tools").join(module), module, say)?;
        }
        tools.install_python(&layout.sources().join("tools").join(PYTHON), PYTHON, say)?;
        Ok(tools)
    }

    /// Builds what only `just foreign` needs.
    pub fn build_foreign(layout: &Layout, say: &mut dyn FnMut(&str)) -> Result<()> {
        let tools = Self::new(layout);
        let _lock = tools.lock()?;
        FOREIGN
            .iter()
            .try_for_each(|module| tools.build_module(&layout.sources().join("tools").join(module), module, say))
    }

    /// Builds only the programs for the tests of the chart, which need no cluster.
    pub fn build_for_chart(layout: &Layout, say: &mut dyn FnMut(&str)) -> Result<Self> {
        let tools = Self::new(layout);
        let _lock = tools.lock()?;
        tools.build_module(&layout.sources().join("tools").join(HELM), HELM, say)?;
        tools.install_python(&layout.sources().join("tools").join(SCHEMAS), SCHEMAS, say)?;
        Ok(tools)
    }

    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.folder)?;
        let lock = File::create(self.folder.join("lock"))?;
        lock.lock().context("cannot lock the folder of the tools")?;
        Ok(lock)
    }

    fn modules(&self) -> impl Iterator<Item = &str> {
        MODULES.into_iter().chain([self.kubernetes.as_str()])
    }

    /// A built program.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        let mut candidates = self.modules().chain(FOREIGN).map(|module| self.folder.join(module).join(name));
        candidates.find(|path| path.exists()).unwrap_or_else(|| self.folder.join(name))
    }

    /// The folder of the programs of one module.
    #[must_use]
    pub fn folder(&self, module: &str) -> PathBuf {
        self.folder.join(module)
    }

    /// A `PATH` on which the cluster's programs find each other.
    pub fn path(&self) -> Result<OsString> {
        let own = self.modules().map(|module| self.folder.join(module));
        let system = std::env::var_os("PATH").unwrap_or_default();
        let system: Vec<_> = std::env::split_paths(&system).collect();
        let administration = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        std::env::join_paths(own.chain(system).chain(administration)).context("a folder on PATH has a colon")
    }

    fn build_module(&self, source: &Path, module: &str, say: &mut dyn FnMut(&str)) -> Result<()> {
        let folder = self.folder.join(module);
        let (pinned, marker) = (version_of("go", "version")? + &stamp(source)?, folder.join(BUILT_FROM));
        if fs::read_to_string(&marker).is_ok_and(|built| built == pinned) {
            return Ok(());
        }
        say(&format!("building the Go programs of tools/{module}"));
        let started = Instant::now();
        fs::create_dir_all(&folder)?;
        go_build(source, &folder, [RUNC, SPIRE].contains(&module))?;
        if module == CERT_MANAGER {
            copy_resource_definitions(source, &folder)?;
        }
        say(&format!("built tools/{module} in {} s", started.elapsed().as_secs()));
        files::write(&marker, pinned)
    }

    /// The libraries and the program in one folder, so that running it needs no environment variable.
    fn install_python(&self, source: &Path, name: &str, say: &mut dyn FnMut(&str)) -> Result<()> {
        let folder = self.folder.join(name);
        let (pinned, marker) = (version_of("python3", "--version")? + &stamp(source)?, folder.join(BUILT_FROM));
        if fs::read_to_string(&marker).is_ok_and(|built| built == pinned) {
            return Ok(());
        }
        say(&format!("installing the Python libraries of tools/{name}"));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        pip_install(source, &folder)?;
        copy_programs(source, &folder)?;
        files::write(&marker, pinned)
    }

    /// The program that validates manifests with the schemas of Kubernetes, which it looks for in its own folder.
    #[must_use]
    pub fn schema_check(&self) -> Command {
        let mut command = Command::new("python3");
        command.args(["-m", "kubernetes_validate"]).current_dir(self.folder.join(SCHEMAS));
        command
    }

    /// The client in Python: its interpreter and its path.
    #[must_use]
    pub fn python(&self) -> [PathBuf; 2] {
        ["python3".into(), self.folder.join(PYTHON).join("watch.py")]
    }
}

/// Finds a program on `PATH` and in the folders of system administration.
pub fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("the program {program} is not on PATH"))
}

fn go_build(source: &Path, folder: &Path, in_c_too: bool) -> Result<()> {
    // The kubelet requests a seccomp profile for each pod, and a runc built without seccomp runs none.
    let (cgo, tags) = if in_c_too { ("1", "seccomp") } else { ("0", "") };
    let status = Command::new("go")
        .args(["build", "-trimpath", "-tags", tags, "-ldflags", &linker_flags(source)?, "-o"])
        .arg(folder)
        .arg("tool")
        .current_dir(source)
        .env("CGO_ENABLED", cgo)
        .status()
        .context("cannot run go")?;
    if !status.success() {
        bail!("go build in {} failed: {status}", source.display());
    }
    Ok(())
}

fn pip_install(source: &Path, folder: &Path) -> Result<()> {
    let status = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--root-user-action", "ignore", "--target"])
        .arg(folder)
        .arg("--requirement")
        .arg(source.join("requirements.txt"))
        .status()
        .context("cannot run python3")?;
    ensure!(status.success(), "pip install of {} failed: {status}", source.display());
    Ok(())
}

/// Copies our own programs beside the libraries.
fn copy_programs(source: &Path, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))? {
        let program = entry?.path();
        if let Some(name) = program.file_name().filter(|_| program.extension().is_some_and(|end| end == "py")) {
            fs::copy(&program, folder.join(name)).with_context(|| format!("cannot copy {}", program.display()))?;
        }
    }
    Ok(())
}

/// Copies the definitions of cert-manager's objects from their published module.
fn copy_resource_definitions(source: &Path, folder: &Path) -> Result<()> {
    let (module, below) = RESOURCE_DEFINITIONS;
    let output = Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", module])
        .current_dir(source)
        .output()
        .context("cannot run go")?;
    let published = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join(below);
    let copies = folder.join("crds");
    fs::create_dir_all(&copies)?;
    for entry in fs::read_dir(&published).with_context(|| format!("cannot list {}", published.display()))? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "yaml") {
            files::write(&copies.join(entry.file_name()), fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// Kubernetes programs report, and check, the version set by the linker.
fn linker_flags(source: &Path) -> Result<String> {
    let manifest = fs::read_to_string(source.join("go.mod"))?;
    let Some(version) = manifest.split_whitespace().skip_while(|word| *word != "k8s.io/kubernetes").nth(1) else {
        return Ok("-s -w".to_owned());
    };
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = parts.next().zip(parts.next()).with_context(|| format!("odd version {version}"))?;
    let package = "k8s.io/component-base/version";
    Ok(format!("-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"))
}

/// The version that a program reports.
pub fn version_of(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(program).arg(argument).output().with_context(|| format!("{program} is not installed"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The inputs of a build, besides the compiler.
fn stamp(source: &Path) -> Result<String> {
    let mut stamp = String::new();
    let listed = fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))?;
    let mut files: Vec<_> = listed.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    for path in files {
        stamp += &fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(stamp)
}

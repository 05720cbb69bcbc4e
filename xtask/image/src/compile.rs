//! Static release builds that do not reveal where they were made.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::arch::Arch;

/// The target folder for builds with these flags, separate from others.
pub const TARGET_DIR: &str = "target/static";

/// The profile of the shipped programs.
const PROFILE: &str = "dist";

/// The kubectl plugin.
pub const PLUGIN: &str = "kubectl-svid";

/// The folder of the programs for a machine.
#[must_use]
pub fn programs(repo: &Path, arch: Arch) -> PathBuf {
    repo.join(TARGET_DIR).join(arch.triple()).join(PROFILE)
}

/// Builds the shipped programs, which takes minutes. Builds one package alone, so that no features that other packages need
/// are built into its dependencies. Returns their folder.
pub fn compile(repo: &Path, arch: Arch) -> Result<PathBuf> {
    build(repo, arch, "svid-csi")
}

/// Builds the kubectl plugin, which is in no image, and returns its path.
pub fn compile_plugin(repo: &Path, arch: Arch) -> Result<PathBuf> {
    Ok(build(repo, arch, PLUGIN)?.join(PLUGIN))
}

fn build(repo: &Path, arch: Arch, package: &str) -> Result<PathBuf> {
    let status = cargo(repo, arch)?
        .args(["build", "--locked", "--bins", "--package", package, "--profile", PROFILE])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo build of {package} for {arch} failed: {status}");
    Ok(programs(repo, arch))
}

/// A cargo command that builds for this machine; arguments follow.
fn cargo(repo: &Path, arch: Arch) -> Result<Command> {
    let mut command = Command::new("cargo");
    command
        .current_dir(repo)
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(repo, arch)?)
        .env("CARGO_BUILD_TARGET", arch.triple())
        .env("CARGO_TARGET_DIR", repo.join(TARGET_DIR));
    if arch != Arch::host() {
        let triple = arch.triple().replace('-', "_");
        command
            .env(format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase()), arch.cross_compiler())
            .env(format!("CC_{triple}"), arch.cross_compiler());
    }
    if arch == Arch::Amd64 {
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", repo.join("xtask/link-in-order"));
    }
    Ok(command)
}

/// Static, and with paths that are the same on every machine, because panics name source files. Relocations, of which a
/// static program has tens of thousands, take a twentieth of the space if they are packed; linkers that cannot do that
/// ignore the option. Functions with the same code are merged where Rust itself brings the linker that can do that, and
/// `xtask/link-in-order` arranges them for it.
fn flags(repo: &Path, arch: Arch) -> Result<OsString> {
    let mut flags = OsString::from("-Ctarget-feature=+crt-static\x1f-Clink-arg=-Wl,-z,pack-relative-relocs");
    if arch == Arch::Amd64 {
        flags.push("\x1f-Clink-arg=-Wl,--icf=all");
    }
    let mut remap = |from: &Path, to: &str| {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    };
    remap(repo, "/svid-csi");
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).context("no HOME")?;
    // The name of a registry's folder contains a hash of its address, which may be that of a mirror.
    for registry in fs::read_dir(home.join("registry/src")).into_iter().flatten() {
        remap(&registry?.path(), "/crates");
    }
    Ok(flags)
}

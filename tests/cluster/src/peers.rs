//! The programs of the testkit that run in pods and on the host, as `cargo test` builds them. An optimised static build
//! would compile every dependency again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use svid_csi_image::layer::{Entry, Layer};

use crate::layout::Layout;

const PROGRAMS: [&str; 4] = ["attacker", "scripted-agent", "workload", "predecessor"];

/// The kubectl plugin, which runs on the host.
pub const PLUGIN: &str = "kubectl-svid";

/// The tests of the testkit and of the plugin that need these programs.
const THEIR_TESTS: [&str; 3] = ["scripted_agent", "workload_verify", "plugin"];

/// The path of a program after [`layer`], to run it on the host.
#[must_use]
pub fn program(layout: &Layout, name: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    layout.repo.join(target).join("debug").join(name)
}

/// Builds the programs, and returns them and the libraries that they load as files of a container image.
pub fn layer(layout: &Layout) -> Result<Layer> {
    compile(layout)?;
    let folder = layout.work.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let (mut layer, mut needed) = (Layer::new(), BTreeSet::new());
    for name in PROGRAMS {
        let (built, stripped) = (program(layout, name), folder.join(name));
        needed.extend(libraries(&built)?);
        strip(&built, &stripped)?;
        layer.push((format!("bin/{name}"), Entry::Program(stripped)));
    }
    layer.extend(at_their_paths(needed));
    Ok(layer)
}

/// With the features of the whole workspace, as for `cargo test --workspace`.
fn compile(layout: &Layout) -> Result<()> {
    let tests = THEIR_TESTS.iter().flat_map(|test| ["--test", test]);
    let status = Command::new("cargo")
        .args(["test", "--locked", "--quiet", "--workspace", "--no-run"])
        .args(tests)
        .current_dir(&layout.repo)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo test --no-run of the testkit and the plugin failed: {status}");
    Ok(())
}

/// Debug information is most of a program.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip").arg("--strip-debug").arg("-o").args([to, from]).status();
    let status = status.context("cannot run strip, of the package binutils")?;
    ensure!(status.success(), "strip of {} failed: {status}", from.display());
    Ok(())
}

/// The libraries that a program loads, and the loader.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    ensure!(output.status.success(), "ldd of {} failed: {}", program.display(), output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// Files of the host at the same paths, each after its folders.
fn at_their_paths(files: BTreeSet<PathBuf>) -> Layer {
    let inside = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_string_lossy().into_owned();
    let folders: BTreeSet<_> = files.iter().flat_map(|file| file.ancestors().skip(1)).map(inside).collect();
    let folders = folders.into_iter().filter(|folder| !folder.is_empty());
    let folders = folders.map(|folder| (folder, Entry::Folder(0o755)));
    let files = files.iter().map(|file| (inside(file), Entry::Program(file.clone())));
    folders.chain(files).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_comes_with_its_libraries_in_their_folders() {
        let needed = libraries(&env::current_exe().unwrap()).unwrap();
        assert!(needed.iter().any(|path| path.to_string_lossy().contains("libc.so")), "{needed:?}");
        let layer = at_their_paths(needed);
        let names: Vec<_> = layer.iter().map(|(name, _)| name.as_str()).collect();
        for (place, (name, entry)) in layer.iter().enumerate() {
            let folder = Path::new(name).parent().unwrap().to_str().unwrap();
            assert!(folder.is_empty() || names[..place].contains(&folder), "{name} before its folder: {names:?}");
            assert!(matches!(entry, Entry::Folder(_)) || Path::new("/").join(name).is_file(), "{name}");
        }
    }
}

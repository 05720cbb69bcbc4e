//! The crates linked into the driver on one machine, without those that are only used to build or test it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Metadata, MetadataCommand, Package, PackageId};

use crate::arch::Arch;

/// The crates of the driver.
pub struct Linked {
    /// By name and version, the driver's own crates included.
    pub packages: Vec<Package>,
    /// The crates that each one uses, by identifier.
    pub uses: BTreeMap<PackageId, Vec<PackageId>>,
}

impl Linked {
    /// Asks cargo: the tree has exactly the linked crates, with the driver's features; the metadata has everything
    /// else.
    pub fn read(repo: &Path, arch: Arch) -> Result<Self> {
        let names = tree(repo, arch)?;
        let platform = ["--filter-platform", arch.triple(), "--locked"].map(str::to_owned);
        let metadata = MetadataCommand::new().current_dir(repo).other_options(platform).exec()?;
        Ok(Self::select(metadata, &names))
    }

    fn select(metadata: Metadata, names: &BTreeSet<String>) -> Self {
        let is_linked = |package: &Package| names.contains(&format!("{} v{}", package.name, package.version));
        let mut packages: Vec<_> = metadata.packages.into_iter().filter(is_linked).collect();
        packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        let ids: BTreeSet<_> = packages.iter().map(|package| package.id.clone()).collect();
        let nodes = metadata.resolve.into_iter().flat_map(|resolve| resolve.nodes);
        let uses = nodes.filter(|node| ids.contains(&node.id)).map(|node| {
            let mut uses: Vec<_> = node.dependencies.into_iter().filter(|id| ids.contains(id)).collect();
            uses.sort();
            (node.id, uses)
        });
        Self { uses: uses.collect(), packages }
    }

    /// The crates of other authors.
    pub fn of_others(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_some())
    }
}

/// Names and versions, as `name v1.2.3`.
fn tree(repo: &Path, arch: Arch) -> Result<BTreeSet<String>> {
    let output = Command::new("cargo")
        .args(["tree", "--locked", "--package", "svid-csi", "--edges", "normal,no-proc-macro"])
        .args(["--target", arch.triple(), "--prefix", "none", "--format", "{p}"])
        .current_dir(repo)
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(text.lines().filter(|line| !line.is_empty()).map(name).collect())
}

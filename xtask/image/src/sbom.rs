//! The bill of materials (CycloneDX 1.6) of exactly the crates linked into the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{Package, PackageId};
use serde_json::{Value, json};

use crate::arch::Arch;
use crate::linked::Linked;

/// The document for one machine.
pub fn document(repo: &Path, arch: Arch) -> Result<Vec<u8>> {
    let linked = Linked::read(repo, arch)?;
    let lock = fs::read_to_string(repo.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let checksums = checksums(&lock);
    let references: BTreeMap<_, _> =
        linked.packages.iter().map(|package| (package.id.clone(), purl(package))).collect();
    let (product, components): (Vec<_>, Vec<_>) =
        linked.packages.iter().partition(|package| package.name.as_str() == "svid-csi");
    let product = product.first().context("the driver is linked into itself")?;
    let components: Vec<_> = components.into_iter().map(|package| component(package, "library", &checksums)).collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": component(product, "application", &checksums),
            "properties": [{"name": "svid-csi:target", "value": arch.triple()}],
        },
        "components": components,
        "dependencies": dependencies(&linked, &references),
    });
    Ok(serde_json::to_vec_pretty(&document)?)
}

fn component(package: &Package, kind: &str, checksums: &BTreeMap<(&str, &str), &str>) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": purl(package),
        "name": package.name.as_str(),
        "version": package.version.to_string(),
        "purl": purl(package),
    });
    if let Some(licence) = &package.license {
        // Once written as `MIT/Apache-2.0`, but CycloneDX accepts only SPDX expressions.
        component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
    }
    let version = package.version.to_string();
    if let Some(checksum) = checksums.get(&(package.name.as_str(), version.as_str())) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    component
}

/// Ordered by name, because cargo's identifiers of our own crates contain the path of the checkout.
fn dependencies(linked: &Linked, references: &BTreeMap<PackageId, String>) -> Vec<Value> {
    let uses = linked.uses.iter().filter_map(|(id, uses)| {
        let uses: BTreeSet<_> = uses.iter().filter_map(|id| references.get(id)).collect();
        Some((references.get(id)?, uses))
    });
    let ordered: BTreeMap<_, _> = uses.collect();
    ordered.into_iter().map(|(of, uses)| json!({"ref": of, "dependsOn": uses})).collect()
}

fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

/// The checksums of the registry's crates, by name and version.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    let packages = lock.split("[[package]]\n").skip(1);
    packages
        .filter_map(|package| {
            Some(((field(package, "name")?, field(package, "version")?), field(package, "checksum")?))
        })
        .collect()
}

fn field<'a>(package: &'a str, name: &str) -> Option<&'a str> {
    package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_of_others_has_checksum_and_licence_and_nothing_that_only_builds_is_listed() {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let document: Value = serde_json::from_slice(&document(&repo, Arch::host()).unwrap()).unwrap();
        let components = document["components"].as_array().unwrap();
        let names: Vec<_> = components.iter().map(|component| component["name"].as_str().unwrap()).collect();
        for linked in ["tokio", "rustls", "aws-lc-sys", "svid-csi-core"] {
            assert!(names.contains(&linked), "{linked} in {names:?}");
        }
        for not_linked in ["clap_derive", "proptest", "cc", "svid-csi-testkit", "protox"] {
            assert!(!names.contains(&not_linked), "{not_linked}");
        }
        for component in
            components.iter().filter(|component| !component["name"].as_str().unwrap().starts_with("svid-csi"))
        {
            assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64), "{component}");
            assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        }
        let listed = document["dependencies"].as_array().unwrap().len();
        assert_eq!(listed, components.len() + 1, "each, and the driver");
        let path = std::fs::canonicalize(&repo).unwrap();
        assert!(!document.to_string().contains(path.to_str().unwrap()), "it does not say where it was made");
    }
}

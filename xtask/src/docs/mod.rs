//! `cargo xtask docs`: the reference pages, generated from the code and from the traces of the driver.

mod attributes;
mod effects;
mod findings;
mod flags;
mod metrics;

use std::path::Path;

use anyhow::Result;
use svid_csi_image::write;

use crate::say;

/// The pages by their paths in the repository.
fn pages(repo: &Path) -> Result<[(&'static str, String); 5]> {
    Ok([
        ("docs/reference/flags.md", flags::page()),
        ("docs/reference/attributes.md", attributes::page()),
        ("docs/reference/metrics.md", metrics::page()),
        ("docs/reference/findings.md", findings::page()),
        ("docs/reference/what-happens-on-the-node.md", effects::page(repo)?),
    ])
}

/// Writes them.
pub fn generate(repo: &Path) -> Result<()> {
    for (path, page) in pages(repo)? {
        write(&repo.join(path), page.as_bytes())?;
        say(path);
    }
    Ok(())
}

/// A row of a table.
fn row(cells: &[&str]) -> String {
    let cells = cells.iter().map(|cell| format!(" {} |", cell.replace('|', "\\|").replace('\n', " ")));
    format!("|{}\n", cells.collect::<String>())
}

/// The head of a table.
fn head(cells: &[&str]) -> String {
    format!("{}|{}\n", row(cells), "---|".repeat(cells.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_those_of_this_code() {
        let repo = crate::repository().unwrap();
        for (path, page) in pages(&repo).unwrap() {
            let kept = std::fs::read_to_string(repo.join(path)).unwrap_or_default();
            assert!(kept == page, "{path} is not what the code says: run `cargo xtask docs`");
        }
    }

    #[test]
    fn no_page_lacks_what_users_look_for() {
        let repo = crate::repository().unwrap();
        let [(_, flags), (_, attributes), (_, metrics), (_, findings), (_, effects)] = pages(&repo).unwrap();
        for expected in ["## svid-csi driver", "`--trust-domain`", "`SVID_CSI_TRUST_DOMAIN`", "`--csi-socket-path`"] {
            assert!(flags.contains(expected), "{expected}");
        }
        assert!(
            attributes.contains("`svid-csi/audience`") && attributes.contains("`spiffe.csi.cert-manager.io/fs-group`")
        );
        for expected in ["`svid_csi_volumes`", "`plan`, `phase`", "`svid_csi_approver_decisions_total`", "counter"] {
            assert!(metrics.contains(expected), "{expected} in {metrics}");
        }
        assert!(findings.contains("### not-registered\n") && findings.contains("\n*Fault.* "), "{findings}");
        for expected in
            ["### Publish (files)\n", "1. **Mount the clone at the target.**\n", "`tls.crt`, `tls.key` and `ca.crt`"]
        {
            assert!(effects.contains(expected), "{expected} in {effects}");
        }
    }
}

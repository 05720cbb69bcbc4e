//! Every finding of `svid-csi doctor`.

use svid_csi_core::findings::{Category, Severity, checks};

const HEAD: &str = "\
# Findings

Everything that [`svid-csi doctor`](../troubleshooting.md#doctor) can find. `svid-csi doctor --explain ID` prints the same without a
network. This page is generated from the code.
";

/// The page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for category in Category::ALL {
        page += &format!("\n## {}\n", title(category));
        for check in checks().filter(|check| check.category == category) {
            let severity = match check.severity {
                Severity::Warning => "Warning",
                Severity::Fault => "Fault",
            };
            page += &format!("\n### {}\n\n*{severity}.* {}\n\n", check.id, check.title);
            page += &escaped(check.explanation);
            page.push('\n');
        }
    }
    page
}

fn title(category: Category) -> &'static str {
    match category {
        Category::Driver => "The driver (`driver`)",
        Category::Registration => "The kubelet and the driver's sockets (`registration`)",
        Category::Mounts => "The volumes in pods (`mounts`)",
        Category::Data => "The volumes' data (`data`)",
        Category::Clock => "The time (`clock`)",
        Category::Source => "The sources of identities (`source`)",
        Category::Identity => "The identities of pods (`identity`)",
        Category::Kernel => "The node's kernel (`kernel`)",
        Category::Cluster => "The API server (`cluster`)",
    }
}

/// Text in which no angle bracket is a tag.
fn escaped(text: &str) -> String {
    text.replace('<', "&lt;").replace('>', "&gt;")
}

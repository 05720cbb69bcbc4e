//! Every volume attribute.

use std::fmt::Display;

use svid_csi_core::files::{Format, LAYOUTS, LayoutFile};
use svid_csi_core::volume::{ATTRIBUTES, Attribute, OWN_PREFIX, PREDECESSOR_FS_GROUP};

use super::{head, row};

const FIRST: &str = "\
# Volume attributes

This page is generated from the program (`cargo xtask docs`). [An identity as files](../files.md) and
[the Workload API](../workload-api.md) show the attributes in use.

Pod authors set them in `pod.spec.volumes[].csi.volumeAttributes`, on any driver name. An attribute that begins with
`svid-csi/` and does not exist, or has no meaning with the source and delivery of the volume, is refused with one error that
names it; attributes of others are ignored. A file name is one path component of 1 to 255 bytes that does not begin with
`..`.
";

const LAYOUTS_FIRST: &str = "
## Layouts

`svid-csi/layout` chooses the files of a volume with the delivery `files`, and their names. An attribute that names a file
counts in every layout: it renames that file, or adds it if the layout has no such file.
";

pub(super) fn page() -> String {
    let mut page = format!(
        "{FIRST}\n{}",
        head(&["attribute", "what it decides", "accepts", "without it", "sources", "deliveries"])
    );
    for attribute in ATTRIBUTES {
        let Attribute { name, sources, deliveries, accepts, default, meaning, .. } = attribute;
        page += &row(&[
            &code(&format!("{OWN_PREFIX}{name}")),
            meaning,
            accepts,
            default,
            &list(sources),
            &list(deliveries),
        ]);
    }
    page += &format!(
        "\n`{PREDECESSOR_FS_GROUP}` is csi-driver-spiffe's name for `{OWN_PREFIX}fs-group`, which wins where both are set.\n"
    );
    page + &layouts()
}

fn layouts() -> String {
    let mut section =
        format!("{LAYOUTS_FIRST}\n{}", head(&["layout", "whose files these are", "file", "what is in it"]));
    for layout in LAYOUTS {
        for (index, file) in layout.files.iter().enumerate() {
            let (name, origin) = if index == 0 { (code(&layout.name), layout.origin) } else { (String::new(), "") };
            section += &row(&[&name, origin, &code(&name_of(file)), file.format.holds()]);
        }
    }
    section
}

fn name_of(file: &LayoutFile) -> String {
    let trust_domain = if file.format == Format::BundlePerDomain { "<trust domain>" } else { "" };
    format!("{trust_domain}{}", file.name)
}

fn list(names: &[impl Display]) -> String {
    names.iter().map(code).collect::<Vec<_>>().join(", ")
}

fn code(text: &impl Display) -> String {
    format!("`{text}`")
}

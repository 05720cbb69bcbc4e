//! Every volume attribute.

use std::fmt::Display;

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
    page + &format!(
        "\n`{PREDECESSOR_FS_GROUP}` is csi-driver-spiffe's name for `{OWN_PREFIX}fs-group`, which wins where both are set.\n"
    )
}

fn list(names: &[impl Display]) -> String {
    names.iter().map(code).collect::<Vec<_>>().join(", ")
}

fn code(text: &impl Display) -> String {
    format!("`{text}`")
}

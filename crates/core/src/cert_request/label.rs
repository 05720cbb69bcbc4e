//! The labels by which a driver finds its requests again.

use std::collections::BTreeMap;

/// The label with the hash of the node's name.
pub const NODE_LABEL: &str = "csi.cert-manager.io/node-id-hash";

/// The label with the hash of the volume id.
pub const VOLUME_LABEL: &str = "csi.cert-manager.io/volume-id-hash";

/// The characters of Kubernetes' `rand.SafeEncodeString` (k8s.io/apimachinery, `pkg/util/rand`): no vowels, and no
/// character that looks like one, so that no hash spells a word.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The labels of a request for that volume on that node.
pub fn labels(node_id: &str, volume_id: &str) -> BTreeMap<String, String> {
    let labels = [(NODE_LABEL, node_id), (VOLUME_LABEL, volume_id)];
    labels.into_iter().map(|(label, id)| (label.to_owned(), hash_identifier(id))).collect()
}

/// The value of a label for an id: its FNV-1 hash of 32 bits in decimal, in safe characters (cert-manager/csi-lib,
/// `HashIdentifier`).
///
/// Different IDs can have the same hash, so a caller that finds a request by its labels has to check its owner too.
pub fn hash_identifier(id: &str) -> String {
    let decimal = fnv1(id.as_bytes()).to_string();
    decimal.bytes().map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()])).collect()
}

/// FNV-1 multiplies first; FNV-1a multiplies last.
fn fnv1(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_go() {
        // Made with Go's hash/fnv and k8s.io/apimachinery 0.37.
        for (id, hash) in GO {
            assert_eq!(hash_identifier(id), hash, "{id:?}");
        }
    }

    const GO: [(&str, &str); 6] = [
        ("", "65bb57b6b5"),
        ("a", "d8bfb88b"),
        ("node-1", "9bd6bbf5f"),
        ("ip-10-0-12-34.eu-central-1.compute.internal", "f7ccf9ff5"),
        ("csi-2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", "c86446bb7"),
        ("kn\u{f6}ten", "85c9b67586"),
    ];
}

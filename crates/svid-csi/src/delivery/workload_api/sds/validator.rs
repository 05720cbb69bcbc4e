//! How an Envoy verifies its peers.

use prost::Message;
use svid_csi_proto::is_dense;
use svid_csi_proto::sds::node::UserAgentVersionType;
use svid_csi_proto::sds::property::Kind;
use svid_csi_proto::sds::{Metadata, Node};

/// The key of a node's metadata with which an Envoy disables the SPIFFE validator, as in SPIRE agents.
const DISABLED: &str = "disable_spiffe_cert_validation";

/// See the module documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Validator {
    /// With Envoy's SPIFFE certificate validator, which has a bundle for each trust domain.
    #[default]
    Spiffe,
    /// With one list of root certificates.
    Roots,
}

impl Validator {
    /// The validator for a node with these properties, if known. The SPIFFE validator was added in Envoy 1.18.
    pub(super) fn of(node: Option<&Node>) -> Self {
        let roots = node.is_some_and(|node| disabled(node).unwrap_or(false) || too_old(node));
        if roots { Self::Roots } else { Self::Spiffe }
    }
}

fn disabled(node: &Node) -> Option<bool> {
    let encoded = Some(node.metadata.as_slice()).filter(|metadata| is_dense(metadata))?;
    match Metadata::decode(encoded).ok()?.fields.get(DISABLED)?.kind.as_ref()? {
        Kind::BoolValue(disabled) => Some(*disabled),
        Kind::StringValue(text) => Some(matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")),
    }
}

fn too_old(node: &Node) -> bool {
    match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
            let version = build.version.unwrap_or_default();
            (version.major_number, version.minor_number) < (1, 18)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use prost_types::value::Kind;
    use prost_types::{Struct, Value};
    use svid_csi_proto::sds::{BuildVersion, SemanticVersion};

    use super::*;

    fn node(disabled: Option<Kind>, version: Option<(u32, u32)>) -> Node {
        let fields = disabled.map(|kind| (DISABLED.to_owned(), Value { kind: Some(kind) }));
        let version = version.map(|(major_number, minor_number)| {
            let version = Some(SemanticVersion { major_number, minor_number, patch: 9 });
            UserAgentVersionType::UserAgentBuildVersion(BuildVersion { version })
        });
        Node {
            metadata: Struct { fields: fields.into_iter().collect() }.encode_to_vec(),
            user_agent_version_type: version,
            ..Default::default()
        }
    }

    #[test]
    fn the_spiffe_validator_is_used_unless_the_node_cannot_or_will_not() {
        let text = |text: &str| Some(Kind::StringValue(text.to_owned()));
        assert_eq!(Validator::of(None), Validator::Spiffe);
        for (disabled, version, expected) in [
            (None, None, Validator::Spiffe),
            (None, Some((1, 17)), Validator::Roots),
            (None, Some((1, 18)), Validator::Spiffe),
            (None, Some((2, 0)), Validator::Spiffe),
            (Some(Kind::BoolValue(true)), Some((1, 30)), Validator::Roots),
            (Some(Kind::BoolValue(false)), None, Validator::Spiffe),
            (text("true"), None, Validator::Roots),
            (text("false"), None, Validator::Spiffe),
            (text("perhaps"), None, Validator::Spiffe),
            (Some(Kind::NumberValue(1.0)), None, Validator::Spiffe),
        ] {
            let node = node(disabled.clone(), version);
            assert_eq!(Validator::of(Some(&node)), expected, "{disabled:?} {version:?}");
        }
    }
}

//! Volume ids, as the kubelet makes them.

use std::fmt;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// A volume id that is safe as the name of a folder.
///
/// 1 to 128 bytes (CSI spec, "Size Limits") of `[A-Za-z0-9._-]`, not starting with a dot. The kubelet's are
/// `csi-<sha256 of pod UID and volume name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct VolumeId(Box<str>);

/// Why a text is not a volume id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeIdError {
    /// It is empty.
    #[error("volume_id is missing")]
    Missing,
    /// Over 128 bytes.
    #[error("volume_id has {0} bytes; at most 128 are allowed")]
    TooLong(usize),
    /// Contains a character that is not allowed here in the name of a folder.
    #[error("volume_id may hold only letters, digits, `.`, `_` and `-`, and must not start with a dot")]
    Unsafe,
}

impl VolumeId {
    /// Reads a volume id.
    ///
    /// # Errors
    /// [`VolumeIdError`], the broken rule.
    pub fn parse(text: &str) -> Result<Self, VolumeIdError> {
        match text {
            "" => Err(VolumeIdError::Missing),
            _ if text.len() > 128 => Err(VolumeIdError::TooLong(text.len())),
            _ if text.starts_with('.') || !text.bytes().all(is_safe) => Err(VolumeIdError::Unsafe),
            _ => Ok(VolumeId(text.into())),
        }
    }

    /// The id the kubelet gives the inline volume `volume_name` of the pod `pod_uid` (kubelet, `makeVolumeHandle`).
    pub fn of_kubelet(pod_uid: &str, volume_name: &str) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(pod_uid.as_bytes());
        hash.update(volume_name.as_bytes());
        let hex: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        VolumeId(format!("csi-{hex}").into())
    }

    /// Whether it has the form of the kubelet's own ids.
    pub fn is_of_kubelet(&self) -> bool {
        self.0.strip_prefix("csi-").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> String {
        id.0.into()
    }
}

impl TryFrom<String> for VolumeId {
    type Error = VolumeIdError;

    fn try_from(text: String) -> Result<Self, VolumeIdError> {
        VolumeId::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_that_could_leave_their_folder_are_refused() {
        for bad in ["..", ".", ".hidden", "a/b", "../x", "a\0b", "a b", "é"] {
            assert_eq!(VolumeId::parse(bad), Err(VolumeIdError::Unsafe), "{bad:?}");
        }
        assert_eq!(VolumeId::parse(""), Err(VolumeIdError::Missing));
        assert_eq!(VolumeId::parse(&"a".repeat(10_240)), Err(VolumeIdError::TooLong(10_240)));
        assert_eq!(VolumeId::parse(&"a".repeat(129)), Err(VolumeIdError::TooLong(129)));
        assert!(VolumeId::parse(&"a".repeat(128)).is_ok());
    }

    #[test]
    fn the_kubelets_ids_are_recognised() {
        // sha256("uid" + "name"), computed with sha256sum.
        let id = VolumeId::of_kubelet("uid", "name");
        assert!(id.is_of_kubelet());
        let hex = &id.as_str()["csi-".len()..];
        for other in [
            "csi-0123",
            hex,
            &format!("csi-{}g", &hex[1..]),
            &format!("csi-{hex}0"),
            &format!("csi-{}", "A".repeat(64)),
        ] {
            assert!(!VolumeId::parse(other).unwrap().is_of_kubelet(), "{other}");
        }
        assert_eq!(VolumeId::parse(id.as_str()), Ok(id));
    }

    proptest! {
        #[test]
        fn every_accepted_id_is_one_path_component(text in ".{0,200}") {
            if let Ok(id) = VolumeId::parse(&text) {
                let components: Vec<_> = std::path::Path::new(id.as_str()).components().collect();
                prop_assert!(matches!(components[..], [std::path::Component::Normal(_)]));
            }
        }
    }
}

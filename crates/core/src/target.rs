//! Target paths, as the kubelet makes them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The path at which a volume is mounted.
///
/// An absolute path of at most 4,095 bytes without `.`, `..` or empty components. The kubelet's are
/// `<pods folder>/<pod uid>/volumes/kubernetes.io~csi/<volume name>/mount`, and [`TargetPath::place`] returns the parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "PathBuf", try_from = "PathBuf")]
pub struct TargetPath(Box<Path>);

/// The parts of a target path that the kubelet made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The kubelet's `pods` folder.
    pub pods_dir: &'a Path,
    /// The pod's UID.
    pub pod_uid: &'a str,
    /// The volume's name in the pod's spec.
    pub volume_name: &'a str,
}

/// Why a text is not a target path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetPathError {
    /// It is empty.
    #[error("target_path is missing")]
    Missing,
    /// Over 4,095 bytes (PATH_MAX).
    #[error("target_path has {0} bytes; at most 4095 are allowed")]
    TooLong(usize),
    /// Does not start at the root.
    #[error("target_path must be absolute")]
    Relative,
    /// A component over 255 bytes (NAME_MAX).
    #[error("target_path has a component of {0} bytes; at most 255 are allowed")]
    LongComponent(usize),
    /// `.`, `..`, an empty component or a NUL byte.
    #[error("target_path must not contain `.`, `..`, empty components or NUL bytes")]
    NotNormal,
}

impl TargetPath {
    /// Reads a target path.
    ///
    /// # Errors
    /// [`TargetPathError`], the broken rule.
    pub fn parse(text: &str) -> Result<Self, TargetPathError> {
        let Some(relative) = text.strip_prefix('/') else {
            return Err(if text.is_empty() { TargetPathError::Missing } else { TargetPathError::Relative });
        };
        if text.len() > 4095 {
            return Err(TargetPathError::TooLong(text.len()));
        }
        let normal = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if !relative.split('/').all(normal) {
            return Err(TargetPathError::NotNormal);
        }
        if let Some(long) = relative.split('/').map(str::len).find(|bytes| *bytes > 255) {
            return Err(TargetPathError::LongComponent(long));
        }
        Ok(TargetPath(Path::new(text).into()))
    }

    /// The whole path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The whole path as text, which can be parsed again.
    pub fn text(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The folder that contains the target.
    pub fn parent(&self) -> &Path {
        self.0.parent().unwrap_or(Path::new("/"))
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// The parts of the path, if it has the kubelet's form.
    pub fn place(&self) -> Option<Place<'_>> {
        let mut ancestors = self.0.ancestors();
        let is = |path: Option<&Path>, name: &str| path.and_then(Path::file_name).is_some_and(|found| found == name);
        if !is(ancestors.next(), "mount") {
            return None;
        }
        let volume_name = ancestors.next()?.file_name()?.to_str()?;
        if !is(ancestors.next(), "kubernetes.io~csi") || !is(ancestors.next(), "volumes") {
            return None;
        }
        let pod_uid = ancestors.next()?.file_name()?.to_str()?;
        let pods_dir = ancestors.next()?;
        Some(Place { pods_dir, pod_uid, volume_name })
    }
}

impl From<TargetPath> for PathBuf {
    fn from(target: TargetPath) -> PathBuf {
        target.0.into()
    }
}

impl TryFrom<PathBuf> for TargetPath {
    type Error = TargetPathError;

    fn try_from(path: PathBuf) -> Result<Self, TargetPathError> {
        TargetPath::parse(path.to_str().ok_or(TargetPathError::NotNormal)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_form_is_taken_apart() {
        let target = TargetPath::parse("/var/lib/kubelet/pods/u1/volumes/kubernetes.io~csi/spiffe/mount").unwrap();
        let place = Place { pods_dir: Path::new("/var/lib/kubelet/pods"), pod_uid: "u1", volume_name: "spiffe" };
        assert_eq!(target.place(), Some(place));
        assert_eq!((target.parent(), target.name()), (target.path().parent().unwrap(), "mount"));
        assert_eq!(TargetPath::parse(target.text()), Ok(target));
    }

    #[test]
    fn other_forms_have_no_place() {
        for other in [
            "/tmp/target",
            "/",
            "/a/mount",
            "/pods/u/volumes/kubernetes.io~nfs/v/mount",
            "/pods/u/other/kubernetes.io~csi/v/mount",
        ] {
            let Ok(target) = TargetPath::parse(other) else { continue };
            assert_eq!(target.place(), None, "{other}");
        }
    }

    #[test]
    fn paths_that_climb_are_refused() {
        for bad in ["/a/../b", "/a/./b", "/a//b", "/a/", "/", "/a\0b"] {
            assert_eq!(TargetPath::parse(bad), Err(TargetPathError::NotNormal), "{bad:?}");
        }
        assert_eq!(TargetPath::parse("a/b"), Err(TargetPathError::Relative));
        assert_eq!(TargetPath::parse(""), Err(TargetPathError::Missing));
        assert_eq!(TargetPath::parse(&format!("/{}", "a".repeat(10_240))), Err(TargetPathError::TooLong(10_241)));
        let longest = "/a".repeat(2047) + "b";
        assert_eq!(TargetPath::parse(&longest).map(|target| target.text().len()), Ok(4095));
        assert_eq!(TargetPath::parse(&(longest + "b")), Err(TargetPathError::TooLong(4096)));
        assert_eq!(TargetPath::parse(&format!("/{}/b", "a".repeat(256))), Err(TargetPathError::LongComponent(256)));
        assert!(TargetPath::parse(&format!("/{}/b", "a".repeat(255))).is_ok());
    }
}

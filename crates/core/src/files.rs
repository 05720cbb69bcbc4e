//! An identity as files: their names and contents.

mod adopted;
mod credentials;
mod extras;
mod json;
mod layout;
mod per_domain;
mod render;
mod shown;
mod wanted;

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use self::adopted::names_of;
pub(crate) use self::credentials::MAX_NUMBERED_BYTES;
pub use self::extras::{
    Extras, Federated, Intermediates, JWT_BUNDLE_NAME, PerDomain, TokenFile, reserved_names, same_names, shows,
    token_name,
};
pub use self::layout::{Format, LAYOUTS, Layout, LayoutFile, LayoutRow};
pub use self::per_domain::federated_name;
pub use self::render::{all, keep_text, with_bundle, with_jwt};
pub use self::wanted::{JwtGiven, MAX_VOLUME_BYTES, RenderError, Wanted};

/// The mode of every file: its owner and group may read it.
pub const FILE_MODE: u32 = 0o440;

/// The mode of the folder that holds the files.
pub const FOLDER_MODE: u32 = 0o550;

/// The longest file name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// The name of a file in a volume: one path component of 1 to 255 bytes that does not begin with `..`.
///
/// Names that begin with `..` belong to the driver: the files are links through `..data`, which is replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

/// Why a file name is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileNameError {
    /// It is empty or too long.
    #[error("a file name has 1 to {MAX_NAME_BYTES} bytes")]
    Length,
    /// It is a path, or has a byte that no file name has.
    #[error("a file name is one path component, without `/` or NUL")]
    NotOneComponent,
    /// `.`, or a name that begins with `..`.
    #[error("a file name is not `.` and does not begin with `..`")]
    Reserved,
}

/// The names of the files of a volume. All differ: see [`check_distinct`](FileNames::check_distinct).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNames {
    /// The certificate chain, if it has a file of its own.
    pub cert: Option<FileName>,
    /// The private key, if it has a file of its own.
    pub key: Option<FileName>,
    /// The trust bundle, if requested.
    pub bundle: Option<FileName>,
}

/// Two files of a volume have the same name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {first} and the {second} cannot both be in a file named {name}")]
pub struct SameName {
    /// One of the two files.
    pub first: &'static str,
    /// The other one.
    pub second: &'static str,
    /// Their name.
    pub name: FileName,
}

/// A file to be written. Its contents are overwritten when dropped, and never printed.
pub struct RenderedFile {
    /// Its name.
    pub name: FileName,
    /// Its contents.
    pub contents: Zeroizing<Vec<u8>>,
}

impl FileName {
    /// Reads a name.
    ///
    /// # Errors
    /// Why the name is not allowed.
    pub fn parse(name: &str) -> Result<Self, FileNameError> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(FileNameError::Length);
        }
        if name.contains(['/', '\0']) {
            return Err(FileNameError::NotOneComponent);
        }
        if name == "." || name.starts_with("..") {
            return Err(FileNameError::Reserved);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FileNames {
    /// Checks that no two files have the same name.
    ///
    /// # Errors
    /// The first two files that do.
    pub fn check_distinct(&self) -> Result<(), SameName> {
        same_names(self, &Extras::default()).into_iter().next().map_or(Ok(()), Err)
    }

    /// The number of files.
    pub fn count(&self) -> usize {
        self.named().count()
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &FileName)> {
        let names = [("certificate", &self.cert), ("key", &self.key), ("trust bundle", &self.bundle)];
        names.into_iter().filter_map(|(what, name)| Some((what, name.as_ref()?)))
    }
}

impl fmt::Debug for RenderedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RenderedFile({:?}, {} bytes redacted)", self.name.0, self.contents.len())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Control characters are allowed in names, but not in messages.
        write!(f, "`{}`", self.0.escape_debug())
    }
}

impl TryFrom<String> for FileName {
    type Error = FileNameError;

    fn try_from(name: String) -> Result<Self, FileNameError> {
        Self::parse(&name)
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_one_path_component_that_is_not_reserved() {
        let longest = "a".repeat(MAX_NAME_BYTES);
        for name in ["tls.crt", "a", ".hidden", "a..b", "a b", "é", &longest] {
            assert_eq!(FileName::parse(name).expect(name).as_str(), name);
        }
        for (name, error) in [
            ("", FileNameError::Length),
            (&"a".repeat(MAX_NAME_BYTES + 1), FileNameError::Length),
            ("a/b", FileNameError::NotOneComponent),
            ("/a", FileNameError::NotOneComponent),
            ("../a", FileNameError::NotOneComponent),
            ("a\0b", FileNameError::NotOneComponent),
            (".", FileNameError::Reserved),
            ("..", FileNameError::Reserved),
            ("..data", FileNameError::Reserved),
        ] {
            assert_eq!(FileName::parse(name), Err(error), "{name:?}");
        }
    }

    #[test]
    fn finds_two_files_with_the_same_name() {
        let check = |cert, key, bundle: Option<&str>| {
            let name = |name| FileName::parse(name).expect("a name");
            FileNames { cert: Some(name(cert)), key: Some(name(key)), bundle: bundle.map(name) }.check_distinct()
        };
        assert_eq!(check("a", "b", None), Ok(()));
        assert_eq!(check("a", "b", Some("c")), Ok(()));
        for (result, text) in [
            (check("a", "a", None), "the certificate and the key cannot both be in a file named `a`"),
            (check("a", "b", Some("a")), "the certificate and the trust bundle cannot both be in a file named `a`"),
            (check("a", "b", Some("b")), "the key and the trust bundle cannot both be in a file named `b`"),
        ] {
            assert_eq!(result.expect_err(text).to_string(), text);
        }
    }

    #[test]
    fn names_are_checked_when_read_back() {
        let json = r#"{"cert":"tls.crt","key":"tls.key","bundle":null}"#;
        let names: FileNames = serde_json::from_str(json).expect("names");
        assert_eq!(serde_json::to_string(&names).expect("text"), json);
        assert!(serde_json::from_str::<FileName>(r#""..data""#).is_err());
    }

    proptest! {
        #[test]
        fn a_name_never_leaves_its_folder(text in "[./a\0é]{0,6}") {
            let components: Vec<_> = std::path::Path::new(&text).components().collect();
            if let Ok(name) = FileName::parse(&text) {
                prop_assert_eq!(components.len(), 1);
                prop_assert!(matches!(components[0], std::path::Component::Normal(part) if part == name.as_str()));
                prop_assert!(!name.as_str().starts_with("..") && !name.as_str().contains('\0'));
            }
        }
    }
}

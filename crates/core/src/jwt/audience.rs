//! The audiences of a token.

use serde::{Deserialize, Serialize};

/// The maximum number of audiences of one token, or of one volume.
pub const MAX_AUDIENCES: usize = 8;

/// The longest audience, in bytes.
pub const MAX_AUDIENCE_BYTES: usize = 256;

/// One to [`MAX_AUDIENCES`] audiences of 1 to [`MAX_AUDIENCE_BYTES`] bytes, without duplicates, in the order given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Audiences(Vec<String>);

/// Why a list is not a list of audiences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AudienceError {
    /// No audience.
    #[error("at least one audience is needed: name a recipient of the JWT-SVID")]
    None,
    /// Over [`MAX_AUDIENCES`].
    #[error("there are {found} audiences, at most {MAX_AUDIENCES} are allowed")]
    TooMany {
        /// The number of audiences.
        found: usize,
    },
    /// An empty one, or over [`MAX_AUDIENCE_BYTES`].
    #[error("audience {position} has {bytes} bytes, it must have 1 to {MAX_AUDIENCE_BYTES}")]
    Length {
        /// The position of the audience, counted from 1.
        position: usize,
        /// Its size.
        bytes: usize,
    },
}

impl Audiences {
    /// Checks a list. Duplicates are removed.
    ///
    /// # Errors
    /// Why the list is refused.
    pub fn new(list: Vec<String>) -> Result<Self, AudienceError> {
        if list.is_empty() {
            return Err(AudienceError::None);
        }
        if list.len() > MAX_AUDIENCES {
            return Err(AudienceError::TooMany { found: list.len() });
        }
        let mut distinct: Vec<String> = Vec::with_capacity(list.len());
        for (index, audience) in list.into_iter().enumerate() {
            let bytes = audience.len();
            if !(1..=MAX_AUDIENCE_BYTES).contains(&bytes) {
                return Err(AudienceError::Length { position: index + 1, bytes });
            }
            if !distinct.contains(&audience) {
                distinct.push(audience);
            }
        }
        Ok(Self(distinct))
    }

    /// The audiences; never empty.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for Audiences {
    type Error = AudienceError;

    fn try_from(list: Vec<String>) -> Result<Self, AudienceError> {
        Self::new(list)
    }
}

impl From<Audiences> for Vec<String> {
    fn from(audiences: Audiences) -> Self {
        audiences.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[&str]) -> Result<Vec<String>, AudienceError> {
        Audiences::new(list.iter().map(|&audience| audience.to_owned()).collect()).map(Vec::from)
    }

    #[test]
    fn are_few_short_and_distinct() {
        let longest = "a".repeat(MAX_AUDIENCE_BYTES);
        assert_eq!(read(&["b", "a", "b"]), Ok(vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(read(&[&longest]), Ok(vec![longest.clone()]));
        assert_eq!(read(&["a"; MAX_AUDIENCES]).map(|list| list.len()), Ok(1));
        assert_eq!(read(&[]), Err(AudienceError::None));
        assert_eq!(read(&["a"; MAX_AUDIENCES + 1]), Err(AudienceError::TooMany { found: 9 }));
        assert_eq!(read(&["a", ""]), Err(AudienceError::Length { position: 2, bytes: 0 }));
        let too_long = format!("{longest}a");
        assert_eq!(read(&[&too_long]), Err(AudienceError::Length { position: 1, bytes: 257 }));
    }

    #[test]
    fn are_checked_when_read_back() {
        let audiences: Audiences = serde_json::from_str(r#"["vault","db"]"#).expect("audiences");
        assert_eq!(serde_json::to_string(&audiences).expect("text"), r#"["vault","db"]"#);
        assert!(serde_json::from_str::<Audiences>("[]").is_err());
    }
}

//! SPIFFE IDs and trust domains (SPIFFE-ID, section 2).

use std::fmt;

use serde::{Deserialize, Serialize};

const SCHEME: &str = "spiffe://";

/// The longest SPIFFE ID, in bytes (SPIFFE-ID, section 2.3).
pub const MAX_ID_BYTES: usize = 2048;

/// The longest trust domain name, in bytes (SPIFFE-ID, section 2.3).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// The name of a trust domain, such as `example.org`: lower-case letters, digits, `.`, `-` and `_`, 1 to 255 bytes
/// (SPIFFE-ID, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

/// A SPIFFE ID such as `spiffe://example.org/ns/shop/sa/cart`, or without a path the ID of a trust domain itself.
///
/// The path is kept as written; two IDs are equal when their bytes are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    uri: String,
}

/// Why a text is not a SPIFFE ID or a trust domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Another scheme, or the scheme in upper case.
    #[error("a SPIFFE ID begins with `spiffe://`, in lower case")]
    Scheme,
    /// Over [`MAX_ID_BYTES`].
    #[error("a SPIFFE ID has at most {MAX_ID_BYTES} bytes, this one has {bytes}")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// An empty trust domain.
    #[error("the trust domain is empty")]
    NoTrustDomain,
    /// A whole SPIFFE ID instead of the name of a trust domain.
    #[error("a trust domain is a name such as `example.org`, without `spiffe://`")]
    NotAName,
    /// Over [`MAX_TRUST_DOMAIN_BYTES`].
    #[error("a trust domain has at most {MAX_TRUST_DOMAIN_BYTES} bytes, this one has {bytes}")]
    TrustDomainTooLong {
        /// Its size.
        bytes: usize,
    },
    /// A character that a trust domain cannot hold.
    #[error("a trust domain holds only a-z, 0-9, `.`, `-` and `_` (no port, no user info), not {character:?}")]
    TrustDomainCharacter {
        /// The first such character.
        character: char,
    },
    /// A path, or a part of one, that is not allowed.
    #[error("{part} of a SPIFFE ID {problem}")]
    Path {
        /// The part: the path, or the value that a segment was made from.
        part: &'static str,
        /// The fault.
        problem: PathProblem,
    },
}

/// A fault of the path of a SPIFFE ID (SPIFFE-ID, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// `//`, or an empty value for a segment.
    #[error("has an empty segment")]
    EmptySegment,
    /// `/` at the end.
    #[error("ends with `/`")]
    TrailingSlash,
    /// `.` or `..`.
    #[error("has a segment `.` or `..`")]
    DotSegment,
    /// A character that a segment cannot hold.
    #[error("holds only a-z, A-Z, 0-9, `.`, `-` and `_` (no percent-encoding, query or fragment), not {0:?}")]
    Character(char),
}

impl TrustDomain {
    /// Reads a name such as `example.org`.
    ///
    /// # Errors
    /// Why it is not a trust domain name.
    pub fn parse(name: &str) -> Result<Self, SpiffeIdError> {
        if name.is_empty() {
            return Err(SpiffeIdError::NoTrustDomain);
        }
        if name.len() > MAX_TRUST_DOMAIN_BYTES {
            return Err(SpiffeIdError::TrustDomainTooLong { bytes: name.len() });
        }
        if name.starts_with(SCHEME) {
            return Err(SpiffeIdError::NotAName);
        }
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
        match name.chars().find(|c| !allowed(*c)) {
            Some(character) => Err(SpiffeIdError::TrustDomainCharacter { character }),
            None => Ok(Self(name.to_owned())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID of the trust domain itself, `spiffe://<name>`, which its signing certificates carry
    /// (X509-SVID, section 3.2).
    pub fn id(&self) -> SpiffeId {
        SpiffeId { trust_domain: self.clone(), uri: format!("{SCHEME}{self}") }
    }
}

impl SpiffeId {
    /// Reads a SPIFFE ID, with or without a path.
    ///
    /// # Errors
    /// Why it is not a SPIFFE ID. Nothing is normalized: a text that is not in the one correct form is refused.
    pub fn parse(uri: &str) -> Result<Self, SpiffeIdError> {
        if uri.len() > MAX_ID_BYTES {
            return Err(SpiffeIdError::TooLong { bytes: uri.len() });
        }
        let rest = uri.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let (name, path) = rest.split_once('/').map_or((rest, None), |(name, path)| (name, Some(path)));
        let trust_domain = TrustDomain::parse(name)?;
        if let Some(path) = path {
            check_path(path).map_err(|problem| SpiffeIdError::Path { part: "the path", problem })?;
        }
        Ok(Self { trust_domain, uri: uri.to_owned() })
    }

    /// The ID of a Kubernetes service account, `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    /// If the namespace or the service account cannot be a path segment, or the ID is too long.
    pub fn for_service_account(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, SpiffeIdError> {
        for (part, segment) in [("the namespace", namespace), ("the service account", service_account)] {
            check_segment(segment).map_err(|problem| SpiffeIdError::Path { part, problem })?;
        }
        let uri = format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}");
        if uri.len() > MAX_ID_BYTES {
            return Err(SpiffeIdError::TooLong { bytes: uri.len() });
        }
        Ok(Self { trust_domain: trust_domain.clone(), uri })
    }

    /// The trust domain the ID belongs to.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading `/`, or `None` for the ID of a trust domain.
    pub fn path(&self) -> &str {
        &self.uri[SCHEME.len() + self.trust_domain.0.len()..]
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.uri
    }
}

/// Checks the text after the first `/`.
fn check_path(path: &str) -> Result<(), PathProblem> {
    if path.is_empty() || path.ends_with('/') {
        return Err(PathProblem::TrailingSlash);
    }
    path.split('/').try_for_each(check_segment)
}

fn check_segment(segment: &str) -> Result<(), PathProblem> {
    match segment {
        "" => return Err(PathProblem::EmptySegment),
        "." | ".." => return Err(PathProblem::DotSegment),
        _ => {}
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match segment.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(PathProblem::Character(character)),
        None => Ok(()),
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = SpiffeIdError;

    fn try_from(name: String) -> Result<Self, SpiffeIdError> {
        Self::parse(&name)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = SpiffeIdError;

    fn try_from(uri: String) -> Result<Self, SpiffeIdError> {
        Self::parse(&uri)
    }
}

impl From<TrustDomain> for String {
    fn from(name: TrustDomain) -> Self {
        name.0
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.uri
    }
}

#[cfg(test)]
mod tests;

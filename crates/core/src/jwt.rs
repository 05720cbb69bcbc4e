//! JWT-SVIDs: tokens that identify a workload to their audience (the JWT-SVID standard).
//!
//! A [`JwtAuthority`] signs them, a [`JwtBundle`] holds the public keys of one trust domain, [`validate`] checks a token
//! from another workload, and [`JwtSvid::read`] reads one that an issuer sent for a workload on this node.

mod algorithm;
mod audience;
mod authority;
mod bundle;
mod claims;
mod compact;
mod jwk;
mod rejection;
mod svid;
mod validate;

use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub use self::audience::{AudienceError, Audiences, MAX_AUDIENCE_BYTES, MAX_AUDIENCES};
pub use self::authority::{JwtAuthority, JwtSignError};
pub(crate) use self::bundle::jwk_set;
pub use self::bundle::{JwtBundle, JwtBundleError, JwtBundles, MAX_JWKS_BYTES, MAX_KEYS, bundles_digest};
pub use self::jwk::JwkError;
pub use self::rejection::{ClaimProblem, JwtRejection};
pub use self::svid::JwtSvid;
pub use self::validate::{ValidatedJwt, validate};

/// The longest token that is read, in bytes: an ID, eight audiences and the longest signature need half of it.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Base64url without padding (RFC 7515, section 2).
const BASE64: GeneralPurpose = URL_SAFE_NO_PAD;

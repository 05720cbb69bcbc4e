//! The signature algorithms of JWT-SVIDs (JWT-SVID, section 2.1), and no others: `none` and the shared-secret
//! algorithms cannot be represented.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
};

/// A value of the header `alg` that a JWT-SVID may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// ES256, ES384 or ES512, as the curve determines.
    Ecdsa(Curve),
    /// RS256, RS384 or RS512 with their names.
    RsaPkcs1(Digest),
    /// PS256, PS384 or PS512.
    RsaPss(Digest),
}

/// A curve of RFC 7518, section 6.2.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

/// A digest of the SHA-2 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digest {
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    /// All of them, by their names.
    const ALL: [(&'static str, Self); 9] = [
        ("RS256", Self::RsaPkcs1(Digest::Sha256)),
        ("RS384", Self::RsaPkcs1(Digest::Sha384)),
        ("RS512", Self::RsaPkcs1(Digest::Sha512)),
        ("ES256", Self::Ecdsa(Curve::P256)),
        ("ES384", Self::Ecdsa(Curve::P384)),
        ("ES512", Self::Ecdsa(Curve::P521)),
        ("PS256", Self::RsaPss(Digest::Sha256)),
        ("PS384", Self::RsaPss(Digest::Sha384)),
        ("PS512", Self::RsaPss(Digest::Sha512)),
    ];

    /// The algorithm of that name; names are case-sensitive (RFC 7515, section 4.1.1).
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The curve of that name, as `crv` has it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|curve| curve.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// The bytes of each coordinate of a point.
    pub(super) fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// How signatures that consist of two concatenated numbers are verified (RFC 7518, section 3.4).
    pub(super) fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::P521 => &ECDSA_P521_SHA512_FIXED,
        }
    }
}

impl Digest {
    pub(super) fn pkcs1(self) -> &'static RsaParameters {
        match self {
            Self::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        }
    }

    pub(super) fn pss(self) -> &'static RsaParameters {
        match self {
            Self::Sha256 => &RSA_PSS_2048_8192_SHA256,
            Self::Sha384 => &RSA_PSS_2048_8192_SHA384,
            Self::Sha512 => &RSA_PSS_2048_8192_SHA512,
        }
    }
}

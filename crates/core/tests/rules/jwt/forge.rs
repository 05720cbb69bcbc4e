//! Creates tokens and keys, good and bad, without the code under test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use svid_csi_core::jwt::{JwtBundle, JwtBundles};
use svid_csi_core::spiffe_id::TrustDomain;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;

use crate::forge::{ID, now};

pub(crate) const AUDIENCE: &str = "spiffe://example.org/ns/shop/sa/db";

/// A key, its ID, and its JWK.
pub(crate) struct TestKey {
    pub(crate) alg: &'static str,
    pub(crate) jwk: Value,
    signer: Signer,
}

enum Signer {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

impl TestKey {
    /// A key for the algorithm, with the key ID `k`.
    pub(crate) fn new(alg: &'static str) -> Self {
        match alg {
            "ES256" => Self::ecdsa(alg, "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => Self::ecdsa(alg, "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
            "ES512" => Self::ecdsa(alg, "P-521", &ECDSA_P521_SHA512_FIXED_SIGNING),
            "RS256" => Self::rsa(alg, &RSA_PKCS1_SHA256),
            "RS384" => Self::rsa(alg, &RSA_PKCS1_SHA384),
            "RS512" => Self::rsa(alg, &RSA_PKCS1_SHA512),
            "PS256" => Self::rsa(alg, &RSA_PSS_SHA256),
            "PS384" => Self::rsa(alg, &RSA_PSS_SHA384),
            "PS512" => Self::rsa(alg, &RSA_PSS_SHA512),
            _ => panic!("{alg} is not an algorithm"),
        }
    }

    fn ecdsa(alg: &'static str, curve: &str, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(algorithm).expect("a key");
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({"kty": "EC", "kid": "k", "crv": curve, "x": encode(x), "y": encode(y)});
        Self { alg, jwk, signer: Signer::Ecdsa(pair) }
    }

    fn rsa(alg: &'static str, encoding: &'static dyn RsaEncoding) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let (_, public) = RSAPublicKey::from_der(pair.public_key().as_ref()).expect("a public key");
        let modulus = public.modulus.strip_prefix(&[0]).unwrap_or(public.modulus);
        let jwk = json!({"kty": "RSA", "kid": "k", "n": encode(modulus), "e": encode(public.exponent)});
        Self { alg, jwk, signer: Signer::Rsa(pair, encoding) }
    }

    /// The claims, signed, with the usual header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.alg, "kid": "k", "typ": "JWT"}), claims)
    }

    /// The claims, signed, with that header.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        self.sign(&format!("{}.{}", encode(header.to_string()), encode(claims.to_string())))
    }

    /// Appends the signature to the signed text.
    pub(crate) fn sign(&self, message: &str) -> String {
        let random = SystemRandom::new();
        let signature = match &self.signer {
            Signer::Ecdsa(pair) => pair.sign(&random, message.as_bytes()).expect("a signature").as_ref().to_vec(),
            Signer::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message.as_bytes(), &mut signature).expect("a signature");
                signature
            }
        };
        format!("{message}.{}", encode(signature))
    }

    /// The bundles of `example.org` with this key.
    pub(crate) fn bundles(&self) -> JwtBundles {
        bundles(std::slice::from_ref(&self.jwk))
    }
}

/// The bundle of `example.org`.
pub(crate) fn bundles(keys: &[Value]) -> JwtBundles {
    let bundle = JwtBundle::read(json!({"keys": keys}).to_string().as_bytes()).expect("a bundle");
    BTreeMap::from([(TrustDomain::parse("example.org").expect("a name"), Arc::new(bundle))])
}

/// The claims of a proper token, valid for 5 minutes.
pub(crate) fn claims() -> Value {
    json!({"sub": ID, "aud": [AUDIENCE], "iat": seconds(now()), "exp": seconds(now()) + 300})
}

/// The claims, changed: null removes one.
pub(crate) fn claims_but(claim: &str, value: Value) -> Value {
    but(claims(), claim, value)
}

/// The object, changed: null removes a member.
pub(crate) fn but(mut object: Value, name: &str, value: Value) -> Value {
    let members = object.as_object_mut().expect("an object");
    match value {
        Value::Null => members.remove(name),
        value => members.insert(name.to_owned(), value),
    };
    object
}

pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

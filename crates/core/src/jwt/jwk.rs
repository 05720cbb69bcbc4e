//! The public key in a JWK (RFC 7517, RFC 7518 section 6).

use aws_lc_rs::digest;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ParsedPublicKey, UnparsedPublicKey};
use base64::Engine;
use serde_json::{Map, Value, json};

use super::BASE64;
use super::algorithm::{Algorithm, Curve, Digest};

/// The smallest and the largest RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A public key that can verify JWT-SVIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Jwk {
    key: Key,
    /// The only algorithm it may be used with, if the JWK names one.
    only: Option<Algorithm>,
    /// The name of that algorithm.
    alg: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Ec { curve: Curve, x: Vec<u8>, y: Vec<u8> },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// Why a JWK of a known type cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// A parameter is missing, or not a string.
    #[error("its `{parameter}` is missing or not a string")]
    Missing {
        /// Which parameter.
        parameter: &'static str,
    },
    /// A parameter is not base64url, or has a wrong size.
    #[error("its `{parameter}` is not base64url without padding, or not of the right size")]
    Encoding {
        /// Which parameter.
        parameter: &'static str,
    },
    /// The parameters are not those of a key.
    #[error("its parameters are not those of a public key")]
    NotAKey,
}

impl Jwk {
    /// Reads the key; `None` if its type cannot sign JWT-SVIDs, and must therefore be ignored (SPIFFE Trust Domain and
    /// Bundle, section 4.2.1).
    pub(super) fn read(jwk: &Map<String, Value>) -> Result<Option<Self>, JwkError> {
        let alg = jwk.get("alg").and_then(Value::as_str);
        let only = alg.map(Algorithm::parse);
        if only == Some(None) {
            return Ok(None);
        }
        let key = match jwk.get("kty").and_then(Value::as_str) {
            Some("EC") => ec(jwk)?,
            Some("RSA") => rsa(jwk)?,
            _ => None,
        };
        Ok(key.map(|key| Self { key, only: only.flatten(), alg: alg.map(str::to_owned) }))
    }

    /// The key of a point on a curve, uncompressed (SEC 1, section 2.3.3).
    pub(super) fn from_point(curve: Curve, point: &[u8]) -> Option<Self> {
        let (x, y) = point.strip_prefix(&[4])?.split_at_checked(curve.coordinate_bytes())?;
        (x.len() == y.len()).then(|| Self {
            key: Key::Ec { curve, x: x.to_vec(), y: y.to_vec() },
            only: None,
            alg: None,
        })
    }

    /// The required parameters of the key: `kty` and the numbers. These and nothing else go into its thumbprint (RFC
    /// 7638, section 3.2).
    pub(super) fn required(&self) -> Map<String, Value> {
        let encode = |number: &[u8]| BASE64.encode(number);
        let parameters = match &self.key {
            Key::Ec { curve, x, y } => json!({"kty": "EC", "crv": curve.name(), "x": encode(x), "y": encode(y)}),
            Key::Rsa { n, e } => json!({"kty": "RSA", "n": encode(n), "e": encode(e)}),
        };
        match parameters {
            Value::Object(parameters) => parameters,
            _ => Map::new(),
        }
    }

    /// RFC 7638, section 3: SHA-256 of the required parameters, in the order of their names and without white space.
    pub(super) fn thumbprint(&self) -> String {
        let mut parameters: Vec<_> = self.required().into_iter().collect();
        parameters.sort_by(|(a, _), (b, _)| a.cmp(b));
        let members: Vec<String> = parameters.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        BASE64.encode(digest::digest(&digest::SHA256, format!("{{{}}}", members.join(",")).as_bytes()))
    }

    /// The required parameters, and the algorithm if the key is limited to one.
    pub(super) fn parameters(&self) -> Map<String, Value> {
        let mut parameters = self.required();
        parameters.extend(self.alg.as_ref().map(|alg| ("alg".to_owned(), Value::from(alg.as_str()))));
        parameters
    }

    /// Whether the message is signed with this key and that algorithm.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if self.only.is_some_and(|only| only != algorithm) {
            return false;
        }
        match (&self.key, algorithm) {
            (Key::Ec { curve, x, y }, Algorithm::Ecdsa(wanted)) if *curve == wanted => {
                let key = UnparsedPublicKey::new(curve.verification(), point(x, y));
                key.verify(message, signature).is_ok()
            }
            (Key::Rsa { n, e }, Algorithm::RsaPkcs1(digest)) => {
                PublicKeyComponents { n, e }.verify(digest.pkcs1(), message, signature).is_ok()
            }
            (Key::Rsa { n, e }, Algorithm::RsaPss(digest)) => {
                PublicKeyComponents { n, e }.verify(digest.pss(), message, signature).is_ok()
            }
            _ => false,
        }
    }
}

fn ec(jwk: &Map<String, Value>) -> Result<Option<Key>, JwkError> {
    let Some(curve) = Curve::parse(text(jwk, "crv")?) else { return Ok(None) };
    let coordinate = |parameter| {
        let bytes = number(jwk, parameter)?;
        // The full size, including leading zeros (RFC 7518, section 6.2.1.2).
        if bytes.len() == curve.coordinate_bytes() { Ok(bytes) } else { Err(JwkError::Encoding { parameter }) }
    };
    let (x, y) = (coordinate("x")?, coordinate("y")?);
    ParsedPublicKey::new(curve.verification(), point(&x, &y)).map_err(|_| JwkError::NotAKey)?;
    Ok(Some(Key::Ec { curve, x, y }))
}

fn rsa(jwk: &Map<String, Value>) -> Result<Option<Key>, JwkError> {
    let (n, e) = (without_zeros(number(jwk, "n")?), without_zeros(number(jwk, "e")?));
    let unused_bits = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !RSA_BITS.contains(&(8 * n.len() - unused_bits)) {
        return Ok(None);
    }
    let key = PublicKeyComponents { n: &n, e: &e };
    key.to_parsed_public_key(Digest::Sha256.pkcs1()).map_err(|_| JwkError::NotAKey)?;
    Ok(Some(Key::Rsa { n, e }))
}

fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

fn text<'a>(jwk: &'a Map<String, Value>, parameter: &'static str) -> Result<&'a str, JwkError> {
    jwk.get(parameter).and_then(Value::as_str).ok_or(JwkError::Missing { parameter })
}

fn number(jwk: &Map<String, Value>, parameter: &'static str) -> Result<Vec<u8>, JwkError> {
    BASE64.decode(text(jwk, parameter)?).map_err(|_| JwkError::Encoding { parameter })
}

/// Some issuers add a leading zero if the first bit of the number is set.
fn without_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

    fn read(jwk: Value) -> Jwk {
        Jwk::read(jwk.as_object().expect("an object")).expect("it can be read").expect("its kind is known")
    }

    /// RFC 7515, appendices A.2 to A.4.
    #[test]
    fn verifies_the_examples_of_the_standard() {
        let rs256 = json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmf\
            HQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kp\
            aSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-\
            DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
        let es256 = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let es512 = json!({"kty": "EC", "crv": "P-521",
            "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
            "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"});
        for (alg, jwk, message, signature) in [
            (
                "RS256",
                rs256,
                format!("eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}"),
                "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUA\
                 r7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--\
                 xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_Io\
                 ypGlUPQGe77Rw",
            ),
            (
                "ES256",
                es256,
                format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}"),
                "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            ),
            (
                "ES512",
                es512,
                "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA".to_owned(),
                "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZ\
                 CPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
            ),
        ] {
            let (key, algorithm) = (read(jwk), Algorithm::parse(alg).expect("an algorithm"));
            let signature = BASE64.decode(signature).expect("base64");
            assert!(key.verifies(algorithm, message.as_bytes(), &signature), "{alg}");
            assert!(!key.verifies(algorithm, b"another message", &signature), "{alg}");
            assert_eq!(read(Value::Object(key.parameters())), key, "it reads back");
        }
    }

    /// RFC 7638, section 3.1.
    #[test]
    fn the_thumbprint_is_that_of_the_standard() {
        let jwk = json!({"kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQ\
            mbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXA\
            rwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNL\
            yrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"});
        let jwk = Jwk::read(jwk.as_object().expect("an object")).expect("it can be read").expect("its kind is known");
        assert_eq!(jwk.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}

#[cfg(test)]
mod wycheproof;

//! PKCS#12 files, read by a reader of this test, and by OpenSSL and Java if they are installed.

use std::io::Write as _;
use std::process::{Command, Output};

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use svid_csi_core::identity::{Candidate, KeyType, PrivateKey};
use svid_csi_core::pkcs12::{
    Alias, MAX_ALIAS_BYTES, MAX_PASSWORD_BYTES, Password, Pkcs12Error, key_store, trust_store,
};
use svid_csi_core::secret::Secret;

use crate::forge::Authority;

fn password(text: &str) -> Result<Password, Pkcs12Error> {
    Password::new(Secret::new(text.to_owned()))
}

fn changeit() -> Password {
    password("changeit").expect("a password")
}

/// A leaf under an intermediate CA, and the root.
fn identity() -> (Candidate, Vec<u8>) {
    let root = Authority::root(|_| {});
    let intermediate = root.intermediate(|_| {});
    let mut candidate = intermediate.leaf(|_| {});
    candidate.chain.push(intermediate.certificate.clone());
    (candidate, root.certificate.to_vec())
}

fn stored(candidate: &Candidate) -> Vec<u8> {
    stored_as(candidate, &Alias::default())
}

fn stored_as(candidate: &Candidate, alias: &Alias) -> Vec<u8> {
    key_store(&candidate.key, candidate.chain.iter().map(AsRef::as_ref), alias, &changeit()).expect("a key store")
}

fn user() -> Alias {
    Alias::parse("user").expect("an alias")
}

fn trusted(anchors: &[&[u8]]) -> Vec<u8> {
    let named = anchors.iter().enumerate().map(|(index, der)| (format!("example.org-{}", index + 1), *der));
    trust_store(named, &changeit()).expect("a trust store")
}

#[test]
fn passwords_are_those_that_java_accepts() {
    for text in ["c", "changeit", " a~b ", &"a".repeat(MAX_PASSWORD_BYTES)] {
        assert_eq!(password(text).expect(text).expose(), text);
    }
    for text in ["", &"a".repeat(MAX_PASSWORD_BYTES + 1)] {
        assert_eq!(password(text).err(), Some(Pkcs12Error::PasswordLength));
    }
    for text in ["hunter2\n", "h\tu", "hünter", "h\u{7f}"] {
        let error = password(text).expect_err("Java refuses it");
        assert_eq!(error, Pkcs12Error::PasswordCharacter);
        assert!(!format!("{error} {error:?}").contains("hunter"));
    }
    assert!(!format!("{:?}", changeit()).contains("changeit"), "a password is not printed");
}

/// One DER value: its tag, its contents, and what comes after it.
fn value(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let (head, length) = match bytes[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let head = 2 + usize::from(long & 0x7f);
            (head, bytes[2..head].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
    };
    (bytes[0], &bytes[head..head + length], &bytes[head + length..])
}

/// The contents of all DER values in there.
fn values(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let (_, contents, rest) = value(bytes);
        values.push(contents);
        bytes = rest;
    }
    values
}

/// Decrypts the contents after a PBES2 algorithm.
fn decrypt(algorithm: &[u8], encrypted: &[u8], password: &str) -> Vec<u8> {
    let schemes = values(values(algorithm)[1]);
    let derivation = values(values(schemes[0])[1]);
    let iterations = derivation[1].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let mut key = [0; 32];
    let iterations = iterations.try_into().expect("it is not zero");
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, derivation[0], password.as_bytes(), &mut key);
    let iv: [u8; 16] = values(schemes[1])[1].try_into().expect("an IV");
    let key = UnboundCipherKey::new(&AES_256, &key).expect("a key");
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).expect("a key");
    let mut text = encrypted.to_vec();
    key.decrypt(&mut text, DecryptionContext::Iv128(FixedLength::from(iv))).expect("the password").to_vec()
}

/// The contents of the parts of a file, decrypted: whole lists of bags.
fn contents(file: &[u8]) -> Vec<Vec<u8>> {
    let pfx = values(value(file).1);
    assert_eq!(pfx[0], [3], "the version");
    let safe = values(values(values(pfx[1])[1])[0])[0];
    let part = |part: &[u8]| {
        let inner = value(values(part)[1]);
        if inner.0 == 4 {
            return inner.1.to_vec();
        }
        let content = values(values(inner.1)[1]);
        decrypt(content[1], content[2], "changeit")
    };
    values(safe).into_iter().map(part).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_key_store_holds_the_key_and_its_chain() {
    let (candidate, _) = identity();
    let file = stored(&candidate);
    assert!(!contains(&file, &candidate.key.der()[40..]), "the key is encrypted");
    let [keys, certificates] = &contents(&file)[..] else { panic!("a part with the key and one with certificates") };
    let shrouded = values(values(values(value(keys).1)[0])[1])[0];
    let [algorithm, encrypted] = values(shrouded)[..] else { panic!("algorithm and ciphertext") };
    let key = decrypt(algorithm, encrypted, "changeit");
    assert_eq!(key, candidate.key.der());
    let bags = values(value(certificates).1);
    assert_eq!(bags.len(), 2);
    for (bag, der) in bags.iter().zip(&candidate.chain) {
        assert!(contains(bag, der), "the leaf first");
    }
    let name = utf16("svid");
    assert!(contains(keys, &name) && contains(bags[0], &name) && !contains(bags[1], &name));
    assert_ne!(stored(&candidate), file, "salts are random");
}

fn utf16(name: &str) -> Vec<u8> {
    name.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[test]
fn key_and_leaf_have_the_requested_alias() {
    let file = stored_as(&identity().0, &user());
    let [keys, certificates] = &contents(&file)[..] else { panic!("a part with the key and one with certificates") };
    let leaf = values(value(certificates).1)[0];
    for bag in [keys.as_slice(), leaf] {
        assert!(contains(bag, &utf16("user")) && !contains(bag, &utf16("svid")));
    }
    for wrong in ["", "a b", "a\n", "é", &"a".repeat(MAX_ALIAS_BYTES + 1)] {
        assert!(Alias::parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_trust_store_marks_certificates_as_trusted() {
    let (_, root) = identity();
    let (_, other) = identity();
    let file = trusted(&[&root, &other]);
    let [certificates] = &contents(&file)[..] else { panic!("one part") };
    let bags = values(value(certificates).1);
    // 2.16.840.1.113894.746875.1.1, as Java's own trust stores have it.
    let oracle = b"\x06\x0c\x60\x86\x48\x01\x86\xf9\x66\xad\xca\x7b\x01\x01\x31\x06\x06\x04\x55\x1d\x25\x00";
    for (bag, der) in bags.iter().zip([root, other]) {
        assert!(contains(bag, &der) && contains(bag, oracle));
    }
    assert!(!contains(&contents(&stored(&identity().0))[1], oracle), "a chain is not trusted by being there");
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// Runs the tool on the file.
fn on_file(tool: &str, arguments: &[&str], file: &[u8]) -> String {
    let mut store = tempfile::NamedTempFile::new().expect("a file");
    store.write_all(file).expect("room for it");
    let path = store.path().to_str().expect("a path");
    let arguments = arguments.iter().map(|&argument| if argument == "FILE" { path } else { argument });
    String::from_utf8(run(Command::new(tool).args(arguments)).stdout).expect("text")
}

#[test]
#[ignore = "needs the openssl command"]
fn openssl_reads_them() {
    for key_type in KeyType::ALL {
        let key = PrivateKey::generate(key_type).expect("a key");
        let root = Authority::root(|_| {});
        let file = key_store(&key, [root.certificate.as_ref()], &Alias::default(), &changeit()).expect("a key store");
        let arguments = ["pkcs12", "-in", "FILE", "-passin", "pass:changeit", "-nodes", "-nocerts"];
        let shown = on_file("openssl", &arguments, &file);
        let block = &shown[shown.find("-----BEGIN").expect("a key")..];
        let read = PrivateKey::from_pem(block).expect("a key");
        assert_eq!(read.public_key_der(), key.public_key_der(), "{key_type}");
    }
    let (candidate, root) = identity();
    let arguments = ["pkcs12", "-in", "FILE", "-passin", "pass:changeit", "-nokeys", "-info"];
    let shown = on_file("openssl", &arguments, &stored(&candidate));
    assert_eq!(shown.matches("BEGIN CERTIFICATE").count(), 2, "{shown}");
    assert!(shown.contains("friendlyName: svid"), "{shown}");
    assert!(on_file("openssl", &arguments, &stored_as(&candidate, &user())).contains("friendlyName: user"));
    assert_eq!(on_file("openssl", &arguments, &trusted(&[&root])).matches("BEGIN CERTIFICATE").count(), 1);
    let wrong = Command::new("openssl").args(["pkcs12", "-in", "/dev/stdin", "-passin", "pass:wrong"]).output();
    assert!(!wrong.expect("it runs").status.success());
}

#[test]
#[ignore = "needs Java's keytool command"]
fn keytool_reads_them() {
    let (candidate, root) = identity();
    let (_, other) = identity();
    let arguments = ["-J-Duser.language=en", "-list", "-v", "-keystore", "FILE", "-storepass", "changeit"];
    let shown = on_file("keytool", &arguments, &stored(&candidate));
    assert!(shown.contains("Alias name: svid") && shown.contains("Entry type: PrivateKeyEntry"), "{shown}");
    assert!(shown.contains("Certificate chain length: 2"), "{shown}");
    let shown = on_file("keytool", &arguments, &trusted(&[&root, &other]));
    assert_eq!(shown.matches("Entry type: trustedCertEntry").count(), 2, "{shown}");
    assert!(shown.contains("Alias name: example.org-1") && shown.contains("Alias name: example.org-2"), "{shown}");
    let arguments = ["-exportcert", "-rfc", "-alias", "svid", "-keystore", "FILE", "-storepass", "changeit"];
    assert!(on_file("keytool", &arguments, &stored(&candidate)).contains("BEGIN CERTIFICATE"));
    let arguments = ["-exportcert", "-rfc", "-alias", "user", "-keystore", "FILE", "-storepass", "changeit"];
    assert!(on_file("keytool", &arguments, &stored_as(&candidate, &user())).contains("BEGIN CERTIFICATE"));
}

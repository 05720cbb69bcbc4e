//! Key stores and trust stores, as go-pkcs12 reads them.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use svid_csi_core::identity::Candidate;
use svid_csi_core::pkcs12::{Alias, MAX_ALIAS_BYTES, MAX_PASSWORD_BYTES, Password, key_store, trust_store};
use svid_csi_core::secret::Secret;

use super::{Comparison, Question, Rolls, Verdict, record};
use crate::forge::Authority;

/// What a file is made of, and the file.
#[derive(Debug)]
struct Store {
    kind: &'static str,
    password: String,
    file: Vec<u8>,
    /// SHA-256 of what must be in it.
    contents: String,
    /// Neither the file nor the password was changed afterwards.
    is_intact: bool,
}

/// Identities with keys of all types and chains of all lengths, and anchors.
static IDENTITIES: LazyLock<Vec<Candidate>> = LazyLock::new(|| {
    let keys = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    let made = |(length, algorithm): (usize, &&'static rcgen::SignatureAlgorithm)| {
        let mut authority = Authority::root(|_| {});
        let mut chain = Vec::new();
        for _ in 0..length {
            authority = authority.intermediate(|_| {});
            chain.insert(0, authority.certificate.clone());
        }
        let mut candidate = authority.leaf_with(&rcgen::KeyPair::generate_for(algorithm).expect("a key"), |_| {});
        candidate.chain.extend(chain);
        candidate
    };
    keys.iter().enumerate().map(made).collect()
});

fn text(rolls: &mut Rolls, first: u8, longest: usize) -> String {
    let length = 1 + if rolls.one_in(8) { rolls.below(longest) } else { rolls.below(12) };
    (0..length).map(|_| char::from(first + rolls.roll(u64::from(b'~' - first) + 1) as u8)).collect()
}

fn make(rolls: &mut Rolls) -> Store {
    let password = text(rolls, b' ', MAX_PASSWORD_BYTES);
    let secret = Password::new(Secret::new(password.clone())).expect("a password");
    let Candidate { chain, key, .. } = &IDENTITIES[rolls.below(IDENTITIES.len())];
    let ders = chain.iter().map(AsRef::<[u8]>::as_ref);
    let (kind, file, contents) = if rolls.one_in(2) {
        let anchors: Vec<_> =
            ders.enumerate().map(|(at, der)| (format!("{}-{at}", text(rolls, b'!', 200)), der)).collect();
        let contents = anchors.iter().map(|(_, der)| *der).collect::<Vec<_>>().concat();
        ("trust", trust_store(anchors, &secret), contents)
    } else {
        let alias = Alias::parse(&text(rolls, b'!', MAX_ALIAS_BYTES)).expect("an alias");
        let contents = [key.public_key_der(), &ders.clone().collect::<Vec<_>>().concat()].concat();
        ("key", key_store(key, ders, &alias, &secret), contents)
    };
    let contents = digest::digest(&digest::SHA256, &contents);
    let contents = contents.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = file.expect("a file");
    let (other_password, is_edited) = (rolls.one_in(10), rolls.one_in(10));
    if is_edited {
        rolls.edit(&mut file);
    }
    let password = if other_password { password + "x" } else { password };
    Store { kind, password, file, contents, is_intact: !other_password && !is_edited }
}

/// A changed file is refused, unless its contents are still the same.
fn compare(store: &Store, theirs: &str) -> Verdict {
    match (store.is_intact, theirs.starts_with("no ")) {
        (_, false) if theirs == store.contents => Verdict::Accepted,
        (false, true) => Verdict::Refused,
        _ => Verdict::Different(format!("{theirs:?} is read instead of {}", store.contents)),
    }
}

/// Each file takes 10,000 rounds of a hash three times, here and there, so that there are fewer.
#[test]
#[ignore = "needs Go: just oracles"]
fn stores_are_those_of_go() {
    let encode = |store: &Store| record([store.kind.as_bytes(), store.password.as_bytes(), &store.file]);
    let (name, question) = ("PKCS#12 files", Question::KeyStore);
    Comparison { name, question, make, encode, compare, cost: 100 }.run();
}

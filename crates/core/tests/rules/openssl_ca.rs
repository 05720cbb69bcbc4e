//! CAs made by the openssl command: files that are kept here, and new ones.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use svid_csi_core::ca::{Authorities, CertificateAuthority, LoadError};
use svid_csi_core::identity::{Candidate, Expected, Identity, KeyType, PrivateKey, accept};
use svid_csi_core::jwt::JwtAuthority;
use svid_csi_core::request::SvidRequest;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};

use crate::forge::{HOUR, ID};

/// When the stored files are valid.
fn later() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_900_000_000)
}

fn load(certificates: &str, key: &str, trust_domain: &str, now: SystemTime) -> Result<CertificateAuthority, LoadError> {
    CertificateAuthority::load(certificates, key, &TrustDomain::parse(trust_domain).expect("a name"), now)
}

/// What a pod receives: chain and bundle.
fn issued(ca: &CertificateAuthority, now: SystemTime) -> Identity {
    let id = SpiffeId::parse(ID).expect("an ID");
    let (key, request) = SvidRequest::with_new_key(id.clone(), HOUR).expect("a key");
    let leaf = ca.sign(&request, now, [7; 16]).expect("a leaf");
    let chain = std::iter::once(leaf).chain(ca.intermediates().iter().cloned()).collect();
    let jwt = JwtAuthority::create(ca.trust_domain()).expect("a key");
    let own = Authorities::of(ca, &jwt);
    let bundle = Authorities::union(std::iter::once(&own), now).expect("a bundle").bundle;
    let again = Authorities::read(&own.to_json(), ca.trust_domain());
    assert_eq!(again, Ok(own), "other nodes can read it");
    let candidate = Candidate { chain, key, bundle: Some(bundle.certificates().to_vec()) };
    accept(candidate, &Expected { id, now }).expect("it is accepted")
}

#[test]
fn keys_are_read_in_all_their_forms() {
    for (sec1_or_pkcs1, key_type) in [
        (include_str!("openssl/ec.key"), KeyType::EcdsaP256),
        (include_str!("openssl/p384.key"), KeyType::EcdsaP384),
        (include_str!("openssl/rsa.key"), KeyType::Rsa2048),
    ] {
        let key = PrivateKey::from_pem(sec1_or_pkcs1).expect("a key");
        assert_eq!(key.key_type(), key_type);
        let pkcs8 = PrivateKey::from_pem(&key.to_pem()).expect("PKCS#8");
        assert_eq!(pkcs8.public_key_der(), key.public_key_der());
    }
}

#[test]
fn a_root_without_an_id_signs_with_any_kind_of_key() {
    for (certificate, key) in [
        (include_str!("openssl/ec.crt"), include_str!("openssl/ec.key")),
        (include_str!("openssl/rsa.crt"), include_str!("openssl/rsa.key")),
    ] {
        let ca = load(certificate, key, "example.org", later()).expect("a CA");
        let identity = issued(&ca, later());
        assert_eq!((identity.chain().len(), identity.bundle()), (1, std::slice::from_ref(ca.certificate_der())));
    }
}

#[test]
fn an_intermediate_is_served_and_its_root_is_trusted() {
    let [chain, key, root] =
        [include_str!("openssl/chain.crt"), include_str!("openssl/p384.key"), include_str!("openssl/rsa.crt")];
    let intermediate = chain.strip_suffix(root).expect("the root is last");
    for file in [chain.to_owned(), format!("{root}{intermediate}")] {
        let ca = load(&file, key, "example.org", later()).expect("a CA");
        let identity = issued(&ca, later());
        assert_eq!(identity.chain()[1..], [ca.certificate_der().clone()]);
        let roots = load(root, include_str!("openssl/rsa.key"), "example.org", later()).expect("a CA");
        assert_eq!(identity.bundle(), std::slice::from_ref(roots.certificate_der()));
    }
    let foreign = load(chain, key, "other.org", later()).expect_err("a constraint forbids it").to_string();
    assert!(
        foreign.contains("identities that this CA signs would be refused") && foreign.contains("does not permit"),
        "{foreign}"
    );
    let other_root = format!("{intermediate}{}", include_str!("openssl/ec.crt"));
    assert!(matches!(load(&other_root, key, "example.org", later()), Err(LoadError::Useless { .. })));
    let no_root = format!("{intermediate}{}", include_str!("openssl/other-intermediate.crt"));
    assert_eq!(load(&no_root, key, "example.org", later()).err(), Some(LoadError::NoRoot));
    assert_eq!(load(root, key, "example.org", later()).err(), Some(LoadError::KeyMismatch));
}

fn openssl(folder: &Path, line: &str) {
    let output = Command::new("openssl").current_dir(folder).args(line.split(' ')).output().expect("openssl runs");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs the openssl command"]
fn openssl_makes_cas() {
    let folder = tempfile::tempdir().expect("a folder");
    // The tool dates certificates by its own clock, so the current time is used, a little later.
    let now = UNIX_EPOCH + UNIX_EPOCH.elapsed().expect("a time") + Duration::from_secs(5);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("a file");
    let run = |line: &str| openssl(folder.path(), line);
    for (index, make) in [
        "ecparam -name prime256v1 -genkey -out k",
        "ecparam -name secp521r1 -genkey -noout -out k",
        "genrsa -traditional -out k 2048",
        "genrsa -out k 2048",
        "genpkey -algorithm ed25519 -out k",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out k",
    ]
    .into_iter()
    .enumerate()
    {
        run(make);
        run("req -x509 -new -key k -days 30 -subj /C=DE/O=Example/CN=Root -out root");
        let root = load(&read("root"), &read("k"), "example.org", now).expect(make);
        assert_eq!(issued(&root, now).chain().len(), 1, "{make}");
        run(&make.replace("-out k", "-out i"));
        run("req -new -key i -subj /CN=Intermediate -out csr");
        let mut extensions = File::create(folder.path().join("ext")).expect("a file");
        extensions.write_all(b"basicConstraints=critical,CA:TRUE,pathlen:0\n").expect("room");
        run(&format!("x509 -req -in csr -CA root -CAkey k -set_serial {index} -days 20 -extfile ext -out under"));
        let chain = read("under") + &read("root");
        let ca = load(&chain, &read("i"), "example.org", now).expect(make);
        assert_eq!(issued(&ca, now).chain().len(), 2, "{make}");
        run("x509 -in root -trustout -addtrust serverAuth -out trusted");
        let bundle = svid_csi_core::identity::TrustBundle::read(read("trusted").as_bytes()).expect("a bundle");
        assert_eq!(bundle.certificates(), std::slice::from_ref(root.certificate_der()), "{make}");
    }
}

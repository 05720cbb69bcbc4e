//! Identities: chain and bundle that differ from good ones by edits, which are signed afterwards. Another parser can read
//! everything that is accepted, and it verifies that chain, too. PEM and DER lead to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svid_csi_core::identity::{Candidate, Expected, PrivateKey, TrustBundle, accept, to_pem};
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_core::x509_context::{concatenate, split};
use svid_csi_fuzz::{ID, KEYS, PKCS8, SIGNED, certificate, edited, now};
use x509_parser::prelude::FromDer;

// The first byte selects which certificates are edited; then come edits, each a position, the number of bytes to remove,
// the number to insert, and these.
fuzz_target!(|input: &[u8]| {
    let [which, edits @ ..] = input else { return };
    let [root, intermediate, leaf] = &*SIGNED;
    let changed = |bit: u8, signed: &[u8]| if which & bit == 0 { signed.to_vec() } else { edited(signed, edits) };
    let bundle = vec![certificate(&KEYS[0], &changed(1, root))];
    let mut chain = vec![certificate(&KEYS[1], &changed(4, leaf))];
    chain.push(certificate(&KEYS[0], &changed(2, intermediate)));
    assert_eq!(split(&concatenate(&chain)).as_ref(), Ok(&chain));

    let key = PrivateKey::from_pkcs8_der(&PKCS8[2]).expect("a key");
    let candidate = Candidate { chain: chain.clone(), key, bundle: Some(bundle.clone()) };
    let expected = Expected { id: SpiffeId::parse(ID).expect("an ID"), now: now() };
    match accept(candidate, &expected) {
        Ok(identity) => {
            assert_eq!(identity.id().as_str(), ID);
            let all = identity.chain().iter().chain(identity.bundle());
            for der in all {
                let (rest, _) = x509_parser::certificate::X509Certificate::from_der(der).expect("a certificate");
                assert!(rest.is_empty());
            }
            webpki::EndEntityCert::try_from(&identity.chain()[0]).expect("a leaf");
            for der in identity.bundle() {
                webpki::anchor_from_trusted_cert(der).expect("an anchor");
            }
            let text = to_pem(identity.bundle());
            let read = TrustBundle::read(text.as_bytes()).expect("it is read back");
            assert_eq!(read.certificates(), identity.bundle());
        }
        Err(rejection) => {
            let text = rejection.to_string();
            assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
        }
    }
});

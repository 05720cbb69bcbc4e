//! A CSR is in DER and nothing else. Each of these is accepted by some parser, most of them by x509-parser.

use super::forge::{
    Csr, EXTENSION_REQUEST, armour, attribute, denied_for, extension, extension_request, good_names, names, oid,
    policy, request, seq, tlv,
};
use crate::forge::{ID, one_name};

#[track_caller]
fn malformed(csr: Vec<u8>, sentence: &str) {
    denied_for(&request(csr), &policy(), "csr_der", sentence);
}

#[test]
fn nothing_follows_anything() {
    let more = [5, 0];
    let der = [Csr::good().der(), more.to_vec()].concat();
    malformed(armour(&der), "2 bytes follow its end");
    malformed(Csr::changed(|csr| csr.after_signature = more.to_vec()), "what follows the signature");
    malformed(Csr::changed(|csr| csr.attributes.extend(more)), "what follows the attributes");
    malformed(Csr::changed(|csr| csr.public_key = seq(&[csr.public_key[2..].to_vec(), more.to_vec()])), "public key");
    let after_set = seq(&[oid(EXTENSION_REQUEST), tlv(0x31, &seq(&[good_names()])), more.to_vec()]);
    malformed(Csr::with_attributes(&[after_set]).pem(), "list of attributes");
    let after_value = seq(&[oid(&[0x55, 0x1d, 17]), tlv(4, &one_name(6, ID.as_bytes())), more.to_vec()]);
    malformed(Csr::with_extensions(&[after_value]).pem(), "an extension");
    let after_names = names(&[one_name(6, ID.as_bytes()), more.to_vec()].concat());
    malformed(Csr::with_extensions(&[after_names]).pem(), "subject alternative name");
    let usages = [seq(&[oid(&[0x2b, 6, 1, 5, 5, 7, 3, 1])]), more.to_vec()].concat();
    malformed(Csr::with_extensions(&[good_names(), extension(37, &usages)]).pem(), "extended key usage");
}

#[test]
fn every_part_exists() {
    malformed(Csr::changed(|csr| csr.version.clear()), "the version");
    malformed(Csr::changed(|csr| csr.subject.clear()), "the public key");
    malformed(Csr::changed(|csr| csr.attributes.clear()), "the list of attributes");
    malformed(Csr::changed(|csr| csr.algorithm.clear()), "the signature algorithm");
    malformed(armour(&[]), "the whole");
    malformed(armour(&seq(&[])), "the part that is signed");
    let good = Csr::good();
    malformed(armour(&seq(&[good.info(), good.algorithm.clone()])), "the signature");
    malformed(Csr::with_attributes(&[seq(&[oid(EXTENSION_REQUEST)])]).pem(), "list of attributes");
    malformed(Csr::with_attributes(&[attribute(EXTENSION_REQUEST, &[])]).pem(), "list of attributes");
    malformed(Csr::with_extensions(&[seq(&[oid(&[0x55, 0x1d, 17])])]).pem(), "an extension");
    malformed(Csr::with_extensions(&[good_names(), extension(37, &seq(&[]))]).pem(), "extended key usage");
}

#[test]
fn every_part_is_of_its_kind() {
    malformed(Csr::changed(|csr| csr.version = vec![2, 1, 2]), "the version");
    malformed(Csr::changed(|csr| csr.version = vec![2, 2, 0, 0]), "the version");
    malformed(Csr::changed(|csr| csr.subject[0] = 0x31), "the subject");
    malformed(Csr::changed(|csr| csr.attributes[0] = 0xa1), "the list of attributes");
    let good = Csr::good();
    let unused_bits = tlv(3, &[&[1], &*good.sign(&good.info())].concat());
    malformed(armour(&seq(&[good.info(), good.algorithm.clone(), unused_bits])), "the signature");
    // A URI in pieces, and a tag of two bytes.
    let in_pieces = names(&seq(&[tlv(0xa6, &tlv(4, ID.as_bytes()))]));
    malformed(Csr::with_extensions(&[in_pieces]).pem(), "subject alternative name");
    let far_tag = names(&seq(&[tlv(0x86, ID.as_bytes()), vec![0x9f, 6, 0]]));
    malformed(Csr::with_extensions(&[far_tag]).pem(), "subject alternative name");
    let mut set = Csr::good().info();
    set[0] = 0x31;
    malformed(armour(&Csr::good().around(set)), "the part that is signed");
    let no_sequence = names(&tlv(0x31, &tlv(0x86, ID.as_bytes())));
    malformed(Csr::with_extensions(&[no_sequence]).pem(), "subject alternative name");
    let critical = |value| seq(&[oid(&[0x55, 0x1d, 17]), tlv(1, &[value]), tlv(4, &one_name(6, ID.as_bytes()))]);
    for in_ber in [0, 1] {
        malformed(Csr::with_extensions(&[critical(in_ber)]).pem(), "an extension");
    }
}

#[test]
fn lengths_have_one_form() {
    let request = extension_request(&[good_names()]);
    let len = u8::try_from(request.len()).expect("a short request");
    for (what, header) in [
        ("one byte too many", vec![0xa0, 0x81, len]),
        ("two bytes too many", vec![0xa0, 0x82, 0, len]),
        ("four bytes", vec![0xa0, 0x84, 0, 0, 0, len]),
    ] {
        let csr = Csr::changed(|csr| csr.attributes = [&*header, &request].concat());
        assert!(len < 0x80, "{what}");
        malformed(csr, "the list of attributes");
    }
    let indefinite = Csr::changed(|csr| csr.attributes = [&[0xa0, 0x80], &*request, &[0, 0]].concat());
    malformed(indefinite, "the list of attributes");
    malformed(Csr::changed(|csr| csr.attributes = [&[0xa0, len + 1], &*request].concat()), "the list of attributes");
}

#[test]
fn key_usage_has_one_form() {
    for value in
        [&[3, 2, 0, 0x80][..], &[3, 1, 0], &[3, 2, 7, 0], &[3, 2, 7, 0x80, 0], &[3, 3, 7, 0x80, 0], &[], &[5, 0]]
    {
        let csr = Csr::with_extensions(&[good_names(), extension(15, value)]);
        denied_for(&request(csr.pem()), &policy(), "key_usage", "only digitalSignature and keyEncipherment");
    }
}

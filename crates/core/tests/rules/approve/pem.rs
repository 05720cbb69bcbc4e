//! The PEM text of a CSR.

use svid_csi_core::approve::{MAX_PEM_BYTES, Verdict, judge};

use super::forge::{Csr, denied_for, labelled, policy, request};

fn good() -> String {
    String::from_utf8(Csr::good().pem()).expect("PEM is text")
}

#[test]
fn approves_other_line_ends() {
    let pem = good();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let one_line = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----");
    for pem in [pem.trim_end().to_owned(), format!("{} \t\r\n\n", pem.trim_end()), pem.replace('\n', "\r\n"), one_line]
    {
        assert_eq!(judge(&request(pem), &policy()), Verdict::Approve);
    }
}

#[test]
fn denies_anything_but_one_block() {
    let (one, other) = (Csr::good().der(), Csr::good().der());
    let pem = good();
    let block = |label| labelled(label, &one);
    for text in [
        String::new(),
        "a request".to_owned(),
        block("NEW CERTIFICATE REQUEST"),
        block("CERTIFICATE"),
        format!("{pem}{}", block("CERTIFICATE REQUEST")),
        // One parser skips unknown labels, another accepts any first block.
        format!("{}{pem}", labelled("X", &other)),
        format!("{pem}{}", labelled("X", &other)),
        format!("Certificate Request:\n{pem}"),
        format!("\n{pem}"),
        format!("\u{feff}{pem}"),
        format!("{pem}see above\n"),
        pem.replace("-----BEGIN", "----- BEGIN"),
        pem.replacen("-----\n", "----- \n", 1),
        pem.replacen("-----\n", "-----", 1),
        pem.replace("\n-----END", "-----END"),
        pem.trim_end().trim_end_matches('-').to_owned(),
        format!("{}\u{c}\n", pem.trim_end()),
        format!("{}\r", pem.trim_end()),
        pem.replacen("-----\n", "-----\n-----END X-----\n", 1),
    ] {
        println!("{text}");
        denied_for(&request(text), &policy(), "csr_pem", "one PEM block labelled `CERTIFICATE REQUEST`");
    }
    denied_for(&request(b"\xff\xfe".to_vec()), &policy(), "csr_pem", "one PEM block");
}

#[test]
fn denies_what_is_not_plain_base64() {
    let pem = good();
    let first = pem.lines().nth(1).expect("a line");
    for text in [
        pem.replacen("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1),
        pem.replacen(first, &format!(" {first}"), 1),
        pem.replacen(first, &format!("{first}="), 1),
        pem.replacen(first, &first[1..], 1),
        pem.replacen(first, &format!("-{}", &first[1..]), 1),
        pem.replacen(first, &format!("_{}", &first[1..]), 1),
    ] {
        denied_for(&request(text), &policy(), "csr_pem", "not base64");
    }
}

#[test]
fn denies_what_is_too_large() {
    let large = labelled("CERTIFICATE REQUEST", &vec![0; MAX_PEM_BYTES]);
    let sentence = format!("{} bytes, at most {MAX_PEM_BYTES}", large.len());
    denied_for(&request(large), &policy(), "csr_size", &sentence);
    let padded = format!("{}{}", good(), "\n".repeat(MAX_PEM_BYTES));
    denied_for(&request(padded), &policy(), "csr_size", "at most");
}

//! Whether a PKCS#12 file has a password, by its authentication (RFC 7292, section 4 and appendix B.2).

use aws_lc_rs::{digest, hmac};

/// One DER value: its contents, and what comes after it.
fn value(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (head, length) = match bytes[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let head = 2 + usize::from(long & 0x7f);
            (head, bytes[2..head].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
    };
    (&bytes[head..head + length], &bytes[head + length..])
}

fn values(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let (contents, rest) = value(bytes);
        values.push(contents);
        bytes = rest;
    }
    values
}

fn filled(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().cycle().take(bytes.len().next_multiple_of(64)).collect()
}

/// Whether the file was created with that password.
pub(crate) fn opens(file: &[u8], password: &str) -> bool {
    let parts = values(value(file).0);
    let safe = values(values(parts[1])[1])[0];
    let mac = values(parts[2]);
    let (tag, salt) = (values(mac[0])[1], mac[1]);
    let iterations = mac[2].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let units: Vec<u8> = password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
    let mut key = digest::digest(&digest::SHA256, &[vec![3; 64], filled(salt), filled(&units)].concat());
    for _ in 1..iterations {
        key = digest::digest(&digest::SHA256, key.as_ref());
    }
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), safe, tag).is_ok()
}

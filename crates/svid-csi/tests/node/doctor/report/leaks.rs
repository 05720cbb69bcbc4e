//! Whether a text holds a secret, in any of the encodings in which it could get there.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Long secrets are also searched for in parts of this length.
const PART: usize = 33;

/// The forms of the secret that are in the text, of all those that it could have.
pub(super) fn leaks(text: &[u8], secret: &[u8]) -> Vec<String> {
    let squeezed = squeezed(text);
    let is_in = |text: &[u8], form: &[u8]| text.windows(form.len()).any(|part| part == form);
    let forms = forms(secret).into_iter();
    let found = forms.filter(|(_, form)| is_in(text, form) || is_in(&squeezed, &self::squeezed(form)));
    found.map(|(name, _)| name).collect()
}

/// Without white space and line breaks, escaped or not.
fn squeezed(text: &[u8]) -> Vec<u8> {
    let mut squeezed = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let backslashes = text[at..].iter().take_while(|byte| **byte == b'\\').count();
        match text.get(at + backslashes) {
            Some(b'n' | b'r' | b't') if backslashes > 0 => at += backslashes + 1,
            _ if text[at].is_ascii_whitespace() => at += 1,
            _ => {
                squeezed.push(text[at]);
                at += 1;
            }
        }
    }
    squeezed
}

fn forms(secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = of_whole("whole", secret);
    if secret.len() >= 2 * PART {
        for (number, part) in secret.chunks_exact(PART).enumerate() {
            forms.extend(of_whole(&format!("part {number}"), part));
        }
    }
    forms
}

fn of_whole(name: &str, secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![(format!("{name}, raw"), secret.to_vec())];
    for before in 0..3 {
        let shifted = [&[0, 0][..before], secret].concat();
        // Letters at the edges also depend on what is before and after the secret.
        let of = |text: String| {
            let end = if shifted.len().is_multiple_of(3) { text.len() } else { text.len() - 1 };
            text.as_bytes()[(before * 8).div_ceil(6)..end].to_vec()
        };
        forms.push((format!("{name}, base64 {before}"), of(STANDARD_NO_PAD.encode(&shifted))));
        forms.push((format!("{name}, base64url {before}"), of(URL_SAFE_NO_PAD.encode(&shifted))));
    }
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    forms.push((format!("{name}, upper hex"), hex.to_uppercase().into_bytes()));
    forms.push((format!("{name}, hex"), hex.into_bytes()));
    if let Ok(text) = std::str::from_utf8(secret) {
        let escaped = |text: &str| serde_json::to_string(text).unwrap().trim_matches('"').to_owned();
        forms.push((format!("{name}, JSON"), escaped(text).into_bytes()));
        forms.push((format!("{name}, JSON in JSON"), escaped(&escaped(text)).into_bytes()));
    }
    forms.retain(|(_, form)| form.len() >= 8);
    forms
}

/// Every way to write a secret that the search must find.
fn written(secret: &[u8]) -> Vec<Vec<u8>> {
    let base64 = STANDARD.encode(secret);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let shifted = |by: usize| STANDARD.encode([&b"ab"[..by], secret, b"xyz"].concat());
    let texts = [
        base64,
        lines.join("\n"),
        lines.join("\\n"),
        lines.join("\r\n    "),
        shifted(1),
        shifted(2),
        URL_SAFE_NO_PAD.encode(secret),
        hex.to_uppercase(),
        hex,
    ];
    let mut written: Vec<_> = texts.into_iter().map(String::into_bytes).collect();
    written.push(secret.to_vec());
    if let Ok(text) = std::str::from_utf8(secret) {
        written.push(serde_json::json!({"text": text}).to_string().into_bytes());
        written
            .push(serde_json::json!({"json": serde_json::json!({"text": text}).to_string()}).to_string().into_bytes());
    }
    written
}

#[test]
fn the_search_finds_each_form_and_nothing_else() {
    let der: Vec<u8> = (0..138_u32).map(|number| u8::try_from(number * 97 % 251).unwrap()).collect();
    let secrets = [der, b"correct horse \"battery\" staple".to_vec(), b"t0ken-0f-the-driver".to_vec()];
    for secret in &secrets {
        for text in written(secret) {
            let around = [&b"{\"why\": \""[..], &text, b"\"}\n"].concat();
            assert!(!leaks(&around, secret).is_empty(), "{}", String::from_utf8_lossy(&around));
        }
        for other in secrets.iter().filter(|other| *other != secret) {
            assert!(written(other).iter().all(|text| leaks(text, secret).is_empty()));
        }
    }
    let half = STANDARD.encode(&secrets[0][40..100]);
    assert!(!leaks(half.as_bytes(), &secrets[0]).is_empty(), "a part of a key is found too");
}

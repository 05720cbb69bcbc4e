//! Names of pods and namespaces, replaced in a report.

use std::collections::BTreeSet;

use aws_lc_rs::digest;

/// Parts of SPIFFE IDs that are the same everywhere.
const COMMON: [&str; 5] = ["ns", "sa", "spire", "agent", "server"];
const SCHEME: &str = "spiffe://";

/// Names, each with a short hash in its place. Within a report the same name has the same hash, and because of the salt not in
/// another one.
#[derive(Debug)]
pub struct Pseudonyms {
    salt: [u8; 16],
    names: BTreeSet<String>,
}

impl Pseudonyms {
    /// No names.
    pub fn new(salt: [u8; 16]) -> Self {
        Self { salt, names: BTreeSet::new() }
    }

    /// Adds `namespace/name` of a pod, or a single name.
    pub fn add(&mut self, names: &str) {
        self.names.extend(names.split('/').filter(|name| !name.is_empty()).map(str::to_owned));
    }

    /// The text with hashes in place of the names, and of the paths of all SPIFFE IDs. Keys of JSON stay.
    pub fn apply(&self, text: &str) -> String {
        let of_ids = segments(text);
        let is_name = |word: &str| self.names.contains(word) || of_ids.contains(word);
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(is_in_word) {
            let (before, from) = rest.split_at(start);
            let whole = &from[..from.find(|c| !is_in_word(c)).unwrap_or(from.len())];
            let word = whole.trim_end_matches(['.', '-']);
            let after = &from[word.len().max(1)..];
            replaced.push_str(before);
            match word {
                "" => replaced.push_str(&from[..1]),
                word if is_name(word) && !is_key(after) => replaced.push_str(&self.hash(word)),
                word => replaced.push_str(word),
            }
            rest = after;
        }
        replaced + rest
    }

    fn hash(&self, name: &str) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.salt);
        context.update(name.as_bytes());
        let digest = context.finish();
        digest.as_ref()[..5].iter().fold("n-".to_owned(), |hash, byte| format!("{hash}{byte:02x}"))
    }
}

fn is_in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._".contains(c)
}

/// Whether a key of JSON ends here.
fn is_key(after: &str) -> bool {
    after.trim_start_matches('\\').strip_prefix('"').is_some_and(|after| after.trim_start().starts_with(':'))
}

/// The parts of the paths of all SPIFFE IDs.
fn segments(text: &str) -> BTreeSet<&str> {
    let ids = text.match_indices(SCHEME).map(|(at, _)| &text[at + SCHEME.len()..]);
    let paths = ids.filter_map(|id| {
        let end = id.find(|c: char| !is_in_word(c) && c != '/').unwrap_or(id.len());
        Some(id[..end].split_once('/')?.1)
    });
    let segments = paths.flat_map(|path| path.split('/')).map(|segment| segment.trim_end_matches(['.', '-']));
    segments.filter(|segment| !segment.is_empty() && !COMMON.contains(segment)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_same_hash_within_a_report() {
        let mut names = Pseudonyms::new([1; 16]);
        names.add("shop/web-0");
        let (shop, web, api) = (names.hash("shop"), names.hash("web-0"), names.hash("api"));
        assert!(shop.len() == 12 && shop.starts_with("n-") && shop != web);
        assert_eq!(
            names.apply("pod shop/web-0: spiffe://shop.example/ns/shop/sa/api. (shop) web-01 of workshop."),
            format!("pod {shop}/{web}: spiffe://shop.example/ns/{shop}/sa/{api}. ({shop}) web-01 of workshop.")
        );
        assert_eq!(
            names.apply(r#"{"shop": "shop", "a": "\"shop\": x"}"#),
            format!(r#"{{"shop": "{shop}", "a": "\"shop\": x"}}"#)
        );
        assert_eq!(names.apply("- ... \u{fc}shop \u{fc}"), format!("- ... \u{fc}{shop} \u{fc}"));
        assert_eq!(names.apply("spiffe://x/"), "spiffe://x/");
        let mut others = Pseudonyms::new([2; 16]);
        others.add("shop");
        assert_ne!(others.apply("shop"), shop);
    }
}

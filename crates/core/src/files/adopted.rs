//! Recognises the files that another driver has written.

use rustls_pki_types::CertificateDer;

use super::{FileName, FileNames, RenderedFile};
use crate::identity::is_authority;
use crate::pem_text::{self, Block};

/// The content of a file of another driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Key,
    Chain,
    Bundle,
}

/// The names of the files of a volume that hold certificate, key and, if there is one, bundle; a missing bundle is
/// called `bundle`. `None` if there are more or fewer files.
pub fn names_of(files: &[RenderedFile], bundle: Option<&FileName>) -> Option<FileNames> {
    let (mut cert, mut key, mut found) = (None, None, None);
    for file in files {
        let place = match kind_of(&file.contents)? {
            Held::Key => &mut key,
            Held::Chain => &mut cert,
            Held::Bundle => &mut found,
        };
        if place.replace(file.name.clone()).is_some() {
            return None;
        }
    }
    let names = FileNames { cert: Some(cert?), key: Some(key?), bundle: found.or_else(|| bundle.cloned()) };
    names.check_distinct().is_ok().then_some(names)
}

fn kind_of(contents: &[u8]) -> Option<Held> {
    // Keys have several labels: PRIVATE KEY, EC PRIVATE KEY, RSA PRIVATE KEY.
    const KEY: &[u8] = b"PRIVATE KEY-----";
    if contents.windows(KEY.len()).any(|part| part == KEY) {
        return Some(Held::Key);
    }
    let first = pem_text::decode_all(Block::Certificate, contents).ok()?.into_iter().next()?;
    Some(if is_authority(&CertificateDer::from(first)) { Held::Bundle } else { Held::Chain })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::CertificateAuthority;
    use crate::identity::{KeyType, PrivateKey};
    use crate::request::SvidRequest;
    use crate::spiffe_id::{SpiffeId, TrustDomain};
    use crate::unix_time;
    use std::time::Duration;

    fn file(name: &str, contents: &str) -> RenderedFile {
        RenderedFile { name: FileName::parse(name).unwrap(), contents: contents.as_bytes().to_vec().into() }
    }

    /// A chain of one certificate, its key, and its authority.
    fn pems() -> [String; 3] {
        let (domain, now) = (TrustDomain::parse("example.org").unwrap(), unix_time::at(1_800_000_000).unwrap());
        let authority = CertificateAuthority::create(&domain, now, Duration::from_secs(9_000)).unwrap();
        let key = PrivateKey::generate(KeyType::default()).unwrap();
        let id = SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").unwrap();
        let leaf = authority.sign(&SvidRequest::for_key(&key, id, Duration::from_secs(60)), now, [1; 16]).unwrap();
        let chain = pem_text::encode(Block::Certificate, std::iter::once(leaf.as_ref())).to_string();
        [chain, key.to_pem().to_string(), authority.certificate_pem().to_string()]
    }

    #[test]
    fn recognises_files_by_their_content() {
        let [chain, key, bundle] = pems();
        let name = |name| FileName::parse(name).unwrap();
        let expected = |bundle| Some(FileNames { cert: Some(name("a")), key: Some(name("b")), bundle });
        let mut files = vec![file("b", &key), file("a", &chain)];
        assert_eq!(names_of(&files, None), expected(None));
        assert_eq!(names_of(&files, Some(&name("ca.crt"))), expected(Some(name("ca.crt"))));
        files.push(file("c", &bundle));
        assert_eq!(names_of(&files, Some(&name("ca.crt"))), expected(Some(name("c"))));
    }

    #[test]
    fn takes_no_others() {
        let [chain, key, bundle] = pems();
        let name = |name| FileName::parse(name).unwrap();
        for files in [
            vec![],
            vec![file("a", &chain)],
            vec![file("b", &key), file("c", &bundle)],
            vec![file("a", &chain), file("b", &key), file("other", "text")],
            vec![file("a", &chain), file("b", &key), file("d", &chain)],
        ] {
            assert_eq!(names_of(&files, Some(&name("ca.crt"))), None, "{files:?}");
        }
        let files = [file("a", &chain), file("b", &key)];
        assert_eq!(names_of(&files, Some(&name("a"))), None, "two files of one name");
    }
}

//! Existing files, some of which change.

use svid_csi_core::bundle_document::BundleDocument;
use svid_csi_core::files::{Intermediates, with_bundle, with_jwt};

use super::*;

/// Everything at once.
fn everything() -> Extras {
    Extras {
        tokens: token_files(&[("vault", "v.jwt")]),
        jwt_bundle: Some(name("jwt_bundles.json")),
        combined: Some(name("both.pem")),
        key_store: Some(name("key.p12")),
        trust_store: Some(name("trust.p12")),
        bundle_json: Some(name("bundle.json")),
        ..Extras::default()
    }
}

pub(super) fn copies(files: &[RenderedFile]) -> Vec<RenderedFile> {
    let copy = |file: &RenderedFile| RenderedFile { name: file.name.clone(), contents: file.contents.clone() };
    files.iter().map(copy).collect()
}

/// The files that differ between the two states.
fn changed(before: &[RenderedFile], after: &[RenderedFile]) -> Vec<String> {
    assert_eq!(file_names(before), file_names(after));
    let names = file_names(before).into_iter();
    names.filter(|name| contents(before, name) != contents(after, name)).map(str::to_owned).collect()
}

struct Shown {
    files: Vec<RenderedFile>,
    context: X509Context,
    bundles: JwtBundles,
}

fn shown(extras: &Extras) -> Shown {
    let context = context(under_intermediate(&Authority::root(|_| {})), Bundles::new());
    let (tokens, bundles) = jwt(&["vault"], now());
    let (names, password) = (names(Some("ca.crt")), password());
    let wanted = Wanted { names: &names, extras, password: Some(&password) };
    let given = JwtGiven { tokens: &tokens, bundles: &bundles };
    let files = all(Vec::new(), &context, Some(&given), wanted, now()).expect("files");
    Shown { files, context, bundles }
}

#[test]
fn new_tokens_change_nothing_else() {
    let extras = everything();
    let before = shown(&extras);
    let names = names(Some("ca.crt"));
    let wanted = Wanted { names: &names, extras: &extras, password: None };
    let (tokens, _) = jwt(&["vault"], now() + HOUR);
    let given = JwtGiven { tokens: &tokens, bundles: &before.bundles };
    let after = with_jwt(copies(&before.files), &given, wanted, now() + HOUR).expect("files");
    assert_eq!(changed(&before.files, &after), ["v.jwt"]);

    let (tokens, bundles) = jwt(&["vault"], now() + HOUR);
    let given = JwtGiven { tokens: &tokens, bundles: &bundles };
    let after = with_jwt(copies(&before.files), &given, wanted, now() + HOUR).expect("files");
    assert_eq!(changed(&before.files, &after), ["bundle.json", "jwt_bundles.json", "v.jwt"], "with other keys");
    let document = BundleDocument::read(found(&after, "bundle.json")).expect("a document");
    assert_eq!(
        (document.anchors.as_slice(), &document.jwt),
        (before.context.bundle(), &*bundles[&domain("example.org")])
    );
}

#[test]
fn a_renewed_certificate_keeps_the_tokens_unless_there_are_new_ones() {
    let extras = everything();
    let before = shown(&extras);
    let next = context(under_intermediate(&Authority::root(|_| {})), Bundles::new());
    let (names, password) = (names(Some("ca.crt")), password());
    let wanted = Wanted { names: &names, extras: &extras, password: Some(&password) };
    let after = all(copies(&before.files), &next, None, wanted, now()).expect("files");
    let of_x509 = ["both.pem", "bundle.json", "ca.crt", "key.p12", "tls.crt", "tls.key", "trust.p12"];
    assert_eq!(changed(&before.files, &after), of_x509);
    let document = BundleDocument::read(found(&after, "bundle.json")).expect("a document");
    assert_eq!(document.anchors, next.bundle());
    assert!(!document.jwt.is_empty(), "its keys of tokens are unchanged");

    let fewer = Extras { key_store: None, ..everything() };
    let wanted = Wanted { extras: &fewer, ..wanted };
    let after = all(copies(&before.files), &next, None, wanted, now()).expect("files");
    assert_eq!(contents(&after, "key.p12"), None, "a file that is no longer wanted is removed");
}

#[test]
fn a_new_bundle_changes_the_files_that_contain_it() {
    for intermediates in [Intermediates::WithCert, Intermediates::WithBundle] {
        let extras = Extras { intermediates, ..everything() };
        let before = shown(&extras);
        let chain = before.context.default_svid().chain();
        let bundle = [before.context.bundle(), &[Authority::root(|_| {}).certificate]].concat();
        let (names, password) = (names(Some("ca.crt")), password());
        let wanted = Wanted { names: &names, extras: &extras, password: Some(&password) };
        let (after, leads) = with_bundle(copies(&before.files), &bundle, wanted, now()).expect("files");
        assert_eq!(leads, chain, "the whole chain, wherever it is");
        assert_eq!(changed(&before.files, &after), ["bundle.json", "ca.crt", "trust.p12"]);
        let document = BundleDocument::read(found(&after, "bundle.json")).expect("a document");
        assert_eq!((document.anchors.as_slice(), document.jwt.is_empty()), (bundle.as_slice(), false));
        let written = certificates(found(&after, "ca.crt"));
        let expected = if intermediates == Intermediates::WithBundle { &chain[1..] } else { &[] };
        assert_eq!(written, [bundle.as_slice(), expected].concat());
    }
}

#[test]
fn a_certificate_that_cannot_be_read_is_an_error() {
    let names = names(Some("ca.crt"));
    let extras = Extras::default();
    let wanted = Wanted { names: &names, extras: &extras, password: None };
    for text in ["", "no PEM"] {
        let files = vec![RenderedFile { name: name("tls.crt"), contents: text.as_bytes().to_vec().into() }];
        assert!(matches!(with_bundle(files, &[], wanted, now()), Err(RenderError::Shown(_))));
    }
}

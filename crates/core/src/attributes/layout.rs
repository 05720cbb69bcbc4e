//! The layout of the files, and attributes that change it.

use crate::files::{
    Extras, Federated, FileName, FileNames, Intermediates, LAYOUTS, Layout, MAX_NUMBERED_BYTES, PerDomain,
    reserved_names, same_names,
};
use crate::publish_request::RequestMistakes;

use super::Attributes;
use super::table::{self, OWN_PREFIX};

impl Attributes<'_> {
    /// The layout of the files: the volume's own, else the usual one.
    pub(crate) fn layout(&self, usual: Layout, mistakes: &mut RequestMistakes) -> Layout {
        self.choice(table::LAYOUT, &LAYOUTS.map(|row| (row.name, row.layout)), mistakes).unwrap_or(usual)
    }

    /// The names of certificate, key and bundle. A name that the volume gives counts in every layout, also in one that has
    /// no such file.
    pub(crate) fn file_names(&self, of_layout: FileNames, mistakes: &mut RequestMistakes) -> FileNames {
        let cert = self.file_name(table::FILE_CERT, mistakes);
        let key = self.file_name(table::FILE_KEY, mistakes);
        let bundle = self.file_name(table::FILE_BUNDLE, mistakes);
        FileNames { cert: cert.or(of_layout.cert), key: key.or(of_layout.key), bundle: bundle.or(of_layout.bundle) }
    }

    /// Reports names that are not distinct, and attributes that contradict the layout.
    pub(super) fn check_files(
        &self,
        layout: Layout,
        names: &FileNames,
        extras: &Extras,
        mistakes: &mut RequestMistakes,
    ) {
        for same in same_names(names, extras) {
            let theirs = layout.row().files.iter().any(|file| file.name == same.name.as_str());
            match self.attribute_that_names(&same.name).filter(|_| theirs && layout != Layout::Pem) {
                Some(attribute) => mistakes.add(format!(
                    "{same}: volume attribute {OWN_PREFIX}{attribute} and {OWN_PREFIX}layout `{layout}` name it"
                )),
                None => mistakes.add(same),
            }
        }
        for name in reserved_names(names, extras) {
            let instead = match extras.per_domain {
                PerDomain::Federated => format!(", or set volume attribute {OWN_PREFIX}federated to `none`"),
                PerDomain::Every => format!(" (volume attribute {OWN_PREFIX}layout is `{layout}`)"),
            };
            mistakes.add(format!(
                "a file named {name} could be confused with the file of a federated bundle: give it another name{instead}"
            ));
        }
        check_federated(layout, extras, mistakes);
        if extras.intermediates == Intermediates::WithBundle && (names.cert.is_none() || names.bundle.is_none()) {
            mistakes.add(format!(
                "volume attribute {OWN_PREFIX}intermediates is `with-bundle`, but {OWN_PREFIX}layout `{layout}` has no files with \
                 only the certificate and only the bundle: leave out one of the two attributes"
            ));
        }
        let is_long = |name: &&FileName| extras.hints.is_some() && name.as_str().len() > MAX_NUMBERED_BYTES;
        if extras.credential_bundle.as_ref().is_some_and(|name| is_long(&name)) {
            mistakes.add(format!(
                "volume attribute {OWN_PREFIX}file-credential-bundle must have at most {MAX_NUMBERED_BYTES} bytes with \
                 {OWN_PREFIX}layout `{layout}`, which adds numbers to it"
            ));
        }
    }

    fn attribute_that_names(&self, name: &FileName) -> Option<&str> {
        let names = |value: &str| value.split(',').any(|part| part.trim() == name.as_str());
        let mut given: Vec<_> =
            self.own.iter().filter(|(key, value)| key.starts_with("file-") && names(value)).collect();
        given.sort();
        given.first().map(|(key, _)| **key)
    }
}

fn check_federated(layout: Layout, extras: &Extras, mistakes: &mut RequestMistakes) {
    if extras.federated == Federated::Map && extras.bundle_map.is_none() {
        mistakes.add(format!(
            "volume attribute {OWN_PREFIX}federated is `map`, but there is no bundle map: name one with {OWN_PREFIX}file-bundle-map"
        ));
    }
    if extras.federated == Federated::Merged && extras.per_domain == PerDomain::Every {
        mistakes.add(format!(
            "volume attribute {OWN_PREFIX}federated is `merged`, but {OWN_PREFIX}layout `{layout}` keeps trust domains apart: \
             leave out one of the two attributes"
        ));
    }
}

//! The attributes that request files other than certificate, key and bundle.

use crate::files::{
    Extras, Federated, FileName, FileNames, Intermediates, JWT_BUNDLE_NAME, Layout, TokenFile, token_name,
};
use crate::jwt::Audiences;
use crate::pkcs12::Alias;
use crate::plan::Issuer;
use crate::publish_request::RequestMistakes;

use super::Attributes;
use super::table::{self, Attribute, OWN_PREFIX};

impl Attributes<'_> {
    /// The additional files of the volume.
    pub(crate) fn extras(
        &self,
        layout: Layout,
        names: &FileNames,
        issuer: Issuer,
        mistakes: &mut RequestMistakes,
    ) -> Extras {
        let of_layout = layout.extras();
        let tokens = self.tokens(mistakes);
        let jwt_bundle = self.file_name(table::FILE_JWT_BUNDLE, mistakes);
        let usual = || FileName::parse(JWT_BUNDLE_NAME).ok().filter(|_| !tokens.is_empty());
        let extras = Extras {
            jwt_bundle: jwt_bundle.or_else(usual),
            tokens,
            combined: self.file_name(table::FILE_COMBINED, mistakes),
            credential_bundle: self.file_name(table::FILE_CREDENTIAL_BUNDLE, mistakes).or(of_layout.credential_bundle),
            hints: of_layout.hints,
            key_store: self.file_name(table::FILE_PKCS12, mistakes),
            alias: self.alias(mistakes),
            trust_store: self.file_name(table::FILE_PKCS12_BUNDLE, mistakes),
            own_password: false,
            bundle_json: self.file_name(table::FILE_BUNDLE_JSON, mistakes),
            bundle_map: self.file_name(table::FILE_BUNDLE_MAP, mistakes).or(of_layout.bundle_map),
            per_domain: of_layout.per_domain,
            federated: self.federated(mistakes).unwrap_or(of_layout.federated),
            intermediates: self.intermediates(mistakes).unwrap_or_default(),
        };
        if !issuer.gives_jwt() {
            self.refuse_jwt(issuer, mistakes);
        }
        self.check_files(layout, names, &extras, mistakes);
        extras
    }

    /// One file for each audience.
    fn tokens(&self, mistakes: &mut RequestMistakes) -> Vec<TokenFile> {
        let (audiences, names) = (self.list(table::AUDIENCE), self.list(table::FILE_TOKEN));
        let Some(audiences) = audiences else {
            if names.is_some() {
                mistakes.add(format!("volume attribute {OWN_PREFIX}file-token needs {OWN_PREFIX}audience"));
            }
            return Vec::new();
        };
        let names = match names {
            Some(names) => self.token_names(&names, audiences.len(), mistakes),
            None => (0..audiences.len()).map(token_name).collect(),
        };
        let attribute = format!("volume attribute {OWN_PREFIX}audience");
        let given = audiences.len();
        match Audiences::new(audiences) {
            Err(error) => mistakes.add(format!("{attribute}: {error}")),
            Ok(distinct) if distinct.as_slice().len() < given => {
                mistakes.add(format!("{attribute} names an audience twice"));
            }
            Ok(distinct) => {
                let each = Vec::from(distinct).into_iter().filter_map(|one| Audiences::new(vec![one]).ok());
                return each.zip(names).map(|(audience, name)| TokenFile { audience, name }).collect();
            }
        }
        Vec::new()
    }

    fn token_names(&self, names: &[String], audiences: usize, mistakes: &mut RequestMistakes) -> Vec<FileName> {
        let attribute = format!("volume attribute {OWN_PREFIX}file-token");
        if names.len() != audiences {
            let found = names.len();
            mistakes.add(format!("{attribute} has {found} names for {audiences} audiences: give one for each"));
        }
        let read = |name: &String| FileName::parse(name).map_err(|error| format!("{attribute}: {error}"));
        names.iter().filter_map(|name| mistakes.take(read(name))).collect()
    }

    /// The parts between commas, without the spaces around them.
    pub(super) fn list(&self, attribute: Attribute) -> Option<Vec<String>> {
        Some(self.get(attribute)?.split(',').map(|item| item.trim().to_owned()).collect())
    }

    /// The name of the key in the key store.
    fn alias(&self, mistakes: &mut RequestMistakes) -> Alias {
        let Some(alias) = self.get(table::PKCS12_ALIAS) else { return Alias::default() };
        let attribute = format!("volume attribute {OWN_PREFIX}pkcs12-alias");
        if self.get(table::FILE_PKCS12).is_none() {
            mistakes.add(format!("{attribute} needs {OWN_PREFIX}file-pkcs12"));
        }
        let alias = Alias::parse(alias).map_err(|error| format!("{attribute}: {error}"));
        mistakes.take(alias).unwrap_or_default()
    }

    fn federated(&self, mistakes: &mut RequestMistakes) -> Option<Federated> {
        let choices = [
            ("separate", Federated::Separate),
            ("map", Federated::Map),
            ("merged", Federated::Merged),
            ("none", Federated::None),
        ];
        self.choice(table::FEDERATED, &choices, mistakes)
    }

    fn intermediates(&self, mistakes: &mut RequestMistakes) -> Option<Intermediates> {
        let choices = [("with-cert", Intermediates::WithCert), ("with-bundle", Intermediates::WithBundle)];
        self.choice(table::INTERMEDIATES, &choices, mistakes)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        attribute: Attribute,
        choices: &[(&str, T)],
        mistakes: &mut RequestMistakes,
    ) -> Option<T> {
        let word = self.get(attribute)?;
        if let Some((_, chosen)) = choices.iter().find(|(choice, _)| *choice == word) {
            return Some(*chosen);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        let word: String = word.escape_debug().take(64).collect();
        mistakes.add(format!(
            "volume attribute {OWN_PREFIX}{} is \"{word}\", but only {} are possible",
            attribute.name,
            words.join(", ")
        ));
        None
    }

    fn refuse_jwt(&self, issuer: Issuer, mistakes: &mut RequestMistakes) {
        for attribute in [table::AUDIENCE, table::FILE_JWT_BUNDLE] {
            if self.get(attribute).is_some() {
                mistakes.add(format!(
                    "volume attribute {OWN_PREFIX}{} needs JWT-SVIDs, which the source `{}` does not issue: \
                     leave it out, or use the source `broker` or `local-ca`",
                    attribute.name,
                    issuer.source()
                ));
            }
        }
    }
}

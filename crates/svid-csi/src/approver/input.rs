//! Reads the output of `kubectl get certificaterequests -o yaml` or `-o json`. JSON is YAML, so there is one parser.

use std::fmt::Display;
use std::io::{self, Read};

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_path_to_error::Track;
use serde_saphyr::Options;
use svid_csi_core::approve::Request;
use svid_csi_core::cert_request::{
    API_VERSION, CertificateRequest, CertificateRequestSpec, CertificateRequestStatus, KIND, Metadata,
};
use svid_csi_core::quoted::Quoted;

use crate::telemetry::report;

/// The maximum size of the input: some twenty thousand requests.
const MAX_BYTES: usize = 64 << 20;

/// Why the input cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The system's error.
    #[error("standard input cannot be read")]
    Read(#[source] io::Error),
    /// It exceeds the limit on memory.
    #[error("standard input is larger than {} MiB; split it", MAX_BYTES >> 20)]
    TooLarge,
    /// The previous program in the pipe has probably failed.
    #[error("standard input is empty; pipe the output of `kubectl get certificaterequests -A -o yaml` into it")]
    Empty,
    /// Neither YAML nor JSON, or not of the form of these objects.
    #[error("standard input, document {document}: {problem}")]
    Document {
        /// Counted from 1.
        document: usize,
        /// The field, its mistake, and its position.
        problem: String,
    },
}

/// One document: an object, or a list of them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a CertificateRequest or a List")]
struct Document {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: CertificateRequestSpec,
    status: Option<CertificateRequestStatus>,
    items: Option<Vec<CertificateRequest>>,
}

/// A value whose errors name the field.
struct Located<T>(T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut track = Track::new();
        let value = T::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track));
        value.map(Self).map_err(|error| match track.path().to_string() {
            root if root == "." => D::Error::custom(error),
            path => D::Error::custom(format_args!("{path}: {error}")),
        })
    }
}

/// Reads all requests, or fails with the mistake in the first object that is not one.
pub(super) fn read(input: impl Read) -> Result<Vec<Request>, InputError> {
    read_at_most(input, MAX_BYTES)
}

fn read_at_most(input: impl Read, limit: usize) -> Result<Vec<Request>, InputError> {
    let mut bytes = Vec::new();
    input.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(InputError::Read)?;
    if bytes.len() > limit {
        return Err(InputError::TooLarge);
    }
    let mut requests = Vec::new();
    let mut documents = 0;
    for read in serde_saphyr::read_with_options::<_, Located<Document>>(&mut &bytes[..], options()) {
        documents += 1;
        let found = read.map_err(|error| report::chain(&error)).and_then(|Located(document)| document.requests());
        let found =
            found.map_err(|problem| InputError::Document { document: documents, problem: report::one_line(&problem) });
        requests.extend(found?);
    }
    if documents == 0 { Err(InputError::Empty) } else { Ok(requests) }
}

/// Sufficient for the maximum input. Anchors are not allowed: kubectl does not write them, and they expand small inputs
/// to large ones.
fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: None,
            max_events: MAX_BYTES,
            max_nodes: MAX_BYTES,
            max_documents: MAX_BYTES,
            max_total_scalar_bytes: MAX_BYTES,
            max_anchors: 0,
            max_aliases: 0,
            max_merge_keys: 0,
        },
    }
}

impl Document {
    fn requests(self) -> Result<Vec<Request>, String> {
        let Self { api_version, kind, metadata, spec, status, items } = self;
        match &*kind {
            "List" | "CertificateRequestList" => {
                // In a list of one kind, the API server leaves the kind out of the items.
                let may_be_unnamed = kind == "CertificateRequestList";
                let items = items.unwrap_or_default().into_iter().enumerate();
                let unnamed = |object: &CertificateRequest| may_be_unnamed && object.kind.is_empty();
                let read = |(index, object)| request(&format!("items[{index}]."), &object, unnamed(&object));
                items.map(read).collect()
            }
            _ => {
                let object = CertificateRequest { api_version, kind, metadata, spec, status };
                request("", &object, false).map(|request| vec![request])
            }
        }
    }
}

/// The object as a request, if it is one; `at` is the prefix of the names of its fields.
fn request(at: &str, object: &CertificateRequest, is_unnamed: bool) -> Result<Request, String> {
    let fields = [("kind", &object.kind, KIND), ("apiVersion", &object.api_version, API_VERSION)];
    for (field, found, expected) in fields {
        if !is_unnamed && found != expected {
            return Err(wrong(at, field, format_args!("{}, expected {expected}", Quoted::new(found))));
        }
    }
    for (field, found) in [("namespace", &object.metadata.namespace), ("name", &object.metadata.name)] {
        if found.is_empty() {
            return Err(wrong(
                at,
                &format!("metadata.{field}"),
                "missing; give the objects as the cluster returns them",
            ));
        }
    }
    Ok(Request::from(object))
}

fn wrong(at: &str, field: &str, problem: impl Display) -> String {
    format!("{at}{field}: {problem}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OBJECT: &str =
        "{apiVersion: cert-manager.io/v1, kind: CertificateRequest, metadata: {namespace: a, name: b}}";

    fn names(text: &str) -> Result<Vec<String>, String> {
        let requests = read(text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(requests.into_iter().map(|request| format!("{}/{}", request.namespace, request.name)).collect())
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = names(text).expect_err(text);
        assert!(error.contains(expected), "{text}\n     got {error}\nexpected {expected}");
        assert!(error.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{error:?}");
    }

    #[test]
    fn one_many_and_none() {
        let unnamed = "{metadata: {namespace: a, name: b}}";
        for (text, count) in [
            (OBJECT.to_owned(), 1),
            (format!("---\n{OBJECT}\n---\n{OBJECT}\n---\n"), 2),
            (
                format!(
                    "apiVersion: v1\nkind: List\nmetadata:\n  resourceVersion: \"\"\nitems:\n- {OBJECT}\n- {OBJECT}"
                ),
                2,
            ),
            ("{apiVersion: v1, kind: List, items: []}".to_owned(), 0),
            ("{apiVersion: v1, kind: List, items: null}".to_owned(), 0),
            (format!("{{kind: CertificateRequestList, items: [{unnamed}]}}"), 1),
        ] {
            assert_eq!(names(&text), Ok(vec!["a/b".to_owned(); count]), "{text}");
        }
    }

    #[test]
    fn an_object_that_is_not_a_request_is_named() {
        let pod = OBJECT.replace("CertificateRequest", "Pod");
        refused("", "is empty");
        refused("---\n", "is empty");
        refused("No resources found", "document 1: expected mapping start at line 1");
        refused("{kind: List, items: [", "document 1: ");
        refused(&format!("{OBJECT}\n---\n{pod}"), "document 2: kind: \"Pod\", expected CertificateRequest");
        refused(&format!("{{kind: List, items: [{OBJECT}, {pod}]}}"), "document 1: items[1].kind: \"Pod\"");
        refused(&OBJECT.replace("io/v1", "io/v2"), "apiVersion: \"cert-manager.io/v2\", expected cert-manager.io/v1");
        refused(&OBJECT.replace("namespace: a, ", ""), "document 1: metadata.namespace: missing");
        refused(&OBJECT.replace("name: b", "name: ''"), "document 1: metadata.name: missing");
    }

    #[test]
    fn fields_of_a_wrong_type_are_named() {
        let with = |more: &str| format!("{}, {more}}}", OBJECT.strip_suffix('}').unwrap());
        refused(&with("spec: {isCA: maybe}"), "document 1: spec.isCA: ");
        refused(&with("spec: {usages: {a: b}}"), "document 1: spec.usages: expected sequence");
        refused(&format!("{{kind: List, items: [{}]}}", with("spec: {extra: [\"\\e\"]}")), "items[0].spec.extra: ");
        refused(&with("kind: Pod"), "document 1: ");
    }

    #[test]
    fn bytes_that_are_not_text_are_reported() {
        let error = read(&b"a\xff"[..]).map_err(|error| error.to_string()).unwrap_err();
        assert!(error.starts_with("standard input, document 1: ") && error.to_lowercase().contains("utf-8"), "{error}");
    }

    #[test]
    fn anchors_and_deep_nesting_are_refused() {
        refused("a: &a [x]\nb: *a", "document 1: ");
        refused(&"[".repeat(100_000), "document 1: ");
        let error = read_at_most(OBJECT.as_bytes(), OBJECT.len() - 1).unwrap_err();
        assert!(matches!(error, InputError::TooLarge) && read_at_most(OBJECT.as_bytes(), OBJECT.len()).is_ok());
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[-{}\\[\\]:,a &*!|>\n\"']{0,60}") {
            let _ = read(&bytes[..]);
            let _ = read(text.as_bytes());
        }
    }
}

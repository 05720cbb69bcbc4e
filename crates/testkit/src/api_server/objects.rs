//! The objects, and the history of their changes.

mod metadata;
mod pages;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use self::pages::Pages;
use super::failure::Failure;
use super::kinds::Kind;
use super::selector::Selector;
use crate::pulse::Pulse;

/// An object at some version.
pub(super) type Object = Arc<Value>;

/// The key of an object: group, plural, namespace, name, in the order of lists.
type Key = (&'static str, &'static str, String, String);

/// All objects of the cluster, with one resource version that only grows.
#[derive(Debug, Default)]
pub struct Objects {
    state: Mutex<Contents>,
    pulse: Pulse,
}

/// The state at some time, as in a backup of etcd.
#[derive(Debug)]
pub struct Backup(Contents);

#[derive(Debug, Default, Clone)]
struct Contents {
    version: u64,
    /// Changes up to this version are forgotten.
    compacted: u64,
    objects: BTreeMap<Key, Object>,
    history: Vec<Change>,
    pages: Pages,
}

#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) before: Option<Object>,
    pub(super) after: Option<Object>,
}

/// One page of a list.
#[derive(Debug)]
pub(super) struct List {
    pub(super) version: u64,
    pub(super) items: Vec<Object>,
    pub(super) next: Option<String>,
    pub(super) remaining: usize,
}

/// The part of an object that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything except its status, if that is a subresource.
    Main,
    /// Only its status.
    Status,
}

impl Objects {
    pub(super) fn new(pulse: Pulse) -> Self {
        // To clients, version 0 means any version, so no list may have it.
        Self { pulse, state: Mutex::new(Contents { version: 1, ..Contents::default() }) }
    }

    /// Creates the object, or replaces it including its status, to set up the cluster.
    ///
    /// # Panics
    /// If the server does not know the object's kind.
    pub fn put(&self, object: Value) -> Value {
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let (api_version, name) = (text("apiVersion"), text("kind"));
        let kind = Kind::of(&api_version, &name).unwrap_or_else(|| panic!("unknown object {api_version} {name}"));
        let mut state = self.state();
        let key = key(kind, &metadata::text(&object, "namespace"), &metadata::text(&object, "name"));
        let object = metadata::stamp(object, state.objects.get(&key).map(AsRef::as_ref));
        (*self.write(&mut state, key, Some(object)).expect("written")).clone()
    }

    /// Deletes an object; returns whether it existed.
    pub fn remove(&self, plural: &str, namespace: &str, name: &str) -> bool {
        let mut state = self.state();
        let key = key(Kind::named(plural), namespace, name);
        let found = state.objects.contains_key(&key);
        if found {
            self.write(&mut state, key, None);
        }
        found
    }

    /// The current object.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.find(Kind::named(plural), namespace, name).ok().map(|object| (*object).clone())
    }

    /// All objects of a resource, in all namespaces.
    pub fn all(&self, plural: &str) -> Vec<Value> {
        self.matching(Kind::named(plural), |_| true).iter().map(|object| (**object).clone()).collect()
    }

    /// Forgets the history, as etcd does from time to time: earlier watches, and further pages of earlier lists, are
    /// answered with 410 Gone.
    pub fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.version;
        state.history.clear();
        state.pages = Pages::default();
    }

    /// The current state.
    pub fn backup(&self) -> Backup {
        Backup(self.state().clone())
    }

    /// Returns to an earlier state, with its version: watches from a later one are accepted, and have no events.
    pub fn restore(&self, Backup(earlier): Backup) {
        *self.state() = earlier;
    }

    pub(super) fn matching(&self, kind: &'static Kind, wanted: impl Fn(&Value) -> bool) -> Vec<Object> {
        self.state().of(kind).filter(|object| wanted(object)).cloned().collect()
    }

    pub(super) fn namespace_of(&self, kind: &'static Kind, name: &str) -> Option<String> {
        let found = self.matching(kind, |object| object["metadata"]["name"] == name).pop()?;
        Some(metadata::text(&found, "namespace"))
    }

    /// The version of the latest change.
    pub(super) fn version(&self) -> u64 {
        self.state().version
    }

    /// Changes an object if it exists; returns whether it did.
    pub(super) fn change(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        with: impl FnOnce(&mut Value),
    ) -> bool {
        let mut state = self.state();
        let key = key(kind, namespace, name);
        let Some(object) = state.objects.get(&key) else { return false };
        let mut changed = (**object).clone();
        with(&mut changed);
        self.write(&mut state, key, Some(changed)).is_some()
    }

    pub(super) fn find(&self, kind: &'static Kind, namespace: &str, name: &str) -> Result<Object, Failure> {
        let found = self.state().objects.get(&key(kind, namespace, name)).cloned();
        found.ok_or_else(|| Failure::not_found(kind, name))
    }

    pub(super) fn create(&self, kind: &'static Kind, namespace: &str, object: Value) -> Result<Object, Failure> {
        let object = metadata::prepare(kind, namespace, object)?;
        let name = metadata::text(&object, "name");
        let mut state = self.state();
        let key = key(kind, namespace, &name);
        if state.objects.contains_key(&key) {
            return Err(Failure::already_exists(kind, &name));
        }
        Ok(self.write(&mut state, key, Some(metadata::stamp(object, None))).expect("written"))
    }

    /// Replaces an object, unless its version differs from the one that the caller has read.
    pub(super) fn update(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        part: Part,
        object: Value,
    ) -> Result<Object, Failure> {
        let mut state = self.state();
        let key = key(kind, namespace, name);
        let current = state.objects.get(&key).ok_or_else(|| Failure::not_found(kind, name))?;
        let read = metadata::text(&object, "resourceVersion");
        if !read.is_empty() && read != metadata::text(current, "resourceVersion") {
            return Err(Failure::modified(kind, name));
        }
        let object = metadata::merge(kind, current, object, part)?;
        Ok(self.write(&mut state, key, Some(object)).expect("written"))
    }

    /// Deletes an object, unless it differs from the one that the caller has read.
    pub(super) fn delete(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        preconditions: &Value,
    ) -> Result<Object, Failure> {
        let mut state = self.state();
        let key = key(kind, namespace, name);
        let current = state.objects.get(&key).cloned().ok_or_else(|| Failure::not_found(kind, name))?;
        for field in ["uid", "resourceVersion"] {
            let (wanted, found) = (preconditions[field].as_str(), metadata::text(&current, field));
            if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
                let why = format!("Precondition failed: {field} in precondition: {wanted}, in object meta: {found}");
                return Err(Failure::conflict(kind, name, &why));
            }
        }
        self.write(&mut state, key, None);
        Ok(current)
    }

    /// One page: the first, or the next one of an earlier list.
    pub(super) fn list(
        &self,
        kind: &'static Kind,
        selector: &Selector,
        limit: usize,
        next: &str,
    ) -> Result<List, Failure> {
        let mut state = self.state();
        let (version, items) = if next.is_empty() {
            (state.version, state.of(kind).filter(|object| selector.matches(object)).cloned().collect())
        } else {
            state.pages.take(next).ok_or_else(Failure::continue_expired)?
        };
        Ok(state.pages.page(version, items, limit))
    }

    /// The changes after `version`; 410 if they are forgotten. Empty for the latest version.
    pub(super) fn since(&self, version: u64) -> Result<Vec<Change>, Failure> {
        let state = self.state();
        if version < state.compacted {
            return Err(Failure::expired(version, state.compacted));
        }
        let first = state.history.partition_point(|change| change.version <= version);
        Ok(state.history[first..].to_vec())
    }

    fn write(&self, state: &mut Contents, key: Key, after: Option<Value>) -> Option<Object> {
        state.version += 1;
        let version = state.version;
        let after = after.map(|object| Arc::new(metadata::at_version(object, version)));
        let before = match &after {
            Some(after) => state.objects.insert(key.clone(), after.clone()),
            None => state.objects.remove(&key),
        };
        state.history.push(Change { version, group: key.0, plural: key.1, before, after: after.clone() });
        self.pulse.beat();
        after
    }

    fn state(&self) -> MutexGuard<'_, Contents> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn of(&self, kind: &'static Kind) -> impl Iterator<Item = &Object> {
        let first = (kind.group, kind.plural, String::new(), String::new());
        let range = self.objects.range(first..);
        range.take_while(|(key, _)| (key.0, key.1) == (kind.group, kind.plural)).map(|(_, object)| object)
    }
}

fn key(kind: &'static Kind, namespace: &str, name: &str) -> Key {
    let namespace = if kind.namespaced { namespace } else { "" };
    (kind.group, kind.plural, namespace.to_owned(), name.to_owned())
}

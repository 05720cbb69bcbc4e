//! Lists in pages, all of which show the objects at the time of the first page.

use std::collections::HashMap;

use super::{List, Object};

/// The remaining items of unfinished lists.
#[derive(Debug, Default, Clone)]
pub(super) struct Pages {
    rests: HashMap<String, (u64, Vec<Object>)>,
    issued: u64,
}

impl Pages {
    /// The remaining items for a `continue` token, which stays valid for clients that lost the response.
    pub(super) fn take(&mut self, next: &str) -> Option<(u64, Vec<Object>)> {
        self.rests.get(next).cloned()
    }

    /// The first `limit` of the items (0 means no limit), and the token for the others.
    pub(super) fn page(&mut self, version: u64, mut items: Vec<Object>, limit: usize) -> List {
        if limit == 0 || items.len() <= limit {
            return List { version, items, next: None, remaining: 0 };
        }
        let rest = items.split_off(limit);
        let remaining = rest.len();
        self.issued += 1;
        let next = format!("page-{}", self.issued);
        self.rests.insert(next.clone(), (version, rest));
        List { version, items, next: Some(next), remaining }
    }
}

//! Hints: the purpose of each of several SVIDs, in the words of its registration; often empty (SPIFFE Workload API,
//! section 5.2.1).

use std::collections::HashSet;

use crate::identity::Rejection;

/// Leaves out each SVID that has the hint of an earlier one: of two with the same hint, the first counts.
pub fn first_of_each<T>(items: impl IntoIterator<Item = T>, hint_of: impl Fn(&T) -> &str) -> impl Iterator<Item = T> {
    let mut hints = HashSet::new();
    items.into_iter().filter(move |item| hint_of(item).is_empty() || hints.insert(hint_of(item).to_owned()))
}

/// The SVID with that hint.
///
/// # Errors
/// [`Rejection::NoSuchHint`], if none has it.
pub fn pick<T>(mut items: Vec<T>, hint: &str, hint_of: impl Fn(&T) -> &str) -> Result<T, Rejection> {
    if let Some(index) = items.iter().position(|item| hint_of(item) == hint) {
        return Ok(items.swap_remove(index));
    }
    let there = items.iter().map(hint_of).filter(|hint| !hint.is_empty()).map(str::to_owned).collect();
    Err(Rejection::NoSuchHint { hint: hint.to_owned(), there })
}

//! JSON with a long list, cut so that it stays JSON.

use serde_json::Value;

use super::archive::MOST_OF_FILE;

/// Redacted text may be longer than what it replaces.
const ROOM: usize = MOST_OF_FILE / 8 * 7;

/// The object with as many of the items as there is room for, a line each, and the number of those left out.
pub(super) fn with_list(object: &Value, name: &str, items: impl IntoIterator<Item = Value>) -> String {
    let mut head = serde_json::to_string_pretty(object).unwrap_or_default();
    head.truncate(head.trim_end_matches('}').trim_end().len());
    let comma = if head.ends_with('{') { "" } else { "," };
    let mut text = format!("{head}{comma}\n  \"{name}\": [");
    let (mut shown, mut left_out) = (0_usize, 0_usize);
    for item in items {
        let item = item.to_string();
        if left_out > 0 || text.len() + item.len() > ROOM {
            left_out += 1;
            continue;
        }
        text.push_str(if shown == 0 { "\n    " } else { ",\n    " });
        text.push_str(&item);
        shown += 1;
    }
    text.push_str(if shown == 0 { "]" } else { "\n  ]" });
    if left_out > 0 {
        text.push_str(&format!(",\n  \"{name}_left_out\": {left_out}"));
    }
    text.push_str("\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_json_however_long_the_list_is() {
        for (head, number) in [(json!({}), 0), (json!({"a": {"b": 1}}), 1), (json!({"a": {}}), 5_000)] {
            let items = (0..number).map(|id| json!({"id": id, "text": "x".repeat(400)}));
            let text = with_list(&head, "volumes", items);
            let read: Value = serde_json::from_str(&text).unwrap();
            let shown = read["volumes"].as_array().unwrap().len();
            let left_out = read["volumes_left_out"].as_u64().unwrap_or_default();
            assert_eq!(shown as u64 + left_out, number);
            assert!(text.len() <= MOST_OF_FILE && read["a"] == head["a"], "{}", text.len());
            assert!(number < 5_000 || left_out > 1_000, "{left_out}");
        }
    }
}

//! The metrics and labels in an expression of PromQL, or in a series.

/// Labels that are not the program's: Prometheus adds the first, and the other one is that of buckets.
const OF_OTHERS: [&str; 2] = ["instance", "le"];

/// Checks that a page of metrics contains every metric and label of an expression.
pub(super) fn check(of: &str, expr: &str, page: &str) {
    let found = metrics(expr);
    assert!(!found.is_empty(), "{of} asks for no metric: {expr}");
    let mut exposed = String::new();
    for (metric, labels) in found {
        let is_it = |line: &&str| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let line = page.lines().find(is_it).unwrap_or_else(|| panic!("{of}: there is no {metric} in\n{page}"));
        for label in labels {
            assert!(has(line, label), "{of}: {metric} has no label {label}: {line}");
        }
        exposed += line;
    }
    for label in grouped(expr) {
        assert!(has(&exposed, label), "{of}: there is no label {label} in {exposed}");
    }
}

fn has(line: &str, label: &str) -> bool {
    OF_OTHERS.contains(&label) || ['{', ','].iter().any(|before| line.contains(&format!("{before}{label}=\"")))
}

/// The labels by which an expression groups.
pub(super) fn grouped(expr: &str) -> impl Iterator<Item = &str> {
    let groups = expr.split(" by (").skip(1).filter_map(|rest| rest.split_once(')'));
    groups.flat_map(|(labels, _)| labels.split(',').map(str::trim))
}

/// A metric in an expression, with the labels that the expression uses.
fn metrics(expr: &str) -> Vec<(&str, Vec<&str>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let starts = expr.match_indices("svid_csi_").map(|(at, _)| at);
    let starts = starts.filter(|at| !expr[..*at].ends_with(is_name));
    let metric = |at: usize| {
        let end = expr[at..].find(|c| !is_name(c)).map_or(expr.len(), |length| at + length);
        let selector =
            expr[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let label = |matcher: &'_ str| matcher.find(['=', '!']).unwrap_or(matcher.len());
        let labels = selector.split(',').map(str::trim).filter(|matcher| !matcher.is_empty());
        (&expr[at..end], labels.map(|matcher| &matcher[..label(matcher)]).collect())
    };
    starts.map(metric).collect()
}

#[test]
fn metrics_are_found_in_expressions() {
    assert_eq!(metrics("increase(svid_csi_a_total[5m]) > 0"), [("svid_csi_a_total", vec![])]);
    let expr = r#"sum by (x, y) (svid_csi_a{b="c", d!="e",f=~"g"}) / on(x) svid_csi_h == my_svid_csi_i"#;
    assert_eq!(metrics(expr), [("svid_csi_a", vec!["b", "d", "f"]), ("svid_csi_h", vec![])]);
    assert_eq!(grouped(expr).collect::<Vec<_>>(), ["x", "y"]);
}

#[test]
#[should_panic(expected = "no label code")]
fn a_label_that_is_not_there_is_found() {
    check("it", "sum by (code) (svid_csi_a)", "svid_csi_a{barcode=\"1\"} 1\n");
}

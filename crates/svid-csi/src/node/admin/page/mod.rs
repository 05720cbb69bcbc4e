//! The status page: one HTML file for browsers. It loads nothing, and nothing in it can run but its own script.

mod content;

use std::sync::LazyLock;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::header;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use svid_csi_core::findings::Report;
use svid_csi_core::findings::facts::DriverFacts;

use self::content::Content;

const HTML: &str = include_str!("page.html");
const CSS: &str = include_str!("page.css");
const JS: &str = include_str!("page.js");

/// The policy in the page, which also holds for a saved file.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
    let (script, style) = (hash(JS), hash(CSS));
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; base-uri 'none'; \
         form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
});

/// The page without its data: what comes before it, and after it.
static SHELL: LazyLock<(String, String)> = LazyLock::new(|| {
    let (before, after) = HTML.split_once("{{data}}").unwrap_or((HTML, ""));
    let fill = |part: &str| part.replace("{{policy}}", &POLICY).replace("{{css}}", CSS).replace("{{js}}", JS);
    (fill(before), fill(after))
});

/// The page about a driver, with the findings about its node if they are known.
pub(crate) fn html(driver: &DriverFacts, report: Option<&Report>, now: SystemTime) -> String {
    let (before, after) = &*SHELL;
    let data = serde_json::to_string(&Content::of(driver, report, now)).unwrap_or_default();
    [before, &*inert(&data), after].concat()
}

/// The page as a response.
pub(super) fn response(html: String) -> impl IntoResponse {
    let policy = format!("{}; frame-ancestors 'none'", *POLICY);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, html)
}

/// JSON in which nothing can end the element that holds it.
fn inert(json: &str) -> String {
    let mut inert = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => inert.push_str("\\u003c"),
            '>' => inert.push_str("\\u003e"),
            '&' => inert.push_str("\\u0026"),
            '\u{2028}' => inert.push_str("\\u2028"),
            '\u{2029}' => inert.push_str("\\u2029"),
            c => inert.push(c),
        }
    }
    inert
}

#[cfg(test)]
mod tests;

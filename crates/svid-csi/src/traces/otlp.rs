//! Spans in the JSON form of OTLP (opentelemetry-proto, trace/v1): ids in hexadecimal, 64-bit numbers as text.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::layer::FinishedSpan;

/// A call that another program has made.
const SERVER: u8 = 2;
const INTERNAL: u8 = 1;
const ERROR: u8 = 2;

/// Where spans come from.
#[derive(Debug)]
pub(super) struct SpanOrigin {
    pub(super) service: &'static str,
    pub(super) node: String,
}

/// One request with all these spans.
pub(super) fn request(origin: &SpanOrigin, spans: &[FinishedSpan]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [
        attribute("service.name", origin.service),
        attribute("service.version", version),
        attribute("k8s.node.name", &origin.node),
    ];
    let spans: Vec<_> = spans.iter().map(span).collect();
    let scope = json!({"name": "svid-csi", "version": version});
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]})
    .to_string()
    .into_bytes()
}

fn span(span: &FinishedSpan) -> Value {
    let error = span.attributes.iter().find(|(name, _)| *name == "error").map(|(_, why)| why);
    let others = span.attributes.iter().filter(|(name, _)| *name != "error");
    let attributes: Vec<_> = others.map(|(name, value)| attribute(name, value)).collect();
    let mut value = json!({
        "traceId": hex(&span.trace),
        "spanId": hex(&span.id),
        "name": span.name,
        "kind": if span.parent.is_none() { SERVER } else { INTERNAL },
        "startTimeUnixNano": nanoseconds(span.start),
        "endTimeUnixNano": nanoseconds(span.end),
        "attributes": attributes,
        "status": error.map_or_else(|| json!({}), |why| json!({"code": ERROR, "message": why})),
    });
    if let Some(parent) = &span.parent {
        value["parentSpanId"] = hex(parent).into();
    }
    value
}

fn attribute(name: &str, value: &str) -> Value {
    json!({"key": name, "value": {"stringValue": value}})
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The parser of opentelemetry-proto for Python accepts it (ids apart, which it expects in base64).
    #[test]
    fn a_request_has_the_form_of_the_standard() {
        let at = |nanoseconds| UNIX_EPOCH + Duration::from_nanos(nanoseconds);
        let root = FinishedSpan {
            trace: *b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\xff",
            id: [0xab; 8],
            parent: None,
            name: "NodePublishVolume",
            start: at(1_700_000_000_000_000_001),
            end: at(1_700_000_000_250_000_000),
            attributes: vec![("code", "Unavailable".to_owned()), ("error", "no CA".to_owned())],
        };
        let child = FinishedSpan {
            trace: root.trace,
            id: [1; 8],
            parent: Some(root.id),
            name: "issue",
            start: root.start,
            end: root.end,
            attributes: Vec::new(),
        };
        let origin = SpanOrigin { service: "svid-csi-driver", node: "n1".to_owned() };
        let request: Value = serde_json::from_slice(&request(&origin, &[root, child])).unwrap();
        let of_resource = &request["resourceSpans"][0];
        assert_eq!(
            of_resource["resource"]["attributes"][2],
            json!({"key": "k8s.node.name", "value": {"stringValue": "n1"}})
        );
        assert_eq!(
            of_resource["scopeSpans"][0]["spans"],
            json!([
                {
                    "traceId": "0102030405060708090a0b0c0d0e0fff", "spanId": "abababababababab",
                    "name": "NodePublishVolume", "kind": 2,
                    "startTimeUnixNano": "1700000000000000001", "endTimeUnixNano": "1700000000250000000",
                    "attributes": [{"key": "code", "value": {"stringValue": "Unavailable"}}],
                    "status": {"code": 2, "message": "no CA"},
                },
                {
                    "traceId": "0102030405060708090a0b0c0d0e0fff", "spanId": "0101010101010101",
                    "parentSpanId": "abababababababab", "name": "issue", "kind": 1,
                    "startTimeUnixNano": "1700000000000000001", "endTimeUnixNano": "1700000000250000000",
                    "attributes": [], "status": {},
                },
            ])
        );
    }
}

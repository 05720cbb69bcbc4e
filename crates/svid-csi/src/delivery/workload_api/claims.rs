//! Claims of a token as `google.protobuf.Struct`.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::{Map, Value as Json};

/// The same value in the other form, in which every number is a 64-bit float.
pub(super) fn to_struct(claims: Map<String, Json>) -> Struct {
    Struct { fields: claims.into_iter().map(|(name, claim)| (name, to_value(claim))).collect() }
}

fn to_value(claim: Json) -> Value {
    let kind = match claim {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        // Without serde_json's arbitrary_precision, every number is a float.
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(list) => Kind::ListValue(ListValue { values: list.into_iter().map(to_value).collect() }),
        Json::Object(fields) => Kind::StructValue(to_struct(fields)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_claim_is_carried_over() {
        let claims = r#"{"aud":["a","b"],"exp":1700000000,"x":{"deep":[null,true,1.5,{}]},"empty":[]}"#;
        let fields = to_struct(serde_json::from_str(claims).unwrap()).fields;
        let kind = |name: &str| fields[name].kind.clone().unwrap();
        let list = |values: Vec<Kind>| {
            let values = values.into_iter().map(|kind| Value { kind: Some(kind) }).collect();
            Kind::ListValue(ListValue { values })
        };
        let text = |text: &str| Kind::StringValue(text.to_owned());
        assert_eq!(kind("aud"), list(vec![text("a"), text("b")]));
        assert_eq!(kind("exp"), Kind::NumberValue(1_700_000_000.0));
        assert_eq!(kind("empty"), list(vec![]));
        let deep = list(vec![
            Kind::NullValue(0),
            Kind::BoolValue(true),
            Kind::NumberValue(1.5),
            Kind::StructValue(Struct::default()),
        ]);
        let Kind::StructValue(nested) = kind("x") else { panic!("not an object") };
        assert_eq!(nested.fields["deep"].kind, Some(deep));
    }
}

//! What a manifest states of a person: values with types.

use std::collections::HashMap;

use anyhow::Context;

use crate::contract as proto;
use proto::metadata_value::Value;

/// The metadata of a person, as the contract has it.
pub(super) type Metadata = HashMap<String, proto::MetadataValue>;

/// As many as a person may have; more would end the stream.
pub(super) const ENTRIES_MAX: usize = 64;

/// The type that a column states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Number,
    Bool,
    Time,
}

/// A column or key, and what of it becomes metadata: `age:number` is `age`, a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub name: String,
    /// Of JSON without one, the value's own.
    pub stated: Option<Type>,
}

impl Field {
    pub(super) fn parse(text: &str) -> Self {
        let typed = text.rsplit_once(':').and_then(|(name, kind)| {
            let kind = match kind {
                "text" => Type::Text,
                "number" => Type::Number,
                "bool" => Type::Bool,
                "time" => Type::Time,
                _ => return None,
            };
            Some(Self { name: name.to_owned(), stated: Some(kind) })
        });
        typed.unwrap_or_else(|| Self { name: text.to_owned(), stated: None })
    }

    /// Reads a value out of text; without a type it is text.
    ///
    /// *Errors*: where it is not of the type.
    pub(super) fn of_text(&self, text: &str) -> anyhow::Result<proto::MetadataValue> {
        let name = &self.name;
        let value = match self.stated.unwrap_or(Type::Text) {
            Type::Text => Value::StringValue(text.to_owned()),
            Type::Number => {
                let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
                Value::NumberValue(number.with_context(|| format!("{name} must be a number, found {text:?}"))?)
            }
            Type::Bool => match text.trim().to_ascii_lowercase().as_str() {
                "true" => Value::BoolValue(true),
                "false" => Value::BoolValue(false),
                _ => anyhow::bail!("{name} must be true or false, found {text:?}"),
            },
            Type::Time => {
                let time = text.trim().parse().ok();
                Value::TimeValue(time.with_context(|| format!("{name} must be a time of RFC 3339, found {text:?}"))?)
            }
        };
        Ok(proto::MetadataValue { value: Some(value) })
    }

    /// Reads a JSON value; `None` for null.
    ///
    /// *Errors*: where it is a list or an object, or not of the type.
    pub(super) fn of_json(&self, json: &serde_json::Value) -> anyhow::Result<Option<proto::MetadataValue>> {
        use serde_json::Value as Json;
        let value = match (json, self.stated) {
            (Json::Null, _) => return Ok(None),
            (Json::String(text), _) => return self.of_text(text).map(Some),
            (Json::Number(number), None) => Value::NumberValue(number.as_f64().context("a number")?),
            (Json::Bool(flag), None) => Value::BoolValue(*flag),
            (Json::Number(_) | Json::Bool(_), Some(_)) => return self.of_text(&json.to_string()).map(Some),
            (Json::Array(_) | Json::Object(_), _) => {
                anyhow::bail!("{} must be text, a number, true or false", self.name)
            }
        };
        Ok(Some(proto::MetadataValue { value: Some(value) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_has_the_type_that_its_column_states() {
        let value = |field: &str, text: &str| Field::parse(field).of_text(text).map(|value| value.value);
        for (field, faulty) in [("a:number", "x"), ("a:number", "inf"), ("a:bool", "1"), ("a:time", "yesterday")] {
            assert!(value(field, faulty).is_err(), "{field} {faulty}");
        }
        assert!(value("a", "007").expect("text") == Some(Value::StringValue("007".to_owned())));
        assert!(value("a:number", " 1.5").expect("a number") == Some(Value::NumberValue(1.5)));
        assert!(value("a:bool", "TRUE").expect("a flag") == Some(Value::BoolValue(true)));
        let time = value("a:time", "2026-01-02T03:04:05Z").expect("a time");
        assert!(matches!(time, Some(Value::TimeValue(time)) if time.seconds == 1_767_323_045));
        assert_eq!(Field::parse("a:b").name, "a:b");
    }

    #[test]
    fn json_value_has_its_own_type() {
        let value = |json: serde_json::Value| Field::parse("a").of_json(&json);
        assert!(value(serde_json::json!([1])).is_err() && value(serde_json::json!({})).is_err());
        let value = |json| value(json).expect("a value").and_then(|value| value.value);
        assert!(value(serde_json::json!(3)) == Some(Value::NumberValue(3.0)));
        assert!(value(serde_json::json!(true)) == Some(Value::BoolValue(true)));
        assert!(value(serde_json::json!("3")) == Some(Value::StringValue("3".to_owned())));
        assert!(value(serde_json::Value::Null).is_none());
        assert!(Field::parse("a:text").of_json(&serde_json::json!(3)).is_ok());
    }
}

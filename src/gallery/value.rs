//! Values of metadata in an order: what every store compares with the literals of a filter.

use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::sync::Arc;

use prost_types::Timestamp;

use super::types::MetadataValue;

/// A value in the order of its kind; kinds lie one after the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Flag(bool),
    /// The bits of an f64, turned so that they order as it does.
    Number(i64),
    Text(Arc<str>),
    Time(i64, i32),
    /// After every other value.
    End,
}

impl Value {
    pub(super) fn of(value: &MetadataValue) -> Self {
        match value {
            MetadataValue::Flag(flag) => Value::Flag(*flag),
            MetadataValue::Number(number) => {
                // Of zeros there is one.
                Value::Number(turned((number + 0.0).to_bits().cast_signed()))
            }
            MetadataValue::Text(text) => Value::Text(text.as_str().into()),
            MetadataValue::Time { seconds, nanos } => Value::Time(*seconds, *nanos),
        }
    }

    /// The value it was made of.
    pub(super) fn metadata(&self) -> Option<MetadataValue> {
        Some(match self {
            Value::Flag(flag) => MetadataValue::Flag(*flag),
            Value::Number(bits) => MetadataValue::Number(f64::from_bits(turned(*bits).cast_unsigned())),
            Value::Text(text) => MetadataValue::Text(text.to_string()),
            Value::Time(seconds, nanos) => MetadataValue::Time { seconds: *seconds, nanos: *nanos },
            Value::End => return None,
        })
    }

    /// A literal's values: a text that is an RFC 3339 time is a time as well.
    pub(super) fn of_literal(literal: &MetadataValue) -> Vec<Self> {
        let time = match literal {
            MetadataValue::Text(text) => text.parse::<Timestamp>().ok(),
            _ => None,
        };
        let time = time.map(|Timestamp { seconds, nanos }| Value::Time(seconds, nanos));
        std::iter::once(Value::of(literal)).chain(time).collect()
    }

    /// The bounds of this value's kind: the least value of it, and what lies beyond it.
    pub(super) fn kind(&self) -> (Bound<Value>, Bound<Value>) {
        match self {
            Value::Flag(_) => (Unbounded, Excluded(Value::Number(i64::MIN))),
            Value::Number(_) => (Included(Value::Number(i64::MIN)), Excluded(Value::Text("".into()))),
            Value::Text(_) => (Included(Value::Text("".into())), Excluded(Value::Time(i64::MIN, i32::MIN))),
            Value::Time(..) | Value::End => (Included(Value::Time(i64::MIN, i32::MIN)), Excluded(Value::End)),
        }
    }
}

/// Turns the bits of a number so that they order as it does, and back again.
fn turned(bits: i64) -> i64 {
    bits ^ (((bits >> 63).cast_unsigned()) >> 1).cast_signed()
}

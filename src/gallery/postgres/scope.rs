//! A search's scope as a condition on the table of identities: complete, because the database looks at every row that it is true
//! of. Values lie in the table as texts that order as the engine orders values, so a filter means the same in every store.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use tokio_postgres::types::ToSql;

use crate::gallery::filter::{Comparison, Filter};
use crate::gallery::types::{MetadataValue, Scope};
use crate::gallery::value::Value;

/// Values of a statement, in the order of their places.
#[derive(Default)]
pub(super) struct Parameters(Vec<Box<dyn ToSql + Sync + Send>>);

impl Parameters {
    /// Adds a value and returns its place.
    pub(super) fn add(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.0.push(Box::new(value));
        format!("${}", self.0.len())
    }

    /// Returns them as a statement takes them.
    pub(super) fn all(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(|value| value.as_ref() as &(dyn ToSql + Sync)).collect()
    }
}

/// The condition of a scope on the columns `id` and `metadata` of an alias; `None` of everyone.
pub(super) fn condition(scope: &Scope, alias: &str, parameters: &mut Parameters) -> Option<String> {
    let among = scope.candidates.as_ref().map(|candidates| {
        let ids: Vec<String> = candidates.iter().map(|id| id.as_str().to_owned()).collect();
        format!("{alias}.id = any({}::text[])", parameters.add(ids))
    });
    let filter = scope.filter.as_ref().map(|filter| of_filter(filter, &format!("{alias}.metadata"), parameters));
    match (among, filter) {
        (Some(among), Some(filter)) => Some(format!("{among} and {filter}")),
        (some, other) => some.or(other),
    }
}

fn of_filter(filter: &Filter, column: &str, parameters: &mut Parameters) -> String {
    let mut parts = |parts: &[Filter], word: &str, none: &str| {
        let parts: Vec<String> = parts.iter().map(|part| of_filter(part, column, parameters)).collect();
        if parts.is_empty() { none.to_owned() } else { format!("({})", parts.join(word)) }
    };
    match filter {
        Filter::And(all) => parts(all, " and ", "true"),
        Filter::Or(any) => parts(any, " or ", "false"),
        Filter::Not(inner) => format!("(not {})", of_filter(inner, column, parameters)),
        Filter::Has(key) => format!("jsonb_exists({column}, {}::text)", parameters.add(escaped(key))),
        Filter::In(key, literals) => {
            let values: Vec<String> = literals.iter().flat_map(Value::of_literal).map(|value| text(&value)).collect();
            let (key, values) = (parameters.add(escaped(key)), parameters.add(values));
            format!("coalesce(({column} ->> {key}::text) = any({values}::text[]), false)")
        }
        Filter::Compare(key, comparison, literal) => {
            let key = parameters.add(escaped(key));
            let value = format!("({column} ->> {key}::text) collate \"C\"");
            let ranges = Value::of_literal(literal).into_iter().map(|literal| {
                let literal = text(&literal);
                // All values of a kind begin with its letter, and the next letter is no kind's.
                let kind = literal.bytes().next().unwrap_or_default();
                let (least, beyond) = (char::from(kind).to_string(), char::from(kind + 1).to_string());
                let literal = parameters.add(literal);
                match comparison {
                    Comparison::Below => format!("{value} >= '{least}' and {value} < {literal}::text"),
                    Comparison::AtMost => format!("{value} >= '{least}' and {value} <= {literal}::text"),
                    Comparison::Above => format!("{value} > {literal}::text and {value} < '{beyond}'"),
                    Comparison::AtLeast => format!("{value} >= {literal}::text and {value} < '{beyond}'"),
                }
            });
            let ranges: Vec<String> = ranges.map(|range| format!("coalesce({range}, false)")).collect();
            format!("({})", ranges.join(" or "))
        }
    }
}

/// An identity's metadata as the table has it: each key's value as a text that orders as it does.
pub(super) fn document(metadata: &BTreeMap<String, MetadataValue>) -> Json {
    let entries = metadata.iter().map(|(key, value)| (escaped(key), Json::String(text(&Value::of(value)))));
    Json::Object(entries.collect::<Map<String, Json>>())
}

/// A value as a text: a letter for its kind, and what orders as the value does.
fn text(value: &Value) -> String {
    let turned = |bits: i64| bits.cast_unsigned() ^ (1 << 63);
    match value {
        Value::Flag(flag) => format!("f{}", u8::from(*flag)),
        Value::Number(bits) => format!("n{:016x}", turned(*bits)),
        Value::Text(text) => format!("t{}", escaped(text)),
        Value::Time(seconds, nanos) => format!("z{:016x}{:08x}", turned(*seconds), nanos.cast_unsigned() ^ (1 << 31)),
        Value::End => "~".to_owned(),
    }
}

/// A text without the character that the database's texts cannot hold, in the same order.
fn escaped(text: &str) -> String {
    if !text.contains(['\u{0}', '\u{1}']) {
        return text.to_owned();
    }
    text.replace('\u{1}', "\u{1}\u{2}").replace('\u{0}', "\u{1}\u{1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_order_as_values_do() {
        let values = [
            MetadataValue::Flag(false),
            MetadataValue::Flag(true),
            MetadataValue::Number(-1e300),
            MetadataValue::Number(-2.5),
            MetadataValue::Number(-0.0),
            MetadataValue::Number(1e-300),
            MetadataValue::Number(7.0),
            MetadataValue::Text(String::new()),
            MetadataValue::Text("\u{0}".into()),
            MetadataValue::Text("\u{0}b".into()),
            MetadataValue::Text("\u{1}".into()),
            MetadataValue::Text("\u{1}\u{0}".into()),
            MetadataValue::Text("\u{2}".into()),
            MetadataValue::Text("a".into()),
            MetadataValue::Text("\u{10ffff}x".into()),
            MetadataValue::Time { seconds: -5, nanos: 7 },
            MetadataValue::Time { seconds: -5, nanos: 8 },
            MetadataValue::Time { seconds: 3, nanos: 0 },
        ];
        let texts: Vec<String> = values.iter().map(|value| text(&Value::of(value))).collect();
        assert!(texts.windows(2).all(|pair| pair[0].as_bytes() < pair[1].as_bytes()), "{texts:?}");
        assert!(texts.iter().all(|text| !text.contains('\u{0}')));
        assert_eq!(text(&Value::of(&MetadataValue::Number(0.0))), text(&Value::of(&MetadataValue::Number(-0.0))));
    }
}

//! The filter language: which identities a search may name, told from their metadata.
//!
//! ```text
//! filter     = or
//! or         = and { "OR" and }
//! and        = not { "AND" not }
//! not        = "NOT" not | "(" or ")" | comparison
//! comparison = key ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) literal
//!            | key "IN" "(" literal { "," literal } ")"
//!            | key ":" "*"
//! key        = letter or "_" { letter, digit, "_", "-", "." } | "`" any text "`"
//! literal    = '"' text '"' | number | "true" | "false"
//! ```
//! Words are upper case. A comparison is true where the identity has the key, with a value of the literal's type that
//! compares so; `NOT` of it is true everywhere else, also where the key is missing. `key:*` is true where the key is there.
//! Text is compared by bytes. A time is compared with a text that is an RFC 3339 time: `since < "2026-01-01T00:00:00Z"`.
//! In text and keys a backslash takes the next character as it is.

use super::types::MetadataValue;
use crate::error::Error;

/// The longest filter, in bytes.
pub const BYTES_MAX: usize = 16 << 10;
/// How deep parentheses and `NOT` may nest: bounds the parser's stack.
const DEPTH_MAX: usize = 64;

/// A parsed filter.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// All of them are true.
    And(Vec<Filter>),
    /// One of them is true.
    Or(Vec<Filter>),
    /// It is not true.
    Not(Box<Filter>),
    /// The identity has the key.
    Has(String),
    /// The key's value is one of these.
    In(String, Vec<MetadataValue>),
    /// The key's value lies before, at or after a literal.
    Compare(String, Comparison, MetadataValue),
}

/// How a value is compared with a literal; equality is [`Filter::In`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl Filter {
    /// Parses a filter.
    ///
    /// *Errors*: [`Error::BadField`] that says what was expected and at which character.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
        if text.len() > BYTES_MAX {
            return Err(Error::bad_field(field, "at most 16,384 bytes"));
        }
        let mut parser = Parser { text, at: 0, depth: 0 };
        let parsed = parser.or().and_then(|filter| match parser.next_token()? {
            (Token::End, _) => Ok(filter),
            (_, at) => Err(Fault { at, expected: "AND, OR or the end" }),
        });
        parsed.map_err(|Fault { at, expected }| {
            let character = text.get(..at).map_or(0, |before| before.chars().count()) + 1;
            Error::bad_field(field, format!("a filter: {expected} expected at character {character}"))
        })
    }
}

/// What is wrong, and at which byte.
struct Fault {
    at: usize,
    expected: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Comma,
    Colon,
    Star,
    Equal,
    NotEqual,
    Order(Comparison),
    /// A key or an upper-case word.
    Word(String),
    /// A key between backquotes: never a word of the language.
    Quoted(String),
    Text(String),
    Number(f64),
    End,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn or(&mut self) -> Result<Filter, Fault> {
        let mut parts = vec![self.and()?];
        while self.take_word("OR")? {
            parts.push(self.and()?);
        }
        Ok(one_or(parts, Filter::Or))
    }

    fn and(&mut self) -> Result<Filter, Fault> {
        let mut parts = vec![self.not()?];
        while self.take_word("AND")? {
            parts.push(self.not()?);
        }
        Ok(one_or(parts, Filter::And))
    }

    fn not(&mut self) -> Result<Filter, Fault> {
        let at = self.at;
        if self.depth == DEPTH_MAX {
            return Err(Fault { at, expected: "no deeper nesting than 64" });
        }
        self.depth += 1;
        let filter = match self.next_token()? {
            (Token::Word(word), _) if word == "NOT" => Filter::Not(Box::new(self.not()?)),
            (Token::Open, _) => {
                let inner = self.or()?;
                self.expect(&Token::Close, "AND, OR or )")?;
                inner
            }
            (Token::Word(key), at) if is_reserved(&key) => {
                return Err(Fault { at, expected: "a key, NOT or (" });
            }
            (Token::Word(key) | Token::Quoted(key), _) => self.comparison(key)?,
            (_, at) => return Err(Fault { at, expected: "a key, NOT or (" }),
        };
        self.depth -= 1;
        Ok(filter)
    }

    fn comparison(&mut self, key: String) -> Result<Filter, Fault> {
        match self.next_token()? {
            (Token::Equal, _) => Ok(Filter::In(key, vec![self.literal()?])),
            // True where the key is there with another value: an identity without the key is told apart by NOT.
            (Token::NotEqual, _) => {
                let equal = Filter::In(key.clone(), vec![self.literal()?]);
                Ok(Filter::And(vec![Filter::Has(key), Filter::Not(Box::new(equal))]))
            }
            (Token::Order(comparison), _) => Ok(Filter::Compare(key, comparison, self.literal()?)),
            (Token::Colon, _) => self.expect(&Token::Star, "*").map(|()| Filter::Has(key)),
            (Token::Word(word), _) if word == "IN" => {
                self.expect(&Token::Open, "(")?;
                let mut literals = vec![self.literal()?];
                loop {
                    match self.next_token()? {
                        (Token::Comma, _) => literals.push(self.literal()?),
                        (Token::Close, _) => return Ok(Filter::In(key, literals)),
                        (_, at) => return Err(Fault { at, expected: "a comma or )" }),
                    }
                }
            }
            (_, at) => Err(Fault { at, expected: "=, !=, <, <=, >, >=, IN or :*" }),
        }
    }

    fn literal(&mut self) -> Result<MetadataValue, Fault> {
        match self.next_token()? {
            (Token::Text(text), _) => Ok(MetadataValue::Text(text)),
            (Token::Number(number), _) => Ok(MetadataValue::Number(number)),
            (Token::Word(word), _) if word == "true" => Ok(MetadataValue::Flag(true)),
            (Token::Word(word), _) if word == "false" => Ok(MetadataValue::Flag(false)),
            (_, at) => Err(Fault { at, expected: "a \"text\", a number, true or false" }),
        }
    }

    fn expect(&mut self, wanted: &Token, expected: &'static str) -> Result<(), Fault> {
        let (token, at) = self.next_token()?;
        if token == *wanted { Ok(()) } else { Err(Fault { at, expected }) }
    }

    /// Takes the next word where it is this one.
    fn take_word(&mut self, wanted: &str) -> Result<bool, Fault> {
        let before = self.at;
        let taken = matches!(self.next_token()?, (Token::Word(word), _) if word == wanted);
        if !taken {
            self.at = before;
        }
        Ok(taken)
    }

    /// Returns the next token and where it begins.
    fn next_token(&mut self) -> Result<(Token, usize), Fault> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        let at = self.at + rest.len() - trimmed.len();
        let mut characters = trimmed.chars();
        let (token, length) = match (characters.next(), characters.next()) {
            (None, _) => (Token::End, 0),
            (Some('('), _) => (Token::Open, 1),
            (Some(')'), _) => (Token::Close, 1),
            (Some(','), _) => (Token::Comma, 1),
            (Some(':'), _) => (Token::Colon, 1),
            (Some('*'), _) => (Token::Star, 1),
            (Some('='), _) => (Token::Equal, 1),
            (Some('!'), Some('=')) => (Token::NotEqual, 2),
            (Some('<'), Some('=')) => (Token::Order(Comparison::AtMost), 2),
            (Some('<'), _) => (Token::Order(Comparison::Below), 1),
            (Some('>'), Some('=')) => (Token::Order(Comparison::AtLeast), 2),
            (Some('>'), _) => (Token::Order(Comparison::Above), 1),
            (Some('"'), _) => quoted(trimmed, '"')
                .map(|(text, length)| (Token::Text(text), length))
                .ok_or(Fault { at, expected: "the \" that ends this text" })?,
            (Some('`'), _) => quoted(trimmed, '`')
                .map(|(text, length)| (Token::Quoted(text), length))
                .ok_or(Fault { at, expected: "the ` that ends this key" })?,
            (Some(first), _) if first.is_ascii_digit() || "+-.".contains(first) => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                let length = trimmed.find(|c| !is_part(c)).unwrap_or(trimmed.len());
                let number = trimmed.get(..length).and_then(|text| text.parse::<f64>().ok());
                let number = number.filter(|number| number.is_finite());
                (Token::Number(number.ok_or(Fault { at, expected: "a finite number" })?), length)
            }
            (Some(first), _) if first.is_alphabetic() || first == '_' => {
                let is_part = |c: char| c.is_alphanumeric() || "_-.".contains(c);
                let length = trimmed.find(|c| !is_part(c)).unwrap_or(trimmed.len());
                (Token::Word(trimmed.get(..length).unwrap_or_default().to_owned()), length)
            }
            _ => return Err(Fault { at, expected: "a key, a literal or an operator" }),
        };
        self.at = at + length;
        Ok((token, at))
    }
}

/// Reads a text that begins with a quote up to the next one; returns it and how many bytes were read.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            end if end == quote => return Some((value, at + 1)),
            other => value.push(other),
        }
    }
    None
}

fn is_reserved(word: &str) -> bool {
    ["AND", "OR", "NOT", "IN"].contains(&word)
}

fn one_or(mut parts: Vec<Filter>, several: impl FnOnce(Vec<Filter>) -> Filter) -> Filter {
    match (parts.pop(), parts.is_empty()) {
        (Some(only), true) => only,
        (last, _) => several(parts.into_iter().chain(last).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Filter {
        Filter::parse("filter", text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn text(value: &str) -> MetadataValue {
        MetadataValue::Text(value.to_owned())
    }

    fn is(key: &str, value: MetadataValue) -> Filter {
        Filter::In(key.to_owned(), vec![value])
    }

    #[test]
    fn bad_filter_names_the_character() {
        let cases = [
            ("", 1, "a key, NOT or ("),
            ("a", 2, "=, !="),
            ("a = ", 5, "a \"text\""),
            ("a = b", 5, "a \"text\""),
            ("a = 1 b", 7, "AND, OR or the end"),
            ("a = 1 AND", 10, "a key"),
            ("(a = 1", 7, "AND, OR or )"),
            ("a = 1)", 6, "AND, OR or the end"),
            ("a = \"x", 5, "the \" that ends"),
            ("é = \"x", 5, "the \" that ends"),
            ("a IN 1", 6, "("),
            ("a IN (1 2)", 9, "a comma or )"),
            ("a : 1", 5, "*"),
            ("a ~ 1", 3, "a key, a literal or an operator"),
            ("a = 1e999", 5, "a finite number"),
            ("a = 1.2.3", 5, "a finite number"),
            ("AND = 1", 1, "a key, NOT or ("),
        ];
        for (filter, character, expected) in cases {
            let error = Filter::parse("filter", filter).expect_err(filter).to_string();
            assert!(
                error.contains(expected) && error.ends_with(&format!("at character {character}")),
                "{filter}: {error}"
            );
        }
        assert!(Filter::parse("filter", &"(".repeat(10_000)).is_err());
        assert!(Filter::parse("filter", &"NOT ".repeat(3_000)).is_err());
        assert!(Filter::parse("filter", &"a".repeat(BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn and_binds_tighter_than_or_and_not_tightest() {
        let (a, b, c) = (is("a", text("1")), is("b", MetadataValue::Number(-2.5)), is("c", MetadataValue::Flag(true)));
        let filter = "a = \"1\" OR b = -2.5 AND NOT c = true";
        let not_c = Filter::Not(Box::new(c.clone()));
        assert_eq!(parse(filter), Filter::Or(vec![a.clone(), Filter::And(vec![b.clone(), not_c])]));
        assert_eq!(parse("(a = \"1\" OR b = -2.5) AND c = true"), Filter::And(vec![Filter::Or(vec![a, b]), c]));
    }

    #[test]
    fn every_comparison_and_quoting_is_read() {
        assert_eq!(
            parse("k IN (\"x\", 2 , false)"),
            Filter::In("k".into(), vec![text("x"), MetadataValue::Number(2.0), MetadataValue::Flag(false)])
        );
        for (operator, comparison) in [
            ("<", Comparison::Below),
            ("<=", Comparison::AtMost),
            (">", Comparison::Above),
            (">=", Comparison::AtLeast),
        ] {
            let expected = Filter::Compare("k".into(), comparison, MetadataValue::Number(1.0));
            assert_eq!(parse(&format!("k{operator}1")), expected);
        }
        assert_eq!(parse("k:*"), Filter::Has("k".into()));
        assert_eq!(parse(r#"`a key` = "say \"hi\" \\""#), is("a key", text(r#"say "hi" \"#)));
        assert_eq!(parse("`NOT` = 1"), is("NOT", MetadataValue::Number(1.0)));
        let other = Filter::Not(Box::new(is("k", MetadataValue::Number(1.0))));
        assert_eq!(parse("k != 1"), Filter::And(vec![Filter::Has("k".into()), other]));
    }

    #[test]
    fn any_bytes_are_an_error_or_a_filter() {
        let pieces =
            ["a", "\"", "(", ")", "NOT", " ", "=", "1", "\\", "`", "é", "IN", ",", ":", "*", "<", "\u{0}", "AND"];
        let mut state = 12_345u64;
        for _ in 0..20_000 {
            let mut filter = String::new();
            for _ in 0..12 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                filter.push_str(pieces[(state >> 20) as usize % pieces.len()]);
            }
            drop(Filter::parse("filter", &filter));
        }
    }
}

//! The YAML of a header: its fields in their order, and where each of them stands.
//!
//! The library's own mapping refuses duplicate keys as a whole, and reports no places; so the mapping is visited here.
//! Values are read no deeper than needed: what is nested in a map is skipped.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

/// One `key: value` of the header.
pub(super) struct KeyValue {
    pub(super) key: String,
    pub(super) value: Value,
}

/// A value, as far as a header needs it.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Value>),
    Map,
    Tagged,
}

impl Value {
    /// What it is, for "must be …, not …".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map => "a map",
            Self::Tagged => "a value with a tag",
        }
    }
}

/// A place in the file: line and column from 1, the column in characters.
pub(super) type Position = (usize, usize);

#[derive(Clone, Copy)]
pub(super) enum KeyOrValue {
    Key,
    Value,
}

/// The fields in their order, duplicates included, or what is wrong and where.
pub(super) fn entries(yaml: &str) -> Result<Vec<KeyValue>, (Position, String)> {
    serde_yaml::Deserializer::from_str(yaml).deserialize_any(Top).map_err(|error| {
        let place = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        let mut why = without_place(&error.to_string()).to_owned();
        // What nearly always lies behind it: `title: Fix: the login`.
        if why.contains("mapping values are not allowed") {
            why.push_str(" (put a text that holds a colon in quotes)");
        }
        (place, why)
    })
}

/// Where the key or the value of the entry at `index` stands.
///
/// The library knows places only of errors, so the header is read once more and refused at what is looked for.
pub(super) fn position(yaml: &str, index: usize, what: KeyOrValue) -> Position {
    let refused =
        serde_yaml::Deserializer::from_str(yaml).deserialize_any(RefuseAt { index, what });
    let location = refused.err().and_then(|error| error.location());
    location.map_or((1, 1), |at| (at.line(), at.column()))
}

/// The library's message without " at line 3 column 5": we name the place ourselves.
fn without_place(message: &str) -> &str {
    let end = [" at line ", " at position "].iter().filter_map(|at| message.find(at)).min();
    &message[..end.unwrap_or(message.len())]
}

struct Top;

impl<'de> Visitor<'de> for Top {
    type Value = Vec<KeyValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`key: value` lines")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Self::Value, E> {
        // The default quotes the whole text.
        Err(E::custom("expected `key: value` lines, found text"))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        // A key is taken as it is written, `2024` too; a list or a map in its place stops the header.
        while let Some(key) = map.next_key()? {
            entries.push(KeyValue { key, value: map.next_value()? });
        }
        Ok(entries)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Map)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (IgnoredAny, value) = tagged.variant()?;
        value.newtype_variant::<IgnoredAny>()?;
        Ok(Value::Tagged)
    }
}

/// Skips `index` entries, and refuses the key or the value of the next one.
struct RefuseAt {
    index: usize,
    what: KeyOrValue,
}

impl<'de> Visitor<'de> for RefuseAt {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`key: value` lines")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        for _ in 0..self.index {
            map.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        match self.what {
            KeyOrValue::Key => map.next_key_seed(RefuseAny).map(drop),
            KeyOrValue::Value => {
                map.next_key::<IgnoredAny>()?;
                map.next_value_seed(RefuseAny)
            }
        }
    }
}

/// Accepts nothing: every default of a `Visitor` is an error, and the library adds the place.
struct RefuseAny;

impl<'de> DeserializeSeed<'de> for RefuseAny {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for RefuseAny {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

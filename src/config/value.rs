//! Deserializers for single keys of the file, which check the value's text, and for sections whose values have to fit
//! together.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::{
    Deserializer, Error, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer,
};

use super::scalar::{self, scalar};
use super::url::ServerUrl;

/// Deserializes a section and checks its values against each other. The error is raised inside the visitor, so that it
/// carries the section's position and path.
pub(super) fn checked<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    check: fn(&T) -> Result<(), String>,
) -> Result<T, D::Error> {
    struct Section<T>(fn(&T) -> Result<(), String>, PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Section<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("keys and values")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            let section = T::deserialize(MapAccessDeserializer::new(map))?;
            (self.0)(&section).map_err(A::Error::custom)?;
            Ok(section)
        }
    }

    deserializer.deserialize_map(Section(check, PhantomData))
}

/// Whether the key is there, with any value.
pub(super) fn is_given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Deserializers for single values: name, type, and the parser that checks the text.
macro_rules! values {
    ($($name:ident -> $type:ty = $parse:expr;)*) => {$(
        pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
            scalar(deserializer, $parse)
        }
    )*};
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

values! {
    prefix -> String = scalar::prefix;
    start_index -> u32 = |text| scalar::number(text, 0..=9999);
    max -> u32 = |text| scalar::number(text, 0..=256);
    switch -> bool = scalar::switch;
    name -> String = scalar::name;
    optional_name -> Option<String> = |text| scalar::name(text).map(Some);
    path -> PathBuf = scalar::path;
    optional_path -> Option<PathBuf> = |text| scalar::path(text).map(Some);
    prompt_timeout -> Duration = |text| scalar::duration(text, SECOND..=HOUR);
    cooldown -> Duration = |text| scalar::duration(text, Duration::ZERO..=HOUR * 168);
    stale_after -> Duration = |text| scalar::duration(text, SECOND * 60..=HOUR * 8760);
    max_attempts -> u32 = |text| scalar::number(text, 1..=100);
    model -> String = scalar::model;
    optional_model -> Option<String> = |text| scalar::model(text).map(Some);
    message -> String = scalar::message;
    shell -> OnceLock<PathBuf> = |text| scalar::program(text).map(OnceLock::from);
    reset_further_than -> Option<SignedDuration> = |text| {
        let duration = scalar::duration(text, Duration::ZERO..=HOUR * 168)?;
        SignedDuration::try_from(duration).map(Some).map_err(|error| error.to_string())
    };
    service_url -> Option<ServerUrl> = |text| ServerUrl::parse(text).map(Some);
}

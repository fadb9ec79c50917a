//! Where a number comes from.

use core::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// How far a number can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The maker's document, driver or configuration file.
    Vendor,
    /// Read from a device, by us or in a published report.
    Measured,
    /// Derived or guessed.
    Estimated,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Vendor => "vendor",
            Self::Measured => "measured",
            Self::Estimated => "estimated",
        })
    }
}

/// A number and its origin, in a file
/// `{ value = 30, origin = "vendor", source = "where it stands" }`.
///
/// All three keys are required and no other is allowed. The text of the source
/// is for the reader of the file: it is checked to be there and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    pub value: T,
    pub origin: Origin,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Sourced<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Entry<T> {
            value: T,
            origin: Origin,
            #[serde(rename = "source")]
            _source: SourceText,
        }
        let Entry { value, origin, .. } = Entry::deserialize(deserializer)?;
        Ok(Self { value, origin })
    }
}

/// Some text that is not blank.
struct SourceText;

impl<'de> Deserialize<'de> for SourceText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NotBlank;
        impl Visitor<'_> for NotBlank {
            type Value = SourceText;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the text of a source that is not blank")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SourceText, E> {
                if text.trim().is_empty() {
                    return Err(E::invalid_value(de::Unexpected::Str(text), &self));
                }
                Ok(SourceText)
            }
        }
        deserializer.deserialize_str(NotBlank)
    }
}

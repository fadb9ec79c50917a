//! f64 in JSON, bit for bit: each number as the 16 hexadecimal digits of its bits.
//!
//! Decimal text would depend on the reader rounding correctly, which serde_json
//! does only under a feature that would hold for the whole build.

/// For `#[serde(with = "exact::numbers")]` on a `Vec<f64>`: one string.
pub(super) mod numbers {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    const DIGITS: usize = 16;

    pub(in crate::search) fn serialize<S: Serializer>(numbers: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write;
        let mut text = String::with_capacity(numbers.len() * DIGITS);
        for number in numbers {
            // Writing to a String cannot fail.
            let _ = write!(text, "{:016x}", number.to_bits());
        }
        serializer.serialize_str(&text)
    }

    pub(in crate::search) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (chunks, rest) = text.as_bytes().as_chunks::<DIGITS>();
        if !rest.is_empty() {
            return Err(D::Error::custom("numbers are not a multiple of 16 digits long"));
        }
        let number = |digits: &[u8; DIGITS]| {
            let digits = std::str::from_utf8(digits).ok()?;
            u64::from_str_radix(digits, 16).ok().map(f64::from_bits)
        };
        let numbers: Option<Vec<f64>> = chunks.iter().map(number).collect();
        numbers.ok_or_else(|| D::Error::custom("a number is not 16 hexadecimal digits"))
    }
}

/// For `#[serde(with = "exact::number")]` on an `f64`.
pub(super) mod number {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub(in crate::search) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        super::numbers::serialize(&[*number], serializer)
    }

    pub(in crate::search) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match super::numbers::deserialize(deserializer)?.as_slice() {
            [number] => Ok(*number),
            numbers => Err(D::Error::custom(format!("{} numbers, expected one", numbers.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Both {
        #[serde(with = "super::number")]
        one: f64,
        #[serde(with = "super::numbers")]
        many: Vec<f64>,
    }

    proptest! {
        #[test]
        fn every_bit_pattern_comes_back(one: u64, many: Vec<u64>) {
            let both = Both { one: f64::from_bits(one), many: many.iter().copied().map(f64::from_bits).collect() };
            let text = serde_json::to_string(&both).expect("writes");
            let back: Both = serde_json::from_str(&text).expect("reads");
            prop_assert_eq!(back.one.to_bits(), one);
            prop_assert_eq!(back.many.iter().map(|number| number.to_bits()).collect::<Vec<u64>>(), many);
        }
    }

    #[test]
    fn refuses_what_is_not_hexadecimal() {
        for text in ["3ff", "3ff000000000000g", "é3ff00000000000"] {
            let json = format!(r#"{{"one": "3ff0000000000000", "many": "{text}"}}"#);
            assert!(serde_json::from_str::<Both>(&json).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Both>(r#"{"one": "", "many": ""}"#).is_err());
    }
}

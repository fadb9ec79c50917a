//! What an error says together with what caused it.

use std::error::Error;

/// What caused `error`, nearest first. A layer that only repeats a part of the one above adds no fact and is left out.
#[must_use]
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !said.contains(&text) {
            causes.push(text.clone());
        }
        said = text;
        source = cause.source();
    }
    causes
}

/// The error and its [`causes`], separated by colons.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut texts = causes(error);
    texts.insert(0, error.to_string());
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn chain(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().expect("a text");
        Layer { text, source: (!rest.is_empty()).then(|| Box::new(chain(rest))) }
    }

    #[test]
    fn only_causes_that_add_a_fact_are_said() {
        assert_eq!(causes(&chain(&["alone"])), [""; 0]);
        assert_eq!(causes(&chain(&["cannot read: gone", "gone", "no disk"])), ["no disk"]);
        assert_eq!(with_causes(&chain(&["refused", "damaged", "no disk"])), "refused: damaged: no disk");
    }
}

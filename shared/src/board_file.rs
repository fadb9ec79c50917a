//! Reads `board.toml`. The schema is [`BoardProfile`] itself; `boards/README.md`
//! explains it to people.

use std::string::{String, ToString};

use crate::board::{BoardError, BoardProfile};

/// Why a text is not a board profile.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BoardFileError {
    /// Not TOML, or a key is unknown, missing or of another type. The message
    /// quotes the line and names what was expected and found.
    #[error("board profile: {message}")]
    Form { message: String },
    /// The form is right and the content is not.
    #[error("board profile: {0}")]
    Content(#[from] BoardError),
}

/// Reads and validates the text of a `board.toml`.
///
/// # Errors
/// If it is not a valid profile.
pub fn parse(text: &str) -> Result<BoardProfile, BoardFileError> {
    let profile: BoardProfile =
        toml::from_str(text).map_err(|error| BoardFileError::Form { message: error.to_string() })?;
    profile.validate()?;
    Ok(profile)
}

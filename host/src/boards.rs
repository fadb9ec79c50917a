//! The boards that `--target` knows: every folder of `boards/` in the
//! repository, built into the program.

use headroom_shared::BoardProfile;
use headroom_shared::board_file;

/// Name and `board.toml` of each board, sorted by name. A test compares the
/// list with the folder.
const BOARDS: [(&str, &str); 7] = [
    ("jetson-orin", include_str!("../../boards/jetson-orin/board.toml")),
    ("jetson-orin-nano", include_str!("../../boards/jetson-orin-nano/board.toml")),
    ("jetson-orin-nx", include_str!("../../boards/jetson-orin-nx/board.toml")),
    ("jetson-thor", include_str!("../../boards/jetson-thor/board.toml")),
    ("nucleo-h743zi", include_str!("../../boards/nucleo-h743zi/board.toml")),
    ("qemu-mps2-an500", include_str!("../../boards/qemu-mps2-an500/board.toml")),
    ("rp2350", include_str!("../../boards/rp2350/board.toml")),
];

/// A board of the list.
pub struct Board {
    /// The name that users type.
    pub name: &'static str,
    /// The text of its `board.toml`, as it goes into the bundle.
    pub text: &'static str,
    /// What the text says.
    pub profile: BoardProfile,
}

/// No board has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown target `{name}`; known: {}", names().join(", "))]
pub struct UnknownBoard {
    /// What was asked for.
    pub name: String,
}

/// The names of all boards.
#[must_use]
pub fn names() -> Vec<&'static str> {
    BOARDS.iter().map(|(name, _)| *name).collect()
}

/// The board of that name.
///
/// # Errors
/// If there is none; the error lists the known ones.
///
/// # Panics
/// Never with the built-in boards: a test parses each of them.
pub fn find(name: &str) -> Result<Board, UnknownBoard> {
    let &(name, text) =
        BOARDS.iter().find(|(known, _)| *known == name).ok_or_else(|| UnknownBoard { name: name.to_owned() })?;
    let profile = board_file::parse(text).expect("every built-in board is tested");
    Ok(Board { name, text, profile })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_folder_is_built_in_and_valid() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../boards");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("board.toml").is_file())
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        found.sort();
        assert_eq!(found, names());
        for name in names() {
            assert_eq!(find(name).unwrap().name, name);
        }
    }

    #[test]
    fn an_unknown_board_lists_the_known_ones() {
        let text = find("toaster").err().unwrap().to_string();
        assert!(text.contains("toaster") && text.contains("jetson-orin-nano"), "{text}");
    }
}

//! Fake trees of `/sys`, `/var` and `/etc`, one file a board, for tests and benches of any package.
//!
//! A line `[folder]` opens a folder, `name = content` writes a file of one line
//! (`\n` and `\0` stand for themselves), `name -> target` links. The content
//! `<does not answer>` makes a folder of that name: to read it is an error
//! (EISDIR) for every user, like the EAGAIN of a sensor that is switched off.
#![allow(dead_code, reason = "each test and bench that includes this file uses a part of it")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The boards that have a tree.
pub const BOARDS: [&str; 7] = [
    "jetson-agx-orin",
    "jetson-agx-thor",
    "jetson-orin-nano-r35",
    "jetson-orin-nano-r36",
    "jetson-r32-rails",
    "raspberry-pi",
    "x86-laptop",
];

/// A tree that lives as long as this value, to be passed as root.
#[derive(Debug)]
pub struct FakeTree {
    folder: TempDir,
}

impl FakeTree {
    /// No files.
    #[must_use]
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("temporary folders can be made") }
    }

    /// The files of one of [`BOARDS`].
    #[must_use]
    pub fn of(board: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/trees").join(board).with_extension("tree");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let tree = Self::empty();
        let mut folder = String::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                folder = name.to_owned();
            } else if let Some((name, target)) = line.split_once(" -> ") {
                let link = tree.parent(&format!("{folder}/{name}"));
                symlink(target, link).expect("links can be made");
            } else {
                let (name, content) = line.split_once(" = ").unwrap_or_else(|| panic!("{}: `{line}`", file.display()));
                let path = format!("{folder}/{name}");
                if content == "<does not answer>" {
                    tree.silence(&path);
                } else {
                    tree.write(&path, format!("{}\n", content.replace("\\n", "\n").replace("\\0", "\0")));
                }
            }
        }
        tree
    }

    /// The parent of `sys`, `var` and `etc`.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, in place where it is there.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::write(self.parent(path), content).expect("the tree can be written");
    }

    /// Takes a file or folder away.
    pub fn remove(&self, path: &str) {
        let path = self.root().join(path);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Makes that reading `path` is an error from now on.
    pub fn silence(&self, path: &str) {
        if self.root().join(path).exists() {
            self.remove(path);
        }
        fs::create_dir(self.parent(path)).expect("the tree can be written");
    }

    /// Gives a file or folder another name.
    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.root().join(from), self.root().join(to)).expect("the tree can be written");
    }

    /// The full path, with the folder that it lies in made.
    fn parent(&self, path: &str) -> PathBuf {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("a path under the root")).expect("the tree can be written");
        path
    }
}

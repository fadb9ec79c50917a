//! Whole-system tests: the real programs on real files.
//!
//! This library finds what the tests need; the tests are in `tests/`.
//! References that are not part of the repository are found through
//! `HEADROOM_FIXTURES`, `HEADROOM_MODELS` and `HEADROOM_DATA`; a test that
//! needs one of them and does not find it prints a line with `SKIPPED`.

#[path = "../trees/mod.rs"]
pub mod trees;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use headroom_device::model::Description;
use headroom_shared::KeptStructures;

/// A model with everything kept, whose blocks merge as many tokens each.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// The model.
    pub description: &'a Description,
    /// Tokens that each block merges into others.
    pub merged: usize,
}

impl KeptStructures for Whole<'_> {
    fn heads(&self, _block: usize) -> usize {
        self.description.heads
    }

    fn head(&self, _block: usize, index: usize) -> usize {
        index
    }

    fn neurons(&self, _block: usize) -> usize {
        self.description.neurons
    }

    fn merged_tokens(&self, _block: usize) -> usize {
        self.merged
    }
}

/// A folder of references outside the repository.
#[derive(Clone, Copy, Debug)]
pub enum Reference {
    /// Golden model outputs: one folder a case.
    Fixtures,
    /// Really trained models.
    Models,
    /// Real images.
    Data,
}

impl Reference {
    fn variable(self) -> &'static str {
        match self {
            Self::Fixtures => "HEADROOM_FIXTURES",
            Self::Models => "HEADROOM_MODELS",
            Self::Data => "HEADROOM_DATA",
        }
    }

    /// The folder; `None`, with a visible line, where it is absent.
    #[must_use]
    pub fn folder(self, test: &str) -> Option<PathBuf> {
        let name = format!("{self:?}").to_lowercase();
        let folder = std::env::var_os(self.variable())
            .map_or_else(|| repository().join("../shared").join(name), |path| repository().join(path));
        if folder.is_dir() {
            return Some(folder);
        }
        say_skipped(&format!("{test}: no folder {} (set {})", folder.display(), self.variable()));
        None
    }
}

/// Says what was not tested. Straight to stderr: the test runner hides what
/// the print macros of a passing test say.
pub fn say_skipped(what: &str) {
    // Where stderr is closed, nobody is there to be told.
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}");
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The case folders of the fixtures, sorted; empty, with a visible line, where there are none.
#[must_use]
pub fn fixture_cases(test: &str) -> Vec<PathBuf> {
    let Some(folder) = Reference::Fixtures.folder(test) else { return Vec::new() };
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the fixtures folder can be listed")
        .map(|entry| entry.expect("the fixtures folder can be listed").path())
        .filter(|path| path.join("META.json").is_file())
        .collect();
    cases.sort();
    cases
}

/// The name of a case folder.
#[must_use]
pub fn case_name(case: &Path) -> String {
    case.file_name().expect("a case folder has a name").to_string_lossy().into_owned()
}

/// Largest difference over largest value, as the fixtures' README defines it.
///
/// # Panics
/// If the lengths differ or a value is not finite.
#[must_use]
pub fn relative_difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|value| value.is_finite()));
    let largest = expected.iter().fold(0f64, |largest, value| largest.max(f64::from(value.abs())));
    let difference = found.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    difference / largest
}

/// A command that runs the program `name` of this workspace, built as these tests were.
#[must_use]
pub fn program(name: &str) -> Command {
    let path = program_folder().join(name);
    assert!(path.is_file(), "{} was not built", path.display());
    Command::new(path)
}

/// Builds the programs once, because `cargo test` alone does not build those of other packages.
fn program_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    // With an example, cargo gives dependencies the features that tests give them, and builds none a second time.
    FOLDER.get_or_init(|| built(&["build", "--bins", "--example", "runtime"]))
}

/// The folder of `libheadroom_device.so` and `.a`, built once by the command that `device/src/c_abi` documents.
#[must_use]
pub fn c_libraries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let package = ["rustc", "--package=headroom-device", "--lib", "--no-default-features", "--features=c-abi"];
        built(&[&package[..], &["--crate-type=cdylib,staticlib"]].concat())
    })
}

/// Runs cargo with these words, in the profile and the target folder that the running test was built in, and returns
/// where the results are.
fn built(words: &[&str]) -> PathBuf {
    // Tests run as TARGET/PROFILE/deps/NAME.
    let test = std::env::current_exe().expect("the test knows its own path");
    let folder = test.ancestors().nth(2).expect("tests run from deps/").to_path_buf();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(repository()).args(words).args(["--quiet", "--target-dir"]);
    cargo.arg(folder.parent().expect("the profile's folder is in the target folder"));
    match folder.file_name().and_then(|profile| profile.to_str()) {
        Some("debug") => {}
        Some(profile) => {
            cargo.args(["--profile", profile]);
        }
        None => panic!("{} is no profile folder", folder.display()),
    }
    assert!(cargo.status().expect("cargo runs").success(), "{words:?} does not build");
    folder
}

/// What a program did.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its results.
    pub stdout: String,
    /// Its progress and errors.
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started or prints something else than UTF-8.
#[must_use]
pub fn ended(command: &mut Command) -> Ended {
    let output = command.output().expect("the program starts");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("results are UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
    }
}

/// Runs a command that must succeed and returns its results.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn succeeds(command: &mut Command) -> String {
    let ended = ended(command);
    assert_eq!(ended.code, Some(0), "{command:?} failed:\n{}", ended.stderr);
    ended.stdout
}

/// Runs a command that must be refused with exit code 1, without a panic, and
/// with all of `expected` in its message.
///
/// # Panics
/// If it is not.
pub fn is_refused(command: &mut Command, expected: &[&str]) {
    let ended = ended(command);
    assert_eq!(ended.code, Some(1), "{command:?} was not refused:\n{}\n{}", ended.stdout, ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    for text in expected {
        assert!(ended.stderr.contains(text), "expected `{text}` in:\n{}", ended.stderr);
    }
}

/// Whether a program refused a model because it is of no supported family.
#[must_use]
pub fn is_unsupported(ended: &Ended) -> bool {
    ended.code == Some(1) && ended.stderr.contains("unsupported model: ")
}

/// `host-prune` with a job small enough for a test, on the demo model.
#[must_use]
pub fn small_job(out: &Path) -> Command {
    let mut command = program("host-prune");
    command.args(["--target", "jetson-orin", "--images-limit", "6", "--evaluations", "3", "--rungs", "5", "--quiet"]);
    command.arg("--out").arg(out);
    command
}

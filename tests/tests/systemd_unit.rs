//! The unit with which systemd starts the service: valid, hardened, and of one mind with the board profiles.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use headroom_shared::board_file;
use headroom_tests::{ended, program, repository, say_skipped, succeeds};
use tempfile::TempDir;

/// The most that `systemd-analyze security` may say of the unit, in tenths: 0 is shut off, 100 is wide open.
const EXPOSURE: &str = "20";

fn unit() -> String {
    fs::read_to_string(repository().join("device/systemd/headroom.service")).unwrap()
}

/// The value of a key that the unit sets once, continued lines joined.
fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("the unit has no {key}"));
    assert_eq!(values.next(), None, "{key} is set twice");
    value
}

fn joined_unit() -> String {
    unit().replace("\\\n", " ")
}

/// The unit in a folder of its own, with a program that is there.
fn unit_that_can_be_checked() -> (TempDir, PathBuf) {
    let unit = joined_unit();
    let program = value(&unit, "ExecStart").split_whitespace().next().unwrap();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("headroom.service");
    fs::write(&path, unit.replace(program, "/bin/true")).unwrap();
    (home, path)
}

/// Runs `systemd-analyze` with these words on the unit; `None`, with a visible line, where it cannot.
fn analysed(test: &str, words: &[&str]) -> Option<(Option<i32>, String)> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        say_skipped(&format!("{test}: no systemd-analyze"));
        return None;
    }
    let (_home, path) = unit_that_can_be_checked();
    let analysis = ended(Command::new("systemd-analyze").args(words).arg(&path));
    if analysis.stderr.contains("unrecognized option") {
        say_skipped(&format!("{test}: this systemd-analyze has no {words:?}"));
        return None;
    }
    Some((analysis.code, format!("{}{}", analysis.stdout, analysis.stderr)))
}

#[test]
fn systemd_finds_no_fault_in_the_unit() {
    let Some((code, said)) = analysed("systemd_finds_no_fault_in_the_unit", &["verify"]) else { return };
    assert_eq!(code, Some(0), "{said}");
    // Unknown keys are warnings only.
    assert!(!said.contains("headroom.service"), "{said}");
}

#[test]
fn the_service_is_shut_off_from_what_it_does_not_need() {
    let words = ["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE];
    let Some((code, said)) = analysed("the_service_is_shut_off_from_what_it_does_not_need", &words) else { return };
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn the_command_line_and_its_paths_are_those_of_the_program_and_of_every_board() {
    let unit = joined_unit();
    let words: Vec<&str> = value(&unit, "ExecStart").split_whitespace().collect();
    let argument = |flag: &str| {
        let place = words.iter().position(|word| *word == flag).unwrap_or_else(|| panic!("no {flag}"));
        Path::new(words[place + 1])
    };
    let help = succeeds(program("device-run").arg("--help"));
    for flag in words.iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(flag), "device-run has no {flag}");
    }
    let mut boards = 0;
    for entry in fs::read_dir(repository().join("boards")).unwrap() {
        let path = entry.unwrap().path().join("board.toml");
        if !path.is_file() {
            continue;
        }
        let board = board_file::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        // Boards without an operating system have no service either.
        let Some(folders) = board.deployment.ssh() else { continue };
        assert_eq!(Path::new(words[0]).parent(), Some(Path::new(folders.programs.as_str())), "{path:?}");
        assert!(argument("--bundle").starts_with(folders.bundles.as_str()), "{path:?}");
        boards += 1;
    }
    assert!(boards >= 2, "only {boards} boards were compared");
    // What is written, or offered, lies where the unit allows it.
    let [runtime, logs] = ["RuntimeDirectory", "LogsDirectory"].map(|key| value(&unit, key));
    assert!(argument("--socket").starts_with(Path::new("/run").join(runtime)));
    assert!(argument("--flight-record").starts_with(Path::new("/var/log").join(logs)));
}

//! Inputs that end: raw frames on stdin, and images.

use std::io::Write;
use std::process::{Command, Stdio};

use headroom_device::images::SyntheticFrames;
use headroom_tests::{Ended, is_refused, succeeds};
use serde_json::Value;

use crate::server::Home;

/// Runs `command` with `bytes` as its stdin.
fn with_stdin(command: &mut Command, bytes: &[u8]) -> Ended {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A program that has ended reads no more.
        scope.spawn(move || drop(stdin.write_all(bytes)));
        let output = child.wait_with_output().unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    })
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

#[test]
fn raw_frames_are_answered_in_order() {
    let home = Home::new();
    let frames: Vec<u8> = (0..30u8).flat_map(|frame| [frame * 8; 12 * 10 * 3]).collect();
    let ended = with_stdin(home.command().args(["--stdin-rgb", "12x10"]), &frames);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines = lines(&ended.stdout);
    assert_eq!(lines.len(), 30);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["version"], 1);
        assert_eq!(line["input"], format!("stdin:{number}"));
        assert_eq!(line["rung"], 0);
        assert_eq!(line["classes"].as_array().unwrap().len(), 3);
        assert!(line["milliseconds"].as_f64().unwrap() > 0.0 && line["queued_milliseconds"].is_number());
    }
    assert_ne!(lines[0]["classes"], lines[20]["classes"]);
}

#[test]
fn half_a_frame_at_the_end_is_reported_after_the_whole_ones() {
    let home = Home::new();
    let ended = with_stdin(home.command().args(["--stdin-rgb", "12x10", "--embedding"]), &[7; 12 * 10 * 3 * 3 + 100]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("inside frame 3: 100 of 360 bytes"), "{}", ended.stderr);
    let lines = lines(&ended.stdout);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["embedding"].as_array().unwrap().len(), 16);
}

#[test]
fn a_camera_on_stdin_loses_frames_and_not_their_answers() {
    let home = Home::new();
    let frames = vec![50; 320 * 240 * 3 * 20];
    let ended = with_stdin(home.command().args(["--stdin-rgb", "320x240", "--when-full", "drop-oldest"]), &frames);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines = lines(&ended.stdout);
    assert_eq!(lines.len(), 20);
    let newest = lines.iter().find(|line| line["input"] == "stdin:19").unwrap();
    assert!(newest["rung"].is_number(), "the newest is never dropped");
}

#[test]
fn nobody_reading_the_results_ends_the_program() {
    let home = Home::new();
    let mut command = home.command();
    let mut child = command
        .args(["--stdin-rgb", "1x1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    // Until the program ends, and with it the pipe; it need not see the end of its input for that.
    let ended = (0..10_000_000).any(|_| stdin.write_all(&[1; 300]).is_err());
    assert!(ended);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn images_are_served_as_without_a_service() {
    let home = Home::new();
    let folder = home.path("images");
    std::fs::create_dir(&folder).unwrap();
    is_refused(home.command().arg(&folder), &["holds no readable image"]);
    SyntheticFrames::new(0, 10, 12).frame(0).save(folder.join("a.png")).unwrap();
    std::fs::write(folder.join("b.png"), "this is no photograph").unwrap();
    let served = lines(&succeeds(home.command().arg(&folder).arg("--embedding")));
    let mut plain = headroom_tests::program("device-run");
    plain.arg("--bundle").arg(home.path("bundle")).arg(&folder).arg("--embedding");
    let plain = lines(&succeeds(&mut plain));
    assert_eq!((served.len(), plain.len()), (1, 1));
    assert_eq!(served[0]["embedding"], plain[0]["embedding"]);
}

#[test]
fn options_that_make_no_sense_are_wrong_usage() {
    let home = Home::new();
    for wrong in [
        &["--stdin-rgb", "640"][..],
        &["--when-full", "never", "--stdin-rgb", "1x1"],
        &["--clients", "0"],
        &["--stdin-rgb", "1x1", "--rung", "1"],
        &[],
    ] {
        let ended = headroom_tests::ended(home.command().args(wrong));
        assert_eq!(ended.code, Some(2), "{wrong:?}: {}", ended.stderr);
    }
}

//! Bundles, limits and the flight record while serving.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use headroom_shared::wire::{Request, WhenFull};
use headroom_tests::{program, succeeds};

use crate::random_bundle;
use crate::random_model::Choices;
use crate::server::{Client, Home, Received};

/// What the client's frame `id` is answered with: bundle and rung.
pub fn served(client: &Client, id: u64) -> ([u8; 32], u8) {
    client.infer(id);
    match client.receive() {
        Received::Result { id: found, bundle, rung, .. } => {
            assert_eq!(found, id);
            (bundle, rung)
        }
        other => panic!("{other:?}"),
    }
}

/// A home whose bundle is a link, as a deployment switches it.
pub fn linked() -> Home {
    let home = Home::new();
    fs::rename(home.path("bundle"), home.path("first")).unwrap();
    symlink(home.path("first"), home.path("bundle")).unwrap();
    home
}

pub fn point_to(home: &Home, name: &str) {
    symlink(home.path(name), home.path("next")).unwrap();
    fs::rename(home.path("next"), home.path("bundle")).unwrap();
}

#[test]
fn a_switched_link_is_served_after_sighup_without_losing_a_request() {
    let home = linked();
    home.write_bundle("second", &random_bundle::tiny(), 2);
    let mut server = home.serve(home.command());
    let client = server.client(WhenFull::Wait, 1);
    let (first, _) = served(&client, 0);
    point_to(&home, "second");
    server.signal("-HUP");
    // Requests go on all the time; each is answered, by the one or by the other.
    let switched = (1..1_000_000).find(|id| served(&client, *id).0 != first);
    assert!(switched.is_some());
    server.wait_for_log("reload: bundle");
    server.stop();
}

#[test]
fn a_bundle_of_another_image_size_serves_the_same_clients() {
    let home = linked();
    home.write_bundle("second", &Choices::vit(3, 4, 16, 2, 2, 32), 2);
    let server = home.serve(home.command());
    let client = server.client(WhenFull::Wait, 4);
    assert_eq!(client.model.width, 8);
    point_to(&home, "second");
    (0..4).for_each(|id| client.infer(id));
    client.send(&Request::Reload { id: 100 });
    let mut answers = Vec::new();
    while answers.len() < 5 {
        answers.push(client.receive());
    }
    assert!(answers.iter().any(|answer| matches!(answer, Received::Done { id: 100, text } if text.contains("serves"))));
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Received::Result { .. })).count(), 4);
    assert_eq!(server.client(WhenFull::Wait, 1).model.width, 12);
    assert_ne!(served(&client, 5).0, client.model.bundle);
    server.stop();
}

#[test]
fn a_corrupted_bundle_is_refused_and_the_old_one_goes_on() {
    let home = linked();
    home.write_bundle("second", &random_bundle::tiny(), 2);
    let weights = home.path("second/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let mut server = home.serve(home.command());
    let client = server.client(WhenFull::Wait, 1);
    let before = served(&client, 1);
    point_to(&home, "second");
    client.send(&Request::Reload { id: 2 });
    let Received::Failed { id: 2, text } = client.receive() else { panic!("a failure") };
    assert!(text.contains("model.safetensors") && text.contains("old bundle goes on"), "{text}");
    assert_eq!(served(&client, 3), before);
    server.wait_for_log("reload refused");
    // A link to nowhere, too.
    point_to(&home, "third");
    client.send(&Request::Reload { id: 4 });
    assert!(matches!(client.receive(), Received::Failed { id: 4, .. }));
    assert_eq!(served(&client, 5), before);
    server.stop();
}

#[test]
fn an_unsigned_bundle_is_refused_where_there_is_a_trust_policy_and_the_old_one_goes_on() {
    let home = linked();
    home.write_bundle("second", &random_bundle::tiny(), 2);
    let _ = succeeds(program("host-flash").args(["keygen", "--out"]).arg(home.path("key")));
    let sign = |name: &str, release: &str| {
        let mut command = program("host-flash");
        command.args(["sign", "--release", release, "--key"]).arg(home.path("key"));
        let _ = succeeds(command.arg("--bundle").arg(home.path(name)));
    };
    sign("first", "2");
    let public = fs::read_to_string(home.path("key.pub")).unwrap();
    let (board, state) = ("jetson-orin-nano", home.path("minimum-release.toml"));
    let key = format!("[[key]]\nname = \"ours\"\npublic_key = \"\"\"\n{public}\"\"\"\n");
    let policy = format!("version = 1\nboard = {board:?}\nminimum_release_file = {state:?}\n");
    fs::write(home.path("trust.toml"), format!("{policy}minimum_release = {{ {board} = 2 }}\n{key}")).unwrap();
    fs::set_permissions(home.path("trust.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = home.command();
    command.arg("--trust").arg(home.path("trust.toml"));
    let mut server = home.serve(command);
    let client = server.client(WhenFull::Wait, 1);
    let before = served(&client, 1);
    point_to(&home, "second");
    client.send(&Request::Reload { id: 2 });
    let Received::Failed { id: 2, text } = client.receive() else { panic!("a failure") };
    assert!(text.contains("not signed") && text.contains("old bundle goes on"), "{text}");
    assert_eq!(served(&client, 3), before);
    server.wait_for_log("not signed");
    // Signed, and of a release before the first that is accepted.
    sign("second", "1");
    server.signal("-HUP");
    assert!(server.wait_for_log("reload refused: cannot open the bundle").contains("release 1"));
    assert_eq!(served(&client, 4), before);
    sign("second", "2");
    client.send(&Request::Reload { id: 5 });
    assert!(matches!(client.receive(), Received::Done { id: 5, .. }));
    assert_ne!(served(&client, 6), before);
    server.stop();
}

#[test]
fn sighup_reads_the_limits_again_and_bad_ones_change_nothing() {
    let home = Home::of_milliseconds();
    let limits = home.path("limits.toml");
    fs::write(&limits, "").unwrap();
    let mut command = home.command();
    command.arg("--limits").arg(&limits);
    let mut server = home.serve(command);
    let client = server.client(WhenFull::Wait, 1);
    assert_eq!(served(&client, 1).1, 0);
    // Shorter than anything takes: a rung that was timed as the fastest is the best that there is. On a busy machine it
    // need not be the last one.
    fs::write(&limits, "deadline_milliseconds = 0.0001").unwrap();
    server.signal("-HUP");
    server.wait_for_log("limits were read");
    assert!(served(&client, 2).1 > 0);
    for bad in ["deadline_milliseconds = -1", "deadline = 5", "[[[", "minimum_fidelity = 7"] {
        fs::write(&limits, bad).unwrap();
        server.signal("-HUP");
        let line = server.wait_for_log("reload refused");
        assert!(line.contains("the old limits hold"), "{line}");
    }
    assert!(served(&client, 3).1 > 0);
    server.stop();
}

#[test]
fn the_flight_record_is_written_on_sigusr1() {
    let home = Home::new();
    let record = home.path("record.jsonl");
    let mut command = home.command();
    command.arg("--flight-record").arg(&record);
    let mut server = home.serve(command);
    let client = server.client(WhenFull::Wait, 1);
    served(&client, 1);
    server.signal("-USR1");
    server.wait_for_log("wrote the flight record");
    let text = fs::read_to_string(&record).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["version"], 1);
    assert!(lines[1..].iter().any(|line| line["event"] == "decision"), "{text}");
    server.stop();
}

#[test]
fn a_full_disk_is_said_and_does_no_harm() {
    let home = Home::new();
    let record = home.path("record.jsonl");
    let mut command = home.command();
    command.arg("--flight-record").arg(&record);
    // A limit on file sizes fails writes, as a full disk does.
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "bash"]);
    limited.arg(command.get_program()).args(command.get_args());
    let mut server = home.serve(limited);
    let client = server.client(WhenFull::Wait, 1);
    client.send(&Request::DumpFlightRecord { id: 3 });
    let Received::Failed { id: 3, text } = client.receive() else { panic!("a failure") };
    assert!(text.contains("record.jsonl") && text.contains("large"), "{text}");
    server.wait_for_log("cannot write the flight record");
    served(&client, 4);
    server.stop();
    assert!(!record.exists());
    let left = fs::read_dir(home.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["bundle", "socket.lock"]);
}

//! What an installation leaves on the device.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use headroom_host::flash::device::Device;
use headroom_host::flash::transport::Transport;
use headroom_host::flash::{FlashError, Outcome};
use headroom_host::progress::Silent;
use headroom_tests::{is_refused, program, say_skipped, succeeds};

use crate::device::{Behaviour, FakeDevice, GOOD, Source, board, job};
use crate::local_shell::LocalShell;

/// Installs by a transport.
pub fn install(device: &FakeDevice, transport: &dyn Transport, source: &Source) -> Result<Outcome, FlashError> {
    let (board, root, system) = (board(), device.root_text(), device.system_text());
    let job = job(&board, &root, &system);
    job.install(&Device::new(transport, &root), &source.release(), false, &Silent, &mut Vec::new())
}

pub fn roll_back(device: &FakeDevice, transport: &dyn Transport) -> Result<Outcome, FlashError> {
    let (board, root, system) = (board(), device.root_text(), device.system_text());
    job(&board, &root, &system).roll_back(&Device::new(transport, &root), &Silent)
}

fn sent(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Activated { sent_bytes, .. } => *sent_bytes,
        _ => panic!("{outcome:?}"),
    }
}

#[test]
fn releases_stand_side_by_side_and_share_what_is_equal() {
    let device = FakeDevice::new();
    let (old, new) = (Source::new("old", GOOD), Source::new("new", GOOD));
    let first = install(&device, &LocalShell::new(&device), &old).unwrap();
    assert_eq!(sent(&first), old.release().size());
    assert_eq!(device.active(), old.release().hash);

    let second = install(&device, &LocalShell::new(&device), &new).unwrap();
    assert!(sent(&second) < sent(&first), "parts that are there are not sent again");
    assert_eq!(device.active(), new.release().hash);
    assert_eq!(device.names("releases").len(), 2);
    let inode = |source: &Source, path: &str| {
        fs::metadata(device.root().join("releases").join(source.release().hash).join(path)).unwrap().ino()
    };
    assert_eq!(inode(&old, "bundle/board.toml"), inode(&new, "bundle/board.toml"));
    assert_ne!(inode(&old, "bundle/model.safetensors"), inode(&new, "bundle/model.safetensors"));

    let again = install(&device, &LocalShell::new(&device), &new).unwrap();
    assert_eq!(again, Outcome::Unchanged { release: new.release().hash });
    for leftover in ["lock", "pending", "current.new", "lock.new"] {
        assert!(!device.has(leftover), "{leftover}");
    }
    assert!(device.names("staging").is_empty() && device.names("incoming").is_empty());
    assert!(!device.path("state/pwned").exists() && !device.has("pwned"), "no name was run as a command");
}

#[test]
fn rollback_goes_back_and_forth() {
    let device = FakeDevice::new();
    assert!(matches!(roll_back(&device, &LocalShell::new(&device)), Err(FlashError::NothingBefore)));
    let (old, new) = (Source::new("old", GOOD), Source::new("new", GOOD));
    install(&device, &LocalShell::new(&device), &old).unwrap();
    install(&device, &LocalShell::new(&device), &new).unwrap();
    for expected in [&old, &new, &old] {
        roll_back(&device, &LocalShell::new(&device)).unwrap();
        assert_eq!(device.active(), expected.release().hash);
    }
}

#[test]
fn old_releases_are_removed_but_never_the_active_one_or_the_one_before() {
    let device = FakeDevice::new();
    let sources: Vec<Source> = ["1", "2", "3", "4"].iter().map(|name| Source::new(name, GOOD)).collect();
    for source in &sources {
        install(&device, &LocalShell::new(&device), source).unwrap();
    }
    let mut expected = [sources[2].release().hash, sources[3].release().hash];
    expected.sort();
    assert_eq!(device.names("releases"), expected);
    let used: Vec<String> = sources[2..].iter().flat_map(|source| source.release().objects).map(|o| o.sha256).collect();
    assert!(device.names("objects").iter().all(|object| used.contains(object)), "objects of no release are gone");
}

#[test]
fn a_release_that_is_not_healthy_is_rolled_back() {
    let device = FakeDevice::new();
    let old = Source::new("old", GOOD);
    install(&device, &LocalShell::new(&device), &old).unwrap();
    for (name, behaviour, reason) in [
        ("crash", Behaviour { serve: "exit 1", ..GOOD }, "does not start"),
        ("wrong", Behaviour { infer: "echo no inference >&2; exit 7", ..GOOD }, "failed with code 7"),
    ] {
        let error = install(&device, &LocalShell::new(&device), &Source::new(name, behaviour)).unwrap_err();
        assert!(matches!(&error, FlashError::RolledBack { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(device.active(), old.release().hash);
        assert!(device.path("state/running").exists(), "the old release serves again");
        assert!(!device.has("pending") && !device.has("lock"));
    }
    let hint = install(
        &device,
        &LocalShell::new(&device),
        &Source::new("wrong", Behaviour { infer: "echo no inference; exit 7", ..GOOD }),
    );
    assert!(hint.unwrap_err().hint().unwrap().contains("no inference"));
}

#[test]
fn a_health_check_that_hangs_is_ended_and_rolled_back() {
    let device = FakeDevice::new();
    let old = Source::new("old", GOOD);
    install(&device, &LocalShell::new(&device), &old).unwrap();
    let hanging = Source::new("hanging", Behaviour { infer: "sleep 1000", ..GOOD });
    let (board, root, system) = (board(), device.root_text(), device.system_text());
    let mut job = job(&board, &root, &system);
    job.health.limit_seconds = 1;
    let shell = LocalShell::new(&device);
    let result = job.install(&Device::new(&shell, &root), &hanging.release(), false, &Silent, &mut Vec::new());
    let error = result.unwrap_err();
    assert!(error.to_string().contains("did not end within 1 s"), "{error}");
    assert_eq!(device.active(), old.release().hash);
}

#[test]
fn a_unit_that_stops_by_itself_is_rolled_back() {
    let device = FakeDevice::new();
    let old = Source::new("old", GOOD);
    install(&device, &LocalShell::new(&device), &old).unwrap();
    // It starts, and systemd starts it again and again: another process each time.
    device.tool(
        "systemctl",
        &fs::read_to_string(device.path("tools/systemctl"))
            .unwrap()
            .replace(
                r#"*MainPID*) read -r pid <"$state/pid" && echo "$pid" ;;"#,
                r#"*MainPID*) read -r pid <"$state/pid"; case $(readlink "$FAKE_ROOT/current") in
            *OLD) echo "$pid" ;; *) echo $((pid + 1)) | tee "$state/pid" ;; esac ;;"#,
            )
            .replace("OLD", &old.release().hash),
    );
    let error = install(&device, &LocalShell::new(&device), &Source::new("new", GOOD)).unwrap_err();
    assert!(error.to_string().contains("does not keep running"), "{error}");
    assert_eq!(device.active(), old.release().hash);
}

#[test]
fn a_first_release_that_is_not_healthy_leaves_none_active() {
    let device = FakeDevice::new();
    let error = install(&device, &LocalShell::new(&device), &Source::new("bad", Behaviour { infer: "exit 1", ..GOOD }));
    assert!(matches!(error, Err(FlashError::Deactivated { .. })), "{error:?}");
    assert!(!device.has("current") && !device.has("pending") && !device.path("state/running").exists());
    install(&device, &LocalShell::new(&device), &Source::new("good", GOOD)).unwrap();
}

#[test]
fn a_program_that_does_not_start_on_the_device_changes_nothing() {
    let device = FakeDevice::new();
    let old = Source::new("old", GOOD);
    install(&device, &LocalShell::new(&device), &old).unwrap();
    let restarts = fs::read(device.path("state/pid")).unwrap();
    let broken =
        Source::new("broken", Behaviour { version: "echo 'libcudart.so.12: not found' >&2; exit 127", ..GOOD });
    let error = install(&device, &LocalShell::new(&device), &broken).unwrap_err();
    assert!(matches!(&error, FlashError::NotRunnable { message } if message.contains("libcudart")), "{error}");
    assert_eq!(device.active(), old.release().hash);
    assert_eq!(fs::read(device.path("state/pid")).unwrap(), restarts, "the unit was not restarted");
}

#[test]
fn a_transfer_goes_on_where_it_was_cut() {
    let device = FakeDevice::new();
    let source = Source::new("new", GOOD);
    let release = source.release();
    let object = release.objects.iter().find(|object| object.size > 8).unwrap();
    fs::create_dir_all(device.root().join("incoming")).unwrap();
    let part = device.root().join("incoming").join(&object.sha256);
    let mut beginning = vec![0; 5];
    std::io::Read::read_exact(&mut object.open(0).unwrap(), &mut beginning).unwrap();
    fs::write(&part, &beginning).unwrap();
    let outcome = install(&device, &LocalShell::new(&device), &source).unwrap();
    assert_eq!(sent(&outcome), release.size() - 5);
    assert_eq!(device.active(), release.hash);

    // A beginning that is not the object's is found out, and sent anew.
    let device = FakeDevice::new();
    fs::create_dir_all(device.root().join("incoming")).unwrap();
    fs::write(device.root().join("incoming").join(&object.sha256), "rot").unwrap();
    install(&device, &LocalShell::new(&device), &source).unwrap();
    assert_eq!(device.active(), release.hash);
}

#[test]
fn rotten_files_are_mended_while_the_release_stays_active() {
    let device = FakeDevice::new();
    let source = Source::new("new", GOOD);
    install(&device, &LocalShell::new(&device), &source).unwrap();
    let release = device.root().join("releases").join(source.release().hash);
    // The object is the same file: both have rotted.
    fs::write(release.join("bundle/model.safetensors"), "weights of naw").unwrap();
    // Something has to be missing for the device to be looked at again.
    fs::remove_file(device.root().join("objects").join(&source.release().objects[0].sha256)).unwrap();
    install(&device, &LocalShell::new(&device), &source).unwrap();
    assert_eq!(device.active(), source.release().hash);
}

#[test]
fn busybox_is_enough() {
    let busybox = Command::new("busybox").arg("true").status();
    if !busybox.is_ok_and(|status| status.success()) {
        say_skipped("busybox_is_enough: no busybox on this machine");
        return;
    }
    let device = FakeDevice::new();
    // Every tool that the scripts name is busybox's.
    let tools = "cat chmod cp date df head id ln ls mkdir mv readlink rm sed sha256sum sleep sync tail timeout tr wc";
    for tool in tools.split(' ') {
        device.tool(tool, &format!("#!/bin/sh\nexec busybox {tool} \"$@\"\n"));
    }
    let shell: &[&str] = &["busybox", "sh"];
    let (old, new) = (Source::new("old", GOOD), Source::new("new", Behaviour { infer: "exit 1", ..GOOD }));
    install(&device, &LocalShell::with(&device, shell), &old).unwrap();
    assert!(matches!(install(&device, &LocalShell::with(&device, shell), &new), Err(FlashError::RolledBack { .. })));
    assert_eq!(device.active(), old.release().hash);
}

#[test]
fn the_setup_is_printed_to_be_read() {
    let home = tempfile::tempdir().unwrap();
    let unit = home.path().join("headroom.service");
    fs::write(&unit, "[Service]\nExecStart=/opt/headroom/bin/device-run\n").unwrap();
    let mut command = program("host-flash");
    let script = succeeds(command.args(["--target", "jetson-orin", "--print-setup", "--unit-file"]).arg(&unit));
    assert!(script.starts_with("#!/bin/sh\n") && script.contains("ExecStart=/opt/headroom/bin/device-run"), "{script}");
    let checked = Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
    assert!(checked.success(), "{script}");
    let mut command = program("host-flash");
    command.args(["--target", "jetson-orin", "--print-setup", "--unit-file", "no such file"]);
    is_refused(&mut command, &["cannot read `no such file`"]);
}

//! The whole program against a real server.

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use headroom_host::flash::child::Held;
use headroom_host::flash::ssh::Ssh;
use headroom_host::flash::transport::{Call, Output, Transport, TransportError};
use headroom_tests::{ended, is_refused, program, succeeds};
use serde_json::Value;

use crate::device::{Behaviour, FakeDevice, GOOD, Source};
use crate::installation::install;
use crate::local_shell::LocalShell;
use crate::server::Server;

/// `host-flash` for these servers, without a task.
fn to(servers: &[&Server], device: &FakeDevice) -> Command {
    let mut command = program("host-flash");
    command.args(["--target", "jetson-orin", "--steady", "0", "--health-limit", "20", "--quiet"]);
    for server in servers {
        command.args(["--to", &server.destination()]);
    }
    command.arg("--ssh-config").arg(servers[0].config());
    command.args(["--root", &device.root_text(), "--system-root", &device.system_text()]);
    command
}

fn installing(server: &Server, device: &FakeDevice, source: &Source) -> Command {
    let mut command = to(&[server], device);
    command.arg("--bundle").arg(source.bundle()).arg("--runtime").arg(source.runtime());
    command
}

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&succeeds(command.arg("--json"))).unwrap()
}

#[test]
fn the_sensors_are_probed_before_a_release_counts_as_healthy() {
    let device = FakeDevice::new();
    let test = "the_sensors_are_probed_before_a_release_counts_as_healthy";
    let Some(server) = Server::start(test, &device) else { return };
    let (old, new) = (Source::new("old", GOOD), Source::new("new", Behaviour { probe: "exit 3", ..GOOD }));
    let _ = succeeds(&mut installing(&server, &device, &old));
    is_refused(&mut installing(&server, &device, &new), &["the health check failed with code 3"]);
    assert_eq!(device.active(), old.release().hash, "the release before is active again");
}

#[test]
fn the_program_installs_tells_and_rolls_back() {
    let device = FakeDevice::new();
    let Some(server) = Server::start("the_program_installs_tells_and_rolls_back", &device) else { return };
    let (old, new) = (Source::new("old", GOOD), Source::new("new", GOOD));
    let (old_hash, new_hash) = (old.release().hash, new.release().hash);

    let planned = json(installing(&server, &device, &old).arg("--dry-run"));
    assert_eq!((&planned["version"], &planned["hosts"][0]["outcome"]), (&1.into(), &"planned".into()));
    assert!(!device.has("objects"), "a dry run changes nothing");

    let installed = json(&mut installing(&server, &device, &old));
    assert_eq!(installed["hosts"][0]["outcome"], "activated");
    assert_eq!(device.active(), old_hash);
    let text = succeeds(&mut installing(&server, &device, &new));
    assert!(text.contains("activated") && text.contains(&new_hash[..12]) && text.contains(&old_hash[..12]), "{text}");
    assert_eq!(json(&mut installing(&server, &device, &new))["hosts"][0]["outcome"], "unchanged");

    let status = json(to(&[&server], &device).arg("--status"));
    let host = &status["hosts"][0];
    assert_eq!((&host["active"], &host["previous"]), (&new_hash.as_str().into(), &old_hash.as_str().into()));
    assert_eq!((&host["unproven"], &host["unit"]), (&false.into(), &"active".into()));
    assert_eq!(host["releases"].as_array().unwrap().len(), 2);
    let list = succeeds(to(&[&server], &device).arg("--list"));
    assert!(list.contains("model old") && list.contains("model new"), "{list}");

    let rolled_back = json(to(&[&server], &device).arg("--rollback"));
    assert_eq!(rolled_back["hosts"][0]["release"], old_hash.as_str());
    assert_eq!(device.active(), old_hash);

    let bad = Source::new("bad", Behaviour { infer: "exit 1", ..GOOD });
    is_refused(&mut installing(&server, &device, &bad), &["failed with code 1; the release before is active again"]);
    assert_eq!(device.active(), old_hash);
}

#[test]
fn several_devices_are_served_at_once_and_one_that_fails_hinders_none() {
    let devices = [FakeDevice::new(), FakeDevice::new()];
    let test = "several_devices_are_served_at_once_and_one_that_fails_hinders_none";
    let Some(first) = Server::start(test, &devices[0]) else { return };
    let source = Source::new("new", GOOD);
    let mut command = installing(&first, &devices[0], &source);
    // Nobody listens there.
    command.args(["--to", "device:1", "--json"]);
    let ended = ended(&mut command);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["hosts"][0]["outcome"], "activated", "{report}");
    assert_eq!(report["hosts"][1]["outcome"], "failed");
    assert!(report["hosts"][1]["causes"][0].as_str().unwrap().contains("cannot be reached"), "{report}");
    assert_eq!(devices[0].active(), source.release().hash);
}

#[test]
fn ssh_refusals_say_what_to_do() {
    let device = FakeDevice::new();
    let Some(server) = Server::start("ssh_refusals_say_what_to_do", &device) else { return };
    let with = |config: &Path| {
        let mut command = to(&[&server], &device);
        command.arg("--status").arg("--ssh-config").arg(config);
        command
    };
    let expect = |command: &mut Command, parts: &[&str]| {
        let ended = ended(command);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "expected `{part}` in:\n{}", ended.stderr);
        }
    };
    let changed = server.write_client_config("changed", "user_key", "other_host_key", "");
    expect(&mut with(&changed), &["the host key has changed", "ssh-keygen -R"]);
    let stranger = server.write_client_config("stranger", "other_user_key", "host_key", "BatchMode yes");
    expect(&mut with(&stranger), &["the login was refused", "Permission denied"]);
    // A password is asked for, and a wrong one is typed.
    let guest = server.write_client_config("guest", "other_user_key", "host_key", "NumberOfPasswordPrompts 1");
    device.tool("askpass", "#!/bin/sh\necho wrong\n");
    let askpass = device.path("tools/askpass");
    expect(with(&guest).env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force"), &["the login was refused"]);
    let mut nowhere = program("host-flash");
    nowhere.args(["--target", "jetson-orin", "--status", "--quiet", "--to", "host.invalid"]);
    expect(&mut nowhere, &["cannot be resolved"]);
}

/// A transport that has the server killed before or while a call runs. The
/// calls before that one take the short way, through the shell of this machine,
/// but for the lock, which lives as long as the connection.
struct Killed<'a> {
    local: LocalShell<'a>,
    ssh: &'a Ssh,
    server: &'a Server,
    /// The call at which to kill, from 1 on.
    at: u32,
    /// So long after the call began; `None` is before it.
    after: Option<Duration>,
    calls: AtomicU32,
}

impl Killed<'_> {
    fn around<T>(&self, number: u32, call: impl FnOnce() -> T) -> T {
        if number != self.at {
            return call();
        }
        let Some(after) = self.after else {
            self.server.kill_connections();
            return call();
        };
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(after);
                self.server.kill_connections();
            });
            call()
        })
    }

    fn number(&self) -> u32 {
        self.calls.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl Transport for Killed<'_> {
    fn run(&self, call: &Call<'_>, input: &mut dyn Read) -> Result<Output, TransportError> {
        let number = self.number();
        if number < self.at { self.local.run(call, input) } else { self.around(number, || self.ssh.run(call, input)) }
    }

    fn hold(&self, call: &Call<'_>) -> Result<Held, TransportError> {
        self.around(self.number(), || self.ssh.hold(call))
    }
}

/// Waits until nothing that a cut connection has left runs on the device.
fn settle(device: &FakeDevice) {
    let begun = Instant::now();
    while device.has("lock") && begun.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn whenever_the_server_is_killed_a_whole_release_is_active() {
    let (old, new) = (Source::new("old", GOOD), Source::new("new", GOOD));
    let allowed = [old.release().hash, new.release().hash];
    let base = FakeDevice::new();
    install(&base, &LocalShell::new(&base), &old).unwrap();
    let Some(server) = Server::start("whenever_the_server_is_killed_a_whole_release_is_active", &base) else { return };
    let mut kills = 0;
    for after in [None, Some(Duration::from_millis(8))] {
        for at in 1.. {
            let device = base.copy();
            server.serve(&device);
            let ssh = Ssh::connect(&server.destination().parse().unwrap(), Some(server.config())).unwrap();
            let local = LocalShell::new(&device);
            let killed = Killed { local, ssh: &ssh, server: &server, at, after, calls: AtomicU32::new(0) };
            let result = install(&device, &killed, &new);
            let calls = killed.number() - 1;
            settle(&device);
            let active = device.active();
            assert!(allowed.contains(&active), "call {at}, {after:?}");
            if calls < at {
                assert_eq!(active, allowed[1]);
                break;
            }
            kills += 1;
            if result.is_err() {
                install(&device, &LocalShell::new(&device), &new).unwrap();
                assert_eq!(device.active(), allowed[1], "call {at}, {after:?}, then again");
                assert!(!device.has("pending"));
            }
        }
    }
    println!("{kills} kills of the server");
    assert!(kills > 20, "{kills}");
}

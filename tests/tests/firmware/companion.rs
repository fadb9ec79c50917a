//! Companion mode: `device-run` with the firmware as its supervisor, over a pseudo-terminal.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use headroom_shared::wire::WhenFull;
use headroom_tests::say_skipped;

use crate::server::{Client, Home, PATIENCE, Received};
use crate::trees::FakeTree;

/// A board without an image: what supervises needs none.
struct Supervisor {
    child: Child,
    /// UART 1, which stands for the thermometer.
    thermometer: ChildStdin,
}

impl Supervisor {
    /// Starts the board, whose serial line is then at `port`.
    fn start(firmware: &Path, port: &Path) -> Self {
        let mut command = Command::new("qemu-system-arm");
        command.args(["-cpu", "cortex-m7", "-machine", "mps2-an500", "-display", "none", "-monitor", "none"]);
        command.args(["-serial", "pty", "-serial", "stdio", "-kernel"]).arg(firmware);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("QEMU starts");
        let thermometer = child.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let terminal = line.split(' ').find(|word| word.starts_with("/dev/")).expect("QEMU names its terminal");
        let link = port.with_extension("new");
        symlink(terminal, &link).unwrap();
        fs::rename(link, port).unwrap();
        Self { child, thermometer }
    }

    fn is_warm(&mut self, millidegrees: i32) {
        writeln!(self.thermometer, "{millidegrees}").unwrap();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In an emergency the rung that was timed fastest when the service started, which on a busy machine need not be the last.
const SMALLER: RangeInclusive<u8> = 1..=3;

/// Infers until one of `rungs` runs.
fn runs(client: &Client, rungs: RangeInclusive<u8>, why: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        client.infer(1);
        match client.receive() {
            Received::Result { rung: found, .. } if rungs.contains(&found) => return,
            Received::Result { rung: found, .. } => {
                assert!(Instant::now() < end, "{why}: rung {found}, expected one of {rungs:?}");
            }
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_firmware_s_temperature_moves_the_rung_of_device_run_and_its_end_does_not() {
    let Some(firmware) = std::env::var_os("HEADROOM_FIRMWARE").map(PathBuf::from) else {
        return say_skipped("companion mode: HEADROOM_FIRMWARE names no firmware; `.ci/firmware` builds it");
    };
    let home = Home::of_milliseconds();
    // A device without any sensor: what it knows of heat it has from the supervisor.
    let tree = FakeTree::empty();
    let (port, limits) = (home.path("port"), home.path("limits.toml"));
    let limits_text = "supervisor_temperature_target_celsius = 60\nsupervisor_temperature_passive_celsius = 70\n\
                       supervisor_temperature_critical_celsius = 85";
    fs::write(&limits, limits_text).unwrap();
    let mut supervisor = Supervisor::start(&firmware, &port);
    let mut command = home.command();
    command.arg("--root").arg(tree.root()).arg("--limits").arg(&limits).arg("--supervisor").arg(&port);
    let mut server = home.serve(command);
    let client = server.client(WhenFull::Wait, 1);
    server.wait_for_log("supervisor: qemu-mps2-an500 decides too");
    runs(&client, 0..=0, "it is cool");
    supervisor.is_warm(82_000);
    runs(&client, SMALLER, "above the middle between passive and critical");

    drop(supervisor);
    server.wait_for_log("the own governor decides alone");
    runs(&client, 0..=0, "the device itself knows of no heat");

    let mut supervisor = Supervisor::start(&firmware, &port);
    supervisor.is_warm(82_000);
    runs(&client, SMALLER, "an emergency counts at once");
    server.wait_for_log("decides too");
    let log = server.stop();
    assert!(!log.contains("refuses"), "{log}");
}

//! `--supervisor` with a scripted microcontroller at the other end of the line, a pseudo-terminal.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use headroom_shared::TimeSpan;
use headroom_shared::wire::companion::{MAX_COMPANION_REPORT_BYTES, VERSION};
use headroom_shared::wire::serial::{SerialRequest, stuff};
use headroom_shared::wire::{CompanionReport, CompanionRequest, Envelope, ErrorKind, Request, Response, WhenFull};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::server::{Client, Home, PATIENCE, Received};

/// The microcontroller's end of the line. Dropping it is pulling the plug.
struct Peer {
    line: File,
    bytes: Vec<u8>,
    /// Of the last hello.
    latencies: Vec<TimeSpan>,
    passive_millidegrees: Option<i32>,
}

/// What came over the line.
#[derive(Debug, PartialEq)]
enum Heard {
    Hello { session: u32 },
    Telemetry { session: u32, inferences: u32 },
}

impl Peer {
    /// Plugs in: the port is at `path`.
    fn plug(path: &Path) -> Self {
        let line = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&line).unwrap();
        unlockpt(&line).unwrap();
        let port = PathBuf::from(std::ffi::OsStr::from_bytes(ptsname(&line, Vec::new()).unwrap().as_bytes()));
        let link = path.with_extension("new");
        symlink(port, &link).unwrap();
        fs::rename(link, path).unwrap();
        Self { line: line.into(), bytes: Vec::new(), latencies: Vec::new(), passive_millidegrees: None }
    }

    fn hear(&mut self) -> Heard {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(length) = self.bytes.iter().position(|byte| *byte == 0) {
                let mut frame: Vec<u8> = self.bytes.drain(..=length).collect();
                frame.pop();
                if !frame.is_empty() {
                    return self.heard(&mut frame);
                }
                continue;
            }
            let mut some = [0; 512];
            match self.line.read(&mut some) {
                Ok(bytes) => self.bytes.extend_from_slice(&some[..bytes]),
                // Nobody has opened the port.
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            assert!(Instant::now() < end, "nothing comes over the line");
        }
    }

    fn heard(&mut self, frame: &mut [u8]) -> Heard {
        let SerialRequest::Companion(envelope) = SerialRequest::read(frame).unwrap() else { panic!("no companion's") };
        match CompanionRequest::read(envelope).unwrap() {
            CompanionRequest::Hello { session, rungs, limits, .. } => {
                self.latencies = rungs.iter().map(|rung| rung.latency).collect();
                self.passive_millidegrees = limits.temperature.map(|limits| limits.passive.as_millidegrees());
                Heard::Hello { session }
            }
            CompanionRequest::Telemetry { session, inferences, .. } => Heard::Telemetry { session, inferences },
            other => panic!("{other:?}"),
        }
    }

    fn hear_hello(&mut self) -> u32 {
        loop {
            if let Heard::Hello { session } = self.hear() {
                return session;
            }
        }
    }

    /// Answers hellos, with so many decisions each, until the program goes by them, and returns the session.
    fn supervise(&mut self, decisions: u32, rung: u8) -> u32 {
        let mut answered = None;
        loop {
            match self.hear() {
                Heard::Hello { session } => {
                    self.accept(session);
                    (1..=decisions).for_each(|number| self.decide(session, number, rung, LONG));
                    answered = Some(session);
                }
                // Telemetry begins with the first decision.
                Heard::Telemetry { session, .. } if answered == Some(session) => return session,
                Heard::Telemetry { .. } => {}
            }
        }
    }

    fn say(&mut self, response: &Response<'_>) {
        let mut frame = [0; 2 * MAX_COMPANION_REPORT_BYTES];
        let bytes = stuff(response, &mut frame).unwrap();
        self.line.write_all(bytes).unwrap();
    }

    fn report(&mut self, report: &CompanionReport<'_>) {
        let mut message = [0; MAX_COMPANION_REPORT_BYTES];
        self.say(&Response::Companion(Envelope::seal(report, &mut message).unwrap()));
    }

    fn accept(&mut self, session: u32) {
        let (version, board) = (VERSION, "scripted");
        let accepted =
            CompanionReport::Accepted { version, session, board, watches_temperature: true, watches_power: false };
        self.report(&accepted);
    }

    fn decide(&mut self, session: u32, number: u32, rung: u8, valid: Duration) {
        self.report(&CompanionReport::Decision {
            session,
            number,
            rung,
            pace: TimeSpan::from_nanoseconds(0),
            binding: "temperature",
            mode: "normal",
            valid: valid.into(),
            temperature: None,
            power: None,
        });
    }
}

fn supervised(home: &Home) -> Command {
    let mut command = home.command();
    command.arg("--supervisor").arg(home.path("port")).arg("--flight-record").arg(home.path("record.jsonl"));
    command
}

/// Infers until `rung` runs: what was logged or sent a moment ago is in effect a moment later.
fn runs(client: &Client, rung: u8) {
    let end = Instant::now() + PATIENCE;
    loop {
        client.infer(1);
        match client.receive() {
            Received::Result { rung: found, .. } if found == rung => return,
            Received::Result { rung: found, .. } => assert!(Instant::now() < end, "rung {found}, expected {rung}"),
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

const LONG: Duration = Duration::from_secs(9);

#[test]
fn a_supervisor_moves_the_rung_and_what_it_cannot_keep_up_goes_back_to_the_own_governor() {
    let home = Home::new();
    let port = home.path("port");
    fs::write(
        home.path("limits.toml"),
        "supervisor_temperature_target_celsius = 60\nsupervisor_temperature_passive_celsius = 70\n\
         supervisor_temperature_critical_celsius = 85",
    )
    .unwrap();
    let mut peer = Peer::plug(&port);
    let mut command = supervised(&home);
    command.arg("--limits").arg(home.path("limits.toml"));
    let mut server = home.serve(command);
    let client = server.client(WhenFull::Wait, 1);
    runs(&client, 0);
    let session = peer.supervise(1, 3);
    assert_eq!((peer.latencies.len(), peer.passive_millidegrees), (4, Some(70_000)));
    assert!(peer.latencies.iter().all(|latency| latency.as_nanoseconds() > 0));
    server.wait_for_log("supervisor: scripted decides too");
    runs(&client, 3);
    client.send(&Request::Status { id: 5 });
    let Received::Status { rung: 3, binding, .. } = client.receive() else { panic!("a status at rung 3") };
    assert_eq!(binding, "supervisor: temperature");
    // What ran is told.
    let mut inferences = 0;
    while inferences == 0 {
        let Heard::Telemetry { session: of, inferences: ran } = peer.hear() else { panic!("telemetry") };
        assert_eq!(of, session);
        inferences = ran;
        client.infer(1);
        client.receive();
    }
    // Noise, and what is old, change nothing; what is new does.
    peer.line.write_all(&[1, 2, 3, 0, 0, 255, 254, 0]).unwrap();
    peer.decide(session, 1, 0, LONG);
    peer.decide(session.wrapping_sub(1), 9, 0, LONG);
    peer.decide(session, 2, 2, LONG);
    runs(&client, 2);

    // Silence: the last decision is valid for a moment only.
    peer.decide(session, 3, 3, Duration::from_millis(1));
    server.wait_for_log("supervisor: silent; the own governor decides alone");
    runs(&client, 0);
    // It is back, and used again once that is sure.
    let session = peer.supervise(2, 3);
    runs(&client, 0);
    peer.decide(session, 3, 3, LONG);
    server.wait_for_log("decides too");
    runs(&client, 3);

    // The plug is pulled, and put in again.
    drop(peer);
    let line = server.wait_for_log("is gone");
    assert!(line.contains("the own governor decides alone"), "{line}");
    runs(&client, 0);
    let mut peer = Peer::plug(&port);
    peer.supervise(6, 1);
    runs(&client, 1);

    server.signal("-USR1");
    server.wait_for_log("wrote the flight record");
    let text = fs::read_to_string(home.path("record.jsonl")).unwrap();
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let links = events.iter().filter(|event| event["event"] == "supervisor").map(|event| event["link"].clone());
    let links: Vec<_> = links.filter(|link| link == "in_use" || link == "silent" || link == "closed").collect();
    let expected =
        ["closed", "silent", "in_use", "silent", "in_use", "closed", "silent", "in_use"].map(serde_json::Value::from);
    assert_eq!(links, expected, "{text}");
    assert!(events.iter().any(|event| event["decider"] == "supervisor" && event["rung"] == 3), "{text}");
    server.stop();
}

#[test]
fn a_supervisor_of_another_version_is_told_and_not_used() {
    let home = Home::new();
    let mut peer = Peer::plug(&home.path("port"));
    let mut server = home.serve(supervised(&home));
    let session = peer.hear_hello();
    let text = "the client speaks version 1, this server version 2";
    peer.say(&Response::Error { kind: ErrorKind::Version, text });
    let line = server.wait_for_log("it refuses");
    assert!(line.contains(text), "{line}");
    peer.decide(session, 1, 3, LONG);
    let client = server.client(WhenFull::Wait, 1);
    (0..20).for_each(|_| runs(&client, 0));
    server.stop();
}

#[test]
fn a_port_that_is_not_there_yet_keeps_nobody_waiting_and_a_file_is_none() {
    let home = Home::new();
    let mut server = home.serve(supervised(&home));
    let line = server.wait_for_log("cannot open the serial port");
    assert!(line.contains("the own governor decides alone"), "{line}");
    runs(&server.client(WhenFull::Wait, 1), 0);
    let mut peer = Peer::plug(&home.path("port"));
    peer.hear_hello();
    server.stop();
    fs::write(home.path("file"), "").unwrap();
    let mut command = home.command();
    command.arg("--socket").arg(home.path("other")).arg("--supervisor").arg(home.path("file"));
    headroom_tests::is_refused(&mut command, &["file", "is no serial port"]);
}

//! Starting twice, and ending under load.

use std::os::unix::fs::PermissionsExt;

use headroom_shared::wire::{RefusalReason, Request, WhenFull};
use headroom_tests::is_refused;

use crate::server::{Home, Received, connect};

#[test]
fn sigterm_under_load_answers_or_refuses_every_accepted_request() {
    const FRAMES: u64 = 50;
    // Most of them still wait when the signal comes.
    let home = Home::of_milliseconds();
    let mut command = home.command();
    command.args(["--workers", "2", "--queue", "1000"]);
    let server = home.serve(command);
    let clients: Vec<_> = (0..4).map(|_| server.client(WhenFull::Wait, 60)).collect();
    let mut answered = Vec::new();
    for client in &clients {
        for id in 0..FRAMES {
            client.infer(id);
        }
        // Requests are read in order: where this one is answered, all before it are accepted.
        client.send(&Request::Status { id: FRAMES });
        let mut results = 0;
        while matches!(client.receive(), Received::Result { .. }) {
            results += 1;
        }
        answered.push(results);
    }
    server.signal("-TERM");
    let mut refused = 0;
    for (client, mut answered) in clients.iter().zip(answered) {
        loop {
            match client.receive() {
                Received::Result { .. } => answered += 1,
                Received::Refused { reason: RefusalReason::ShuttingDown, .. } => {
                    answered += 1;
                    refused += 1;
                }
                Received::Error { text } => assert!(text.contains("shutting down"), "{text}"),
                Received::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(answered, FRAMES);
    }
    assert!(refused > 0, "the signal came too late to test anything");
    let socket = server.socket().to_path_buf();
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(!socket.exists(), "the socket is left behind");
}

#[test]
fn a_second_instance_on_a_socket_is_refused_and_the_first_goes_on() {
    let home = Home::new();
    let server = home.serve(home.command());
    let mode = std::fs::metadata(server.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "others may not connect");
    is_refused(home.command().arg("--socket").arg(server.socket()), &["another device-run serves", "--socket"]);
    let client = server.client(WhenFull::Wait, 1);
    client.infer(1);
    assert!(matches!(client.receive(), Received::Result { .. }));
    server.stop();
}

#[test]
fn the_socket_of_a_crashed_instance_is_taken_over() {
    let home = Home::new();
    let server = home.serve(home.command());
    let socket = server.socket().to_path_buf();
    server.signal("-KILL");
    assert_eq!(server.wait().0, None);
    assert!(socket.exists(), "a killed program cleans nothing up");
    let server = home.serve(home.command());
    let _ = connect(server.socket());
    server.stop();
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let home = Home::new();
    is_refused(home.command().arg("--socket").arg(home.path("no/socket")), &["no/socket", "cause"]);
    is_refused(home.command().arg("--socket").arg(home.path("bundle/model.json")), &["is no socket"]);
    is_refused(home.command().arg("--socket").arg(home.path("s")).args(["--metrics", "0.0.0.0:1"]), &["loopback"]);
    is_refused(
        home.command().arg("--socket").arg(home.path("s")).arg("--limits").arg(home.path("none.toml")),
        &["none.toml"],
    );
    std::fs::write(home.path("bundle/model.safetensors"), "changed").unwrap();
    is_refused(home.command().arg("--socket").arg(home.path("s")), &["cannot open the bundle", "model.safetensors"]);
    assert!(!home.path("s").exists());
}

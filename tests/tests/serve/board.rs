//! A bundle on its board, and on a machine that is not.

use headroom_shared::wire::{Request, WhenFull};

use crate::server::{Home, Received};
use crate::trees::FakeTree;

/// The tests run on no Jetson, or on one that is not the Orin Nano with a ladder of made-up milliseconds.
#[test]
fn a_bundle_for_another_board_warns_and_runs_with_what_is_measured() {
    let home = Home::new();
    // The ladder predicts 4 ms for the dense rung; the model takes microseconds.
    std::fs::write(home.path("limits.toml"), "deadline_milliseconds = 3.0").unwrap();
    let mut command = home.command();
    command.arg("--limits").arg(home.path("limits.toml"));
    let server = home.serve(command);
    let client = server.client(WhenFull::Wait, 1);
    client.infer(1);
    let Received::Result { rung, .. } = client.receive() else { panic!("a result") };
    assert_eq!(rung, 0, "the predicted latency was used");
    let log = server.stop();
    assert!(log.contains("warning: the bundle is for jetson-orin-nano"), "{log}");
    assert!(log.contains("on this machine"), "{log}");
}

/// What an inference takes on this machine is only known once it was measured here.
#[test]
fn a_limit_on_energy_that_nobody_has_measured_is_refused() {
    let home = Home::new();
    std::fs::write(home.path("limits.toml"), "energy_millijoules = 5.0").unwrap();
    let mut command = home.command();
    command.arg("--socket").arg(home.path("socket")).arg("--limits").arg(home.path("limits.toml"));
    headroom_tests::is_refused(&mut command, &["energy", "not known", "--calibrate"]);
}

#[test]
fn a_bundle_on_its_own_board_knows_sensors_and_energy() {
    let home = Home::new();
    let tree = FakeTree::of("jetson-orin-nano-r36");
    std::fs::write(home.path("limits.toml"), "energy_millijoules = 1000.0").unwrap();
    let mut command = home.command();
    command.arg("--root").arg(tree.root()).arg("--limits").arg(home.path("limits.toml"));
    let server = home.serve(command);
    let client = server.client(WhenFull::Wait, 1);
    // The first pass over the sensors may still be under way.
    let knows_temperature = (0..1000).any(|id| {
        client.send(&Request::Status { id });
        let Received::Status { mode, temperature, .. } = client.receive() else { panic!("a status") };
        assert_eq!(mode, "normal");
        std::thread::sleep(std::time::Duration::from_millis(2));
        temperature.is_some()
    });
    assert!(knows_temperature, "the board's zones are not read");
    client.infer(2);
    assert!(matches!(client.receive(), Received::Result { .. }));
    assert!(!server.stop().contains("warning: the bundle is for"));
}

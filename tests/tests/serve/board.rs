//! A bundle on a machine that is not its board.

use headroom_shared::wire::WhenFull;

use crate::server::{Home, Received};

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

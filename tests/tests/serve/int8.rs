//! Serving in eight-bit integers.

use std::ops::RangeInclusive;
use std::process::Command;

use headroom_device::images::SyntheticFrames;
use headroom_shared::wire::{Outputs, Request, WhenFull};
use headroom_tests::{is_refused, program, succeeds};
use serde_json::Value;

use crate::random_bundle::{tiny, write, write_with_integer_model, write_with_integer_neurons};
use crate::reload::{linked, point_to, served};
use crate::server::{Client, Home, Received};

const FRAMES: u64 = 3;

fn serving(home: &Home) -> Command {
    let mut command = home.command();
    command.args(["--precision", "int8"]);
    command
}

/// What `device-run` computes of some frames without serving.
fn embeddings(home: &Home, precision: &str, rung: u8) -> Vec<Vec<f32>> {
    let mut command = program("device-run");
    command.args(["--synthetic", &FRAMES.to_string(), "--embedding", "--precision", precision]);
    let text = succeeds(command.args(["--rung", &rung.to_string(), "--bundle"]).arg(home.path("bundle")));
    let embedding = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
    };
    text.lines().map(embedding).collect()
}

/// Asks for the same frames, and gets each at one of `rungs`, as `expected` has it of every rung.
fn receives(client: &Client, rungs: &RangeInclusive<u8>, expected: &[Vec<Vec<f32>>]) {
    let (width, height) = (client.model.width, client.model.height);
    for frame in 0..FRAMES {
        let image = SyntheticFrames::new(0, height, width).frame(frame);
        client.send(&Request::Infer { id: frame, width, height, outputs: Outputs::Both, rgb: image.as_raw() });
        match client.receive() {
            Received::Result { id, rung: found, embedding, .. } => {
                assert!(id == frame && rungs.contains(&found), "{id} at rung {found}");
                assert_eq!(embedding, expected[usize::from(found)][frame as usize]);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn results_have_the_bits_of_runs_without_a_service_at_the_rung_that_is_governed() {
    let home = Home::new();
    write_with_integer_model(&home.path("bundle"), &tiny(), 1, 4);
    let limits = home.path("limits.toml");
    std::fs::write(&limits, "").unwrap();
    let mut command = serving(&home);
    command.args(["--workers", "2", "--threads", "2", "--limits"]).arg(&limits);
    let mut server = home.serve(command);
    let clients: Vec<Client> = (0..3).map(|_| server.client(WhenFull::Wait, 1)).collect();
    let expected: Vec<_> = (0..4).map(|rung| embeddings(&home, "int8", rung)).collect();
    for (rung, expected) in (0..).zip(&expected) {
        assert_ne!(*expected, embeddings(&home, "f32", rung));
    }
    for rungs in [0..=0, 1..=3] {
        std::thread::scope(|scope| {
            for client in &clients {
                scope.spawn(|| receives(client, &rungs, &expected));
            }
        });
        // Shorter than anything takes: the rung that was timed fastest is the best that there is. The small ones are so fast
        // that any of them may be.
        std::fs::write(&limits, "deadline_milliseconds = 0.0001").unwrap();
        server.signal("-HUP");
        server.wait_for_log("limits were read");
    }
    server.stop();
}

#[test]
fn a_bundle_that_cannot_run_every_rung_in_int8_is_refused_and_the_old_one_goes_on() {
    let home = linked();
    for (name, seed) in [("first", 1), ("fourth", 4)] {
        write_with_integer_model(&home.path(name), &tiny(), seed, 4);
    }
    write(&home.path("second"), &tiny(), 2, 4);
    write_with_integer_neurons(&home.path("third"), &tiny(), 3, 4, 48);
    let server = home.serve(serving(&home));
    let client = server.client(WhenFull::Wait, 1);
    let before = served(&client, 1);
    for (name, words) in [("second", "the bundle has no `model.int8`"), ("third", "`model.int8` cannot run rung 0")] {
        point_to(&home, name);
        client.send(&Request::Reload { id: 2 });
        let Received::Failed { id: 2, text } = client.receive() else { panic!("a failure") };
        assert!(text.contains(words) && text.contains("old bundle goes on"), "{text}");
        assert_eq!(served(&client, 3), before);
        // Nor does serving begin with it.
        is_refused(serving(&home).arg("--socket").arg(home.path("other")), &[words]);
    }
    point_to(&home, "fourth");
    client.send(&Request::Reload { id: 4 });
    assert!(matches!(client.receive(), Received::Done { id: 4, .. }));
    assert_ne!(served(&client, 5).0, before.0);
    receives(&client, &(0..=0), &[embeddings(&home, "int8", 0)]);
    server.stop();
}

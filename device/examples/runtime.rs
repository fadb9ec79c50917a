//! Inference all day within limits, from an application of one's own.
//!
//! ```sh
//! cargo run --release -p headroom-device --example runtime -- bundles/vit_cifar10_xs-jetson-orin
//! ```

use std::error::Error;
use std::path::PathBuf;

use headroom_device::bundle::Bundle;
use headroom_device::governor::{Deadline, Limits};
use headroom_device::images::SyntheticFrames;
use headroom_device::runtime::{Event, Frame, Refusal, Runtime, WhenFull};
use headroom_device::sources::Sensors;
use headroom_shared::TimeSpan;

fn main() -> Result<(), Box<dyn Error>> {
    let path: PathBuf = std::env::args_os().nth(1).ok_or("which bundle?")?.into();
    let bundle = Bundle::open(&path)?;
    let (height, width) = (bundle.description().image.height as u32, bundle.description().image.width as u32);

    // Sensors are read once a second. Without limits, the largest rung runs.
    let mut sensors = Sensors::discover("/".as_ref(), None);
    let runtime = Runtime::builder(bundle)
        .sensors(move |now| sensors.read(now))
        .observer(|event| {
            if let Event::Decided { decision, previous, .. } = event
                && decision.rung != previous.rung
            {
                println!("from rung {} to {}: {:?}", previous.rung, decision.rung, decision.binding);
            }
        })
        .start()?;

    // A camera: where frames come faster than they can be run, the newest wins.
    let camera = runtime.client(WhenFull::DropOldest);
    for (number, frame) in SyntheticFrames::new(0, height, width).take(20).enumerate() {
        if number == 10 {
            // Half of what the dense model takes, which 1 of 100 inferences may exceed.
            let dense = runtime.profile()[0].latency;
            let latency = TimeSpan::from_nanoseconds(dense.as_nanoseconds() / 2);
            runtime
                .set_limits(Limits { deadline: Some(Deadline { latency, miss_rate: 0.01 }), ..Limits::default() })?;
        }
        // `submit` would not wait for the answer.
        match camera.infer(Frame::Rgb(frame)) {
            Ok(reply) => {
                let (rung, fidelity, latency) = (reply.rung, reply.fidelity, reply.latency);
                println!("frame {number}: rung {rung}, fidelity {fidelity:.4}, {latency:.3}");
            }
            Err(Refusal::Dropped) => println!("frame {number}: dropped"),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(())
}

//! The processor time of a service that has nothing to do: `device-run --serve` with a socket, metrics and sensors
//! once a second. `cargo bench -p headroom-device --bench idle` (Linux; takes 20 s)

use std::error::Error;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[path = "../tests/random_bundle/mod.rs"]
mod random_bundle;
#[path = "../tests/random_model/mod.rs"]
mod random_model;

const MEASURED: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let [bundle, socket] = ["bundle", "socket"].map(|name| home.path().join(name));
    random_bundle::write(&bundle, &random_bundle::tiny(), 1, 4);
    let mut command = Command::new(env!("CARGO_BIN_EXE_device-run"));
    command.arg("--serve").arg("--bundle").arg(&bundle).arg("--socket").arg(&socket);
    let mut server = command.args(["--metrics", "127.0.0.1:0"]).stderr(Stdio::null()).spawn()?;
    let share = connect(&socket).and_then(|_idle_client| idle_share(&server));
    server.kill()?;
    server.wait()?;
    let (share, wakes) = share?;
    println!("idle: {:.3} % of one core, {wakes:.1} wake-ups a second", share * 100.0);
    Ok(())
}

/// Connects once there is somebody; the socket is there before the bundle is loaded.
fn connect(path: &Path) -> Result<UnixStream, Box<dyn Error>> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > end => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(20)),
        }
    }
}

/// The share of one core, and how often a second some thread ran, from a moment after the start on.
fn idle_share(server: &Child) -> Result<(f64, f64), Box<dyn Error>> {
    sleep(Duration::from_secs(4));
    let (before, start) = (scheduled(server)?, Instant::now());
    sleep(MEASURED);
    let (after, seconds) = (scheduled(server)?, start.elapsed().as_secs_f64());
    Ok(((after.0 - before.0) as f64 / 1e9 / seconds, (after.1 - before.1) as f64 / seconds))
}

/// Nanoseconds on a processor and turns on one, of all threads: the first and third number of `schedstat` (Linux
/// documentation, scheduler/sched-stats.rst).
fn scheduled(server: &Child) -> Result<(u64, u64), Box<dyn Error>> {
    let mut sum = (0, 0);
    for thread in fs::read_dir(format!("/proc/{}/task", server.id()))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [nanoseconds, _, turns] = numbers[..] else { return Err("schedstat has no three numbers".into()) };
        sum = (sum.0 + nanoseconds, sum.1 + turns);
    }
    Ok(sum)
}

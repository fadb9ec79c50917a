//! `device-run --serve`: a runtime with its inputs, as a service.
//!
//! ```text
//! stdin, images --> printer --> stdout          main thread: signals, flight record, signs of life
//! socket --> a reader and a writer per client   governor: sensors once a second
//!            \--> queue --> workers <--/        reload: limits and bundle, on request
//! ```
//! # Inputs
//! - Images (a file or a folder) and raw frames on stdin: results are JSON lines on stdout, as without `--serve` and
//!   with the time in the queue; a refused frame is a line with `refused`. By default these inputs wait for room in the
//!   queue, `--when-full drop-oldest` makes the newest frame win, for cameras.
//! - A Unix socket, whose messages are [`headroom_shared::wire`]. Each client says itself what happens when the queue
//!   is full. A client that stalls delays nobody else.
//!
//! The program ends when its input has ended and there is no socket, or on SIGTERM or SIGINT. Then what waits is
//! refused, what has begun is finished, and every accepted request has had its answer.
//!
//! # Precision
//! `--precision int8` serves `model.int8`, a bundle's weights in eight-bit integers, packed once and shared by all workers.
//! Nothing else changes: the governor goes by times in int8, measured by `--calibrate --precision int8` or at the
//! start, and replies have the same fields. Fidelity is the ladder's, which `host-prune --precision int8` measures in
//! int8. All rungs must run: a bundle without `model.int8`, or with one that holds only some rungs, is refused, at the
//! start as at a reload.
//!
//! `--device cuda[:N]` or `auto` serves on an NVIDIA GPU in f16. One inference runs at a time, on one worker whatever
//! `--workers` says, and the governor goes by times that were measured there. A bundle that comes at a reload is loaded beside
//! the old one, so that both need room. The CPU engine's weights stay in memory too.
//!
//! # Signals
//! | signal | effect |
//! |---|---|
//! | SIGTERM, SIGINT | clean end, exit code 0 |
//! | SIGHUP | reads the limits file again, and the bundle if `--bundle` (usually a link) leads to another one; what is refused changes nothing |
//! | SIGUSR1 | writes the flight record |

mod arguments;
pub mod companion;
mod control;
mod error;
mod inputs;
mod machine;
mod printer;
mod reload;
mod signals;
mod socket;
mod unanswered;
mod watcher;

pub use arguments::{FrameSize, ServeArguments, WhenFullChoice};
pub use error::{ServeError, SocketError};

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::bundle::trust::Trust;
use crate::metrics::MetricsServer;
use crate::run::output::DEFAULT_TOP_K;
use crate::run::{Arguments, engine};
use crate::runtime::{Runtime, RuntimeError};
use crate::service::ServiceManager;
use companion::{Companion, Supervised};
use control::{Control, Controls};
use machine::Machine;
use printer::{Frames, Printed, frames_and_printer};
use reload::{Files, Reloader};
use socket::Server;
use unanswered::Unanswered;
use watcher::Watcher;

/// Without news of sensors for so long, the process is no longer taken to be alive; they are read once a second.
const LONGEST_WITHOUT_SENSORS: Duration = Duration::from_secs(5);

/// The same for an inference that does not end; the slowest take a few seconds.
const LONGEST_INFERENCE: Duration = Duration::from_secs(30);

/// How long whoever reads results may take for the last ones when the program ends.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Serves the bundle at the path `bundle` until the inputs end or a signal comes. Opens only what `trust` admits, then
/// and whenever the bundle is replaced.
///
/// # Errors
/// If serving cannot begin, or an input or the output fails.
pub fn run(arguments: &Arguments, bundle: &Path, trust: Option<Trust>) -> Result<(), ServeError> {
    let options = &arguments.serve;
    let (main, requests) = channel();
    let (reload, reloads) = channel();
    let controls = Controls { main, reload };
    signals::watch(controls.clone())?;
    // Taken before anything that costs time.
    let socket = options.socket.as_deref().map(socket::Socket::bind).transpose()?;

    if let Some(line) = &options.supervisor {
        companion::check(line)?;
    }

    let files = Files { bundle: bundle.to_path_buf(), limits: options.limits.clone(), trust };
    let opened = engine::complete(Arc::new(files.open_bundle()?), bundle, arguments);
    let engine = opened.map_err(RuntimeError::from)?;
    // On an accelerator one inference runs at a time, and waiting for another one is not its latency.
    let workers = if engine.accelerator().is_some() { 1 } else { usize::from(options.workers) };
    let threads = arguments.threads.map_or_else(|| (arguments.threads() / workers).max(1), NonZeroUsize::get);
    let (threads, precision) = (engine.execution(threads).threads, engine.precision());
    let machine =
        Arc::new(Machine::new(arguments.root.clone(), files.bundle.clone(), arguments.profile.clone(), threads));
    machine.profile(&engine).map_err(RuntimeError::from)?;
    let supervised = Arc::new(Supervised::default());
    let (limits, supervisor_temperature) = files.limits(&machine)?;
    supervised.set_temperature(supervisor_temperature);
    let deadline = limits.deadline.map(|deadline| deadline.latency);
    let watcher = Arc::new(Watcher::new(options.flight_record.clone(), deadline, precision, controls.clone()));
    let runtime = Runtime::builder_with(engine)
        .limits(limits)
        .workers(workers)
        .threads(threads)
        .queue_capacity(options.queue.into())
        .sensors({
            let machine = machine.clone();
            move |now| machine.read(now)
        })
        .profiler({
            let machine = machine.clone();
            move |engine| machine.profile(engine)
        })
        .governor({
            let machine = machine.clone();
            move |profile, limits| machine.governor(profile, limits)
        })
        .observer({
            let watcher = watcher.clone();
            // Counting is for a supervisor alone.
            let supervised = options.supervisor.is_some().then(|| supervised.clone());
            move |event| {
                if let Some(supervised) = &supervised {
                    supervised.see(event);
                }
                watcher.see(event);
            }
        })
        .start()?;
    let runtime = Arc::new(runtime);
    let _metrics = options.metrics.map(|address| MetricsServer::start(address, watcher.metrics.clone())).transpose()?;
    if let Some(line) = options.supervisor.clone() {
        let (runtime, machine, watcher) = (runtime.clone(), machine.clone(), watcher.clone());
        let companion = Companion { line, runtime, machine, watcher, supervised: supervised.clone() };
        spawn("supervisor", move || companion.run())?;
    }
    let reloader = Reloader { files, machine, runtime: runtime.clone(), watcher: watcher.clone(), supervised };
    spawn("reload", move || reloader.run(&reloads))?;
    let server = socket
        .map(|socket| Server::start(socket, runtime.clone(), controls.clone(), options.clients.into()))
        .transpose()?;
    let input = start_input(arguments, &runtime, &controls)?;

    let mut service = ServiceManager::from_environment();
    // A service manager that cannot be told does not keep anybody from serving.
    let _ = service.ready("serving");
    let outcome = wait_for_end(&requests, &mut service, &runtime, &watcher, server.is_some());
    let _ = service.stopping();
    if let Some(server) = &server {
        server.stop_accepting();
    }
    if let Some(unanswered) = &input {
        unanswered.close();
    }
    runtime.shut_down();
    if let Some(unanswered) = &input {
        unanswered.wait_for_all_at_most(LAST_ANSWERS);
    }
    if let Some(server) = server {
        server.end();
    }
    outcome
}

/// Sends frames until there are no more.
type Input = dyn FnOnce(&Frames) -> Result<(), ServeError> + Send;

/// Starts the input that ends by itself, where there is one, and returns what of it is not printed yet.
fn start_input(
    arguments: &Arguments,
    runtime: &Runtime,
    controls: &Controls,
) -> Result<Option<Arc<Unanswered>>, ServeError> {
    let send: Box<Input> = match (arguments.input.clone(), arguments.serve.stdin_rgb) {
        (Some(path), _) => Box::new(move |frames| inputs::send_images(&path, frames)),
        (None, Some(size)) => Box::new(move |frames| inputs::send_raw_frames(std::io::stdin().lock(), size, frames)),
        (None, None) => return Ok(None),
    };
    let has_classes = runtime.bundle().description().head.is_some();
    let printed = if has_classes && !arguments.embedding {
        Printed::Classes(arguments.top_k.unwrap_or(DEFAULT_TOP_K))
    } else {
        Printed::Embedding
    };
    let client = runtime.client(arguments.serve.when_full.into());
    let (frames, printer) = frames_and_printer(client, printed);
    let unanswered = frames.unanswered.clone();
    let (sending, printing) = (controls.clone(), controls.clone());
    spawn("printer", move || {
        if let Err(source) = printer.run() {
            printing.send(Control::InputEnded(Err(ServeError::Write { source })));
        }
    })?;
    spawn("input", move || {
        let sent = send(&frames);
        frames.unanswered.wait_for_all();
        sending.send(Control::InputEnded(sent));
    })?;
    Ok(Some(unanswered))
}

/// Does what is asked until the end: a signal, a failed input, or the end of the input where there is no socket.
fn wait_for_end(
    requests: &Receiver<Control>,
    service: &mut ServiceManager,
    runtime: &Runtime,
    watcher: &Watcher,
    has_socket: bool,
) -> Result<(), ServeError> {
    let started = Instant::now();
    // Signs of life are due once a period; half of it leaves room for other requests in between.
    let pause = service.period().map(|period| Duration::from(period) / 2);
    loop {
        let request = match pause {
            Some(pause) => requests.recv_timeout(pause),
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match request {
            Ok(Control::Stop) => return Ok(()),
            Ok(Control::Dump(report)) => {
                let outcome = watcher.dump();
                anstream::eprintln!("flight record: {}", outcome.as_ref().unwrap_or_else(|why| why));
                report.tell(outcome.as_deref().map_err(String::as_str));
            }
            Ok(Control::InputEnded(outcome)) => {
                outcome?;
                if !has_socket {
                    return Ok(());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            // The thread of the signals holds a sender as long as the program lives.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if is_alive(runtime) {
            let _ = service.alive(started.elapsed().into());
        }
    }
}

fn is_alive(runtime: &Runtime) -> bool {
    let health = runtime.health();
    health.since_sensors < LONGEST_WITHOUT_SENSORS
        && health.longest_inference.is_none_or(|running| running < LONGEST_INFERENCE)
}

/// A thread that is not waited for: it ends with what it works for, or with the program.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), ServeError> {
    thread::Builder::new().name(name.into()).spawn(work).map_err(|source| ServeError::Thread { source })?;
    Ok(())
}

//! Engines on other processors than the CPU, such as a GPU.
//!
//! An [`Accelerator`] is made by the thread that owns it from then on, and which runs one inference after another:
//! contexts and graphs of a GPU never move between threads. Those who infer hand it their input and wait.

use std::error::Error;
use std::fmt;
use std::sync::mpsc::{SendError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::bundle::Bundle;
use crate::lock::lock;

/// Runs the rungs of a bundle.
pub trait Accelerator {
    /// The processor's name.
    fn name(&self) -> &str;

    /// Runs rung `rung` on normalised pixels `[channels, height, width]`.
    ///
    /// # Errors
    /// If the processor fails. What `output` has is then not meaningful.
    fn infer(&mut self, pixels: &[f32], rung: usize, output: &mut AcceleratorOutput) -> Result<(), AcceleratorError>;
}

/// What an inference computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AcceleratorOutput {
    /// The image embedding.
    pub embedding: Vec<f32>,
    /// One value a class; empty where the model has no classifier.
    pub logits: Vec<f32>,
}

/// Makes the engine of a bundle. It is called on the thread that will own it.
pub type OpenAccelerator = dyn Fn(&Bundle) -> Result<Box<dyn Accelerator>, AcceleratorError> + Send + Sync;

/// What an accelerator reported. Two are equal if they are the same report.
#[derive(Clone, Debug)]
pub struct AcceleratorError {
    source: Arc<dyn Error + Send + Sync>,
    hint: Option<String>,
}

impl AcceleratorError {
    /// An error, and what the user can do about it.
    pub fn new(source: impl Error + Send + Sync + 'static, hint: Option<&str>) -> Self {
        Self { source: Arc::new(source), hint: hint.map(str::to_owned) }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for AcceleratorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(formatter)
    }
}

impl Error for AcceleratorError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

impl PartialEq for AcceleratorError {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }
}

/// The thread of an accelerator is no more.
#[derive(Debug, thiserror::Error)]
#[error("the thread of the accelerator has ended")]
struct Ended;

fn ended() -> AcceleratorError {
    AcceleratorError::new(Ended, None)
}

/// An inference on its way.
struct Request {
    rung: usize,
    job: AcceleratorJob,
    answer: SyncSender<(AcceleratorJob, Result<(), AcceleratorError>)>,
}

/// Input and output of an inference, which go to the thread and come back.
#[derive(Default)]
pub(super) struct AcceleratorJob {
    pub pixels: Vec<f32>,
    pub output: AcceleratorOutput,
}

/// The thread that owns an accelerator. One that ends, which a panic alone does, is started again by the next inference.
/// Dropping it waits until the accelerator is closed.
pub(super) struct AcceleratorThread {
    bundle: Arc<Bundle>,
    open: Arc<OpenAccelerator>,
    name: String,
    /// `None` only while it is dropped.
    running: Mutex<Option<Running>>,
}

struct Running {
    requests: SyncSender<Request>,
    thread: JoinHandle<()>,
}

impl AcceleratorThread {
    /// Starts the thread, which makes the engine of `bundle`.
    pub fn start(bundle: Arc<Bundle>, open: Arc<OpenAccelerator>) -> Result<Self, AcceleratorError> {
        let (name, running) = Running::start(bundle.clone(), open.clone())?;
        Ok(Self { bundle, open, name, running: Mutex::new(Some(running)) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What makes the same of another bundle.
    pub fn open(&self) -> &Arc<OpenAccelerator> {
        &self.open
    }

    /// Runs a rung on the pixels of `job`. If the accelerator panics, the job is lost.
    pub fn infer(&self, job: &mut AcceleratorJob, rung: usize) -> Result<(), AcceleratorError> {
        let (answer, answers) = sync_channel(1);
        let mut requests = self.requests()?;
        let mut request = Request { rung, job: std::mem::take(job), answer };
        // A thread that takes no more requests is about to end.
        while let Err(SendError(unsent)) = requests.send(request) {
            thread::yield_now();
            requests = match self.requests() {
                Ok(requests) => requests,
                Err(error) => {
                    *job = unsent.job;
                    return Err(error);
                }
            };
            request = unsent;
        }
        let (answered, outcome) = answers.recv().map_err(|_| ended())?;
        *job = answered;
        outcome
    }

    /// Where requests go: to a new thread, where the old one has ended.
    fn requests(&self) -> Result<SyncSender<Request>, AcceleratorError> {
        let mut running = lock(&self.running);
        if let Some(running) = running.as_ref().filter(|running| !running.thread.is_finished()) {
            return Ok(running.requests.clone());
        }
        let (_, started) = Running::start(self.bundle.clone(), self.open.clone())?;
        Ok(running.insert(started).requests.clone())
    }
}

impl Running {
    /// A thread, and the name of its accelerator.
    fn start(bundle: Arc<Bundle>, open: Arc<OpenAccelerator>) -> Result<(String, Self), AcceleratorError> {
        let (requests, received) = sync_channel::<Request>(0);
        let (opened, opening) = sync_channel(1);
        let work = move || {
            let mut accelerator = match open(&bundle) {
                Ok(accelerator) => accelerator,
                Err(error) => return drop(opened.send(Err(error))),
            };
            // It is waited for below.
            let _ = opened.send(Ok(accelerator.name().to_owned()));
            for Request { rung, mut job, answer } in received {
                let outcome = accelerator.infer(&job.pixels, rung, &mut job.output);
                let _ = answer.send((job, outcome));
            }
        };
        let thread = thread::Builder::new().name("accelerator".into()).spawn(work);
        let thread = thread.map_err(|error| AcceleratorError::new(error, None))?;
        let name = opening.recv().map_err(|_| ended())??;
        Ok((name, Self { requests, thread }))
    }
}

impl Drop for AcceleratorThread {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { requests, thread }) = running {
            // The only sender: the thread ends.
            drop(requests);
            // If it panicked, that was said.
            let _ = thread.join();
        }
    }
}

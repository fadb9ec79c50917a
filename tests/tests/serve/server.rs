//! A serving program, its files and a client.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use headroom_shared::Temperature;
use headroom_shared::wire::{
    LENGTH_BYTES, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, Outputs, RefusalReason, Request, Response, ServedModel,
    WhenFull, encode, encoded_length, payload_length,
};
use headroom_tests::program;
use tempfile::TempDir;

use crate::random_bundle;
use crate::random_model::Choices;

/// Longer than anything here takes on a busy machine; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a bundle, and room for sockets.
pub struct Home {
    pub folder: TempDir,
}

impl Home {
    /// With a bundle of four rungs that runs in microseconds.
    pub fn new() -> Self {
        Self::of(&random_bundle::tiny())
    }

    /// With a bundle of four rungs that takes milliseconds, each rung clearly less than the one before.
    pub fn of_milliseconds() -> Self {
        Self::of(&Choices::vit(8, 8, 128, 4, 4, 1024))
    }

    fn of(choices: &Choices) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.write_bundle("bundle", choices, 1);
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write_bundle(&self, name: &str, choices: &Choices, seed: u64) {
        random_bundle::write(&self.path(name), choices, seed, 4);
    }

    /// `device-run --serve` on the bundle called `bundle`.
    pub fn command(&self) -> Command {
        let mut command = program("device-run");
        command.arg("--serve").arg("--bundle").arg(self.path("bundle"));
        command
    }

    /// Starts `command` with a socket and waits until it serves.
    pub fn serve(&self, mut command: Command) -> Server {
        let socket = self.path("socket");
        command.arg("--socket").arg(&socket).stderr(Stdio::piped());
        Server::start(command, socket)
    }
}

/// A program that serves; it is killed if nobody ends it.
pub struct Server {
    child: Child,
    socket: PathBuf,
    lines: Receiver<String>,
    log: String,
}

impl Server {
    /// Starts a command that serves at `socket` and whose stderr is piped, and waits until it does.
    pub fn start(mut command: Command, socket: PathBuf) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(stderr)).map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut server = Self { child, socket, lines, log: String::new() };
        server.wait_for_log("serving bundle");
        server
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn client(&self, when_full: WhenFull, most_waiting: u8) -> Client {
        Client::connect(&self.socket, when_full, most_waiting)
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Waits for a line that holds `text` and returns it.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no `{text}` in:\n{}", self.log));
            self.log.push_str(&line);
            self.log.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for the end: the exit code and everything that was logged.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.log);
            std::thread::sleep(Duration::from_millis(2));
        };
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(200)) {
            self.log.push_str(&line);
            self.log.push('\n');
        }
        assert!(!self.log.contains("panicked"), "{}", self.log);
        (status.code(), std::mem::take(&mut self.log))
    }

    /// Ends it with SIGTERM, which must be clean.
    pub fn stop(self) -> String {
        self.signal("-TERM");
        let (code, log) = self.wait();
        assert_eq!(code, Some(0), "{log}");
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    Hello(ServedModel),
    Result {
        id: u64,
        bundle: [u8; 32],
        rung: u8,
        fidelity: f32,
        embedding: Vec<f32>,
        logits: Vec<f32>,
    },
    Refused {
        id: u64,
        reason: RefusalReason,
    },
    Status {
        id: u64,
        rung: u8,
        mode: String,
        binding: String,
        bundle: [u8; 32],
        temperature: Option<Temperature>,
    },
    Done {
        id: u64,
        text: String,
    },
    Failed {
        id: u64,
        text: String,
    },
    Error {
        text: String,
    },
    /// The end of the stream.
    End,
}

/// A client that speaks the wire format.
pub struct Client {
    pub stream: UnixStream,
    pub model: ServedModel,
}

impl Client {
    pub fn connect(socket: &Path, when_full: WhenFull, most_waiting: u8) -> Self {
        let stream = connect(socket);
        send(&stream, &Request::hello(when_full, most_waiting)).unwrap();
        match receive(&stream) {
            Received::Hello(model) => Self { stream, model },
            other => panic!("no hello: {other:?}"),
        }
    }

    /// Sends a grey image of 20 x 10 pixels.
    pub fn infer(&self, id: u64) {
        let rgb = [id as u8; 20 * 10 * 3];
        let request = Request::Infer { id, width: 20, height: 10, outputs: Outputs::Both, rgb: &rgb };
        self.send(&request);
    }

    pub fn send(&self, request: &Request<'_>) {
        send(&self.stream, request).unwrap();
    }

    pub fn receive(&self) -> Received {
        receive(&self.stream)
    }
}

pub fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn send(mut stream: &UnixStream, request: &Request<'_>) -> std::io::Result<()> {
    let mut buffer = vec![0; encoded_length(request, MAX_REQUEST_BYTES).unwrap()];
    encode(request, MAX_REQUEST_BYTES, &mut buffer).unwrap();
    stream.write_all(&buffer)
}

pub fn receive(mut stream: &UnixStream) -> Received {
    let mut prefix = [0; LENGTH_BYTES];
    match stream.read_exact(&mut prefix[..1]) {
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
            return Received::End;
        }
        read => read.unwrap(),
    }
    stream.read_exact(&mut prefix[1..]).unwrap();
    let mut payload = vec![0; payload_length(prefix, MAX_RESPONSE_BYTES).unwrap()];
    stream.read_exact(&mut payload).unwrap();
    match Response::read(&payload).unwrap() {
        Response::Hello { model, .. } => Received::Hello(model),
        Response::Result { id, bundle, rung, fidelity, embedding, logits, .. } => Received::Result {
            id,
            bundle,
            rung,
            fidelity,
            embedding: embedding.iter().collect(),
            logits: logits.iter().collect(),
        },
        Response::Refused { id, reason } => Received::Refused { id, reason },
        Response::Status { id, rung, mode, binding, model, temperature, .. } => {
            let (mode, binding) = (mode.into(), binding.into());
            Received::Status { id, rung, mode, binding, bundle: model.bundle, temperature }
        }
        Response::Done { id, text } => Received::Done { id, text: text.into() },
        Response::Failed { id, text } => Received::Failed { id, text: text.into() },
        Response::Error { text, .. } => Received::Error { text: text.into() },
        other => panic!("unknown: {other:?}"),
    }
}

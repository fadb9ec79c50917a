//! Child processes with an input, an end and a time limit.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::transport::{Output, TransportError};
use crate::interrupt::INTERRUPTED;

/// How much is read and sent at a time.
const CHUNK: usize = 64 * 1024;

/// How long a held process may take to end after its stdin was closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs a command to its end with `input` as its stdin. An interruption by the
/// user ends the input early.
///
/// # Errors
/// If it cannot be started or does not end within the limit.
pub fn run(command: &mut Command, input: &mut dyn Read, limit: Option<Duration>) -> Result<Output, TransportError> {
    let mut child = spawn(command)?;
    let begun = Instant::now();
    let mut stdin = child.stdin.take();
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let fed = match &mut stdin {
        Some(stdin) => feed(input, stdin),
        None => Ok(()),
    };
    drop(stdin);
    let Some(status) = wait_until(&mut child, begun, limit).map_err(TransportError::Run)? else {
        end(&mut child);
        return Err(TransportError::TimedOut { limit: limit.unwrap_or_default() });
    };
    let text =
        |reader: thread::JoinHandle<Vec<u8>>| String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned();
    let output = Output { code: status.code(), stdout: text(stdout), stderr: text(stderr) };
    fed.map(|()| output)
}

/// A process that lives until its stdin is closed, which dropping this does.
pub struct Held {
    child: Child,
    stdin: Option<ChildStdin>,
    stderr: Option<thread::JoinHandle<Vec<u8>>>,
    line: String,
    // Kept open: the process would be ended by writing to a closed pipe.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Held {
    /// Starts a command and waits for its first line that begins with one of
    /// `words`. Other lines are what a login shell says of its own.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command, words: &[&str]) -> Result<Self, TransportError> {
        let mut child = spawn(command)?;
        let stdin = child.stdin.take();
        let stderr = collect(child.stderr.take());
        let mut stdout = child.stdout.take().map(BufReader::new);
        let mut line = String::new();
        while let Some(stdout) = &mut stdout {
            line.clear();
            let is_end = stdout.read_line(&mut line).map_err(TransportError::Run)? == 0;
            if is_end || words.iter().any(|word| line.starts_with(word)) {
                break;
            }
        }
        Ok(Self { child, stdin, stderr: Some(stderr), line: line.trim_end().to_owned(), _stdout: stdout })
    }

    /// The line, empty if the process ended without one.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Closes its stdin and waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end(mut self) -> Result<Output, TransportError> {
        drop(self.stdin.take());
        let status = wait_until(&mut self.child, Instant::now(), Some(FAREWELL)).map_err(TransportError::Run)?;
        let Some(status) = status else { return Err(TransportError::TimedOut { limit: FAREWELL }) };
        let stderr = self.stderr.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Ok(Output { code: status.code(), stdout: self.line.clone(), stderr })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.stdin.take());
        if !matches!(wait_until(&mut self.child, Instant::now(), Some(FAREWELL)), Ok(Some(_))) {
            end(&mut self.child);
        }
    }
}

fn spawn(command: &mut Command) -> Result<Child, TransportError> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C goes to this program alone, which stops between steps.
        .process_group(0)
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => TransportError::NoSsh,
            _ => TransportError::Run(error),
        })
}

fn collect(source: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut source) = source {
            // What was read before an error is worth more than the error.
            let _ = source.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn feed(input: &mut dyn Read, stdin: &mut ChildStdin) -> Result<(), TransportError> {
    let mut chunk = vec![0; CHUNK];
    while !INTERRUPTED.load(Ordering::SeqCst) {
        let count = match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(TransportError::Input(error)),
        };
        // A process that ends before it has read everything says why by its exit code.
        if stdin.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    Ok(())
}

/// Waits for an end; `None` if there is none within the limit.
fn wait_until(
    child: &mut Child,
    begun: Instant,
    limit: Option<Duration>,
) -> io::Result<Option<std::process::ExitStatus>> {
    let Some(limit) = limit else { return child.wait().map(Some) };
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() >= limit {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself; either way it is gone after this.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_output_and_code_are_passed() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo said >&2; exit 3"]);
        let output = run(&mut command, &mut &b"sent"[..], None).unwrap();
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(3), "sent", "said\n"));
    }

    #[test]
    fn a_process_that_reads_nothing_is_no_error() {
        let input = vec![0; 1 << 20];
        let output = run(&mut Command::new("true"), &mut &input[..], None).unwrap();
        assert_eq!(output.code, Some(0));
    }

    #[test]
    fn a_process_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        let result = run(command.arg("1000"), &mut io::empty(), Some(Duration::from_millis(50)));
        assert!(matches!(result, Err(TransportError::TimedOut { .. })));
    }

    #[test]
    fn a_missing_program_is_told() {
        let result = run(&mut Command::new("headroom-no-such-program"), &mut io::empty(), None);
        assert!(matches!(result, Err(TransportError::NoSsh)));
    }

    #[test]
    fn a_held_process_ends_with_its_input() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo welcome; echo ready now; cat >/dev/null; exit 4"]);
        let held = Held::start(&mut command, &["ready"]).unwrap();
        assert_eq!(held.line(), "ready now");
        assert_eq!(held.end().unwrap().code, Some(4));
    }
}

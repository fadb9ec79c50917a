//! The system's OpenSSH as a child process, so that agent, key files, password
//! prompt, jump hosts, `~/.ssh/config` and host keys work as users know them.
//!
//! One connection per device: the first `ssh` logs in and becomes the master,
//! all others share it (`ControlMaster` of ssh_config(5)).

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use super::child::{self, Held};
use super::destination::Destination;
use super::ssh_message;
use super::transport::{ANSWERS, Call, Output, Transport, TransportError};

/// ssh's own exit code: the connection failed, not the command.
const SSH_FAILED: i32 = 255;

/// One login at a time: password prompts share the terminal.
static LOGIN: Mutex<()> = Mutex::new(());

/// A connection to a device. Dropping it logs out.
pub struct Ssh {
    destination: Destination,
    config: Option<PathBuf>,
    /// Private: whoever reaches the socket in it has the connection.
    folder: TempDir,
}

impl Ssh {
    /// Logs in. Asks for a password or a passphrase on the terminal where OpenSSH would.
    ///
    /// # Errors
    /// If the device cannot be reached or refuses.
    pub fn connect(destination: &Destination, config: Option<PathBuf>) -> Result<Self, TransportError> {
        let folder = tempfile::Builder::new().prefix("headroom-").tempdir().map_err(TransportError::Run)?;
        let ssh = Self { destination: destination.clone(), config, folder };
        let _turn = LOGIN.lock().unwrap_or_else(PoisonError::into_inner);
        // A file and not a pipe: the master keeps its stderr open.
        let said = ssh.folder.path().join("stderr");
        let stderr = File::create(&said).map_err(TransportError::Run)?;
        let status = ssh
            .command(&[
                "-oControlMaster=yes",
                // The master ends by itself if this program is killed.
                "-oControlPersist=60",
                "-oConnectTimeout=15",
                "-oServerAliveInterval=15",
                "-oServerAliveCountMax=3",
            ])
            .arg("true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .status()
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => TransportError::NoSsh,
                _ => TransportError::Run(error),
            })?;
        if status.success() {
            return Ok(ssh);
        }
        let said = std::fs::read(said).unwrap_or_default();
        Err(ssh_message::cause(&String::from_utf8_lossy(&said)))
    }

    /// ssh with these options, up to the name of the host; the command follows.
    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        if let Some(config) = &self.config {
            command.arg("-F").arg(config);
        }
        let mut socket = OsString::from("ControlPath=");
        socket.push(self.folder.path().join("socket"));
        command.arg("-o").arg(socket);
        command.args(options);
        if let Some(port) = self.destination.port {
            command.args(["-p", &port.to_string()]);
        }
        // No terminal on the device, no words of the login shell, no forwarding.
        command.args(["-T", "-a", "-x", "--", &self.destination.login()]);
        command
    }

    /// ssh that shares the connection and runs a script.
    fn script(&self, call: &Call<'_>) -> Result<Command, TransportError> {
        let text = call.script.text();
        let words = ["exec", "sh", "-c", &text, "headroom"].into_iter().chain(call.arguments.iter().copied());
        let line = shlex::try_join(words).map_err(|_| TransportError::ZeroByte)?;
        // Where the master is gone, ssh would log in again: the lock would be
        // another one, and a prompt could appear in the middle.
        let mut command = self.command(&["-oControlMaster=no", "-oBatchMode=yes", "-oProxyCommand=false"]);
        command.arg(line);
        Ok(command)
    }
}

impl Transport for Ssh {
    fn run(&self, call: &Call<'_>, input: &mut dyn Read) -> Result<Output, TransportError> {
        let output = child::run(&mut self.script(call)?, input, call.limit)?;
        match output.code {
            Some(SSH_FAILED) | None => Err(ssh_message::lost(&output.stderr)),
            Some(_) => Ok(output),
        }
    }

    fn hold(&self, call: &Call<'_>) -> Result<Held, TransportError> {
        Held::start(&mut self.script(call)?, &ANSWERS)
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let mut command = self.command(&["-Oexit"]);
        // Where the connection is gone already there is nothing to end.
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

//! A real OpenSSH server on the loopback interface, with its own keys and
//! configuration, whose sessions see a fake device.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use headroom_tests::say_skipped;
use tempfile::TempDir;

use crate::device::FakeDevice;

const SSHD: &str = "/usr/sbin/sshd";

/// The server; dropping it ends it.
pub struct Server {
    home: TempDir,
    port: u16,
    daemon: Child,
}

/// Whether there is a server to start; installs one where it may.
fn is_installed() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let is_there = || Path::new(SSHD).is_file() && Command::new("ssh").arg("-V").output().is_ok();
        if !is_there() {
            // Root and apt-get, or it fails and the tests are skipped.
            let words = ["install", "--yes", "--no-install-recommends", "openssh-server", "openssh-client"];
            let _ = Command::new("apt-get").args(words).env("DEBIAN_FRONTEND", "noninteractive").output();
        }
        is_there()
    })
}

impl Server {
    /// Starts a server for a device; `None`, with a visible line, where there is none to start.
    pub fn start(test: &str, device: &FakeDevice) -> Option<Self> {
        if !is_installed() {
            say_skipped(&format!("{test}: no OpenSSH server, and none could be installed"));
            return None;
        }
        let home = TempDir::new().unwrap();
        for key in ["host_key", "other_host_key", "user_key", "other_user_key"] {
            let path = home.path().join(key);
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
            assert!(made.unwrap().success());
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::copy(home.path().join("user_key.pub"), home.path().join("authorized_keys")).unwrap();
        let path = |name: &str| home.path().join(name).display().to_string();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nAuthorizedKeysFile {}\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\nMaxStartups 100\n\
             PermitRootLogin yes\nForceCommand sh {}\n",
            path("host_key"),
            path("authorized_keys"),
            path("session"),
        );
        fs::write(path("sshd_config"), config).unwrap();
        write_session(home.path(), device);
        // Where the server separates privileges it wants this folder; where it may not be made it may be there.
        let _ = fs::create_dir_all("/run/sshd");
        let server = Self { daemon: start(home.path()), home, port };
        server.write_client_config("config", "user_key", "host_key", "");
        server.wait();
        Some(server)
    }

    /// Sessions that begin from now on see this device.
    pub fn serve(&self, device: &FakeDevice) {
        write_session(self.home.path(), device);
    }

    /// `--to` for this server.
    pub fn destination(&self) -> String {
        format!("device:{}", self.port)
    }

    /// `--ssh-config` for a client with this key, who knows the server by that
    /// key, with more lines.
    pub fn write_client_config(&self, name: &str, user_key: &str, host_key: &str, more: &str) -> PathBuf {
        let path = |name: &str| self.home.path().join(name);
        let key = fs::read_to_string(path(&format!("{host_key}.pub"))).unwrap();
        let known = path(&format!("{name}.known_hosts"));
        fs::write(&known, format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
        let config = format!(
            "Host device\n HostName 127.0.0.1\n IdentityFile {}\n IdentitiesOnly yes\n UserKnownHostsFile {}\n \
             GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n {more}\n",
            path(user_key).display(),
            known.display(),
        );
        fs::write(path(name), config).unwrap();
        path(name)
    }

    pub fn config(&self) -> PathBuf {
        self.home.path().join("config")
    }

    /// Kills the server's processes of all connections, as a crash would, but not what they run.
    pub fn kill_connections(&self) {
        for process in descendants(self.daemon.id()) {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            if name.starts_with("sshd") {
                // It may have ended meanwhile.
                let _ = Command::new("kill").args(["-9", &process.to_string()]).stderr(Stdio::null()).status();
            }
        }
    }

    fn wait(&self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "sshd does not listen: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill_connections();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// The program of every session. It sets the environment, because sshd's own
/// `SetEnv` cannot hold spaces and quotes.
fn write_session(home: &Path, device: &FakeDevice) {
    let environment = device.environment();
    let exports = environment.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value)));
    let text: String = exports.chain(["exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n".to_owned()]).collect();
    fs::write(home.join("session"), text).unwrap();
}

fn start(home: &Path) -> Child {
    let mut command = Command::new(SSHD);
    command.args(["-D", "-f"]).arg(home.join("sshd_config")).arg("-E").arg(home.join("log"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// The processes that a process has started, and theirs.
fn descendants(process: u32) -> Vec<u32> {
    let parent_of = |process: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let all: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let mut found = vec![process];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(all.iter().copied().filter(|process| parent_of(*process) == Some(parent)));
        next += 1;
    }
    found.remove(0);
    found
}

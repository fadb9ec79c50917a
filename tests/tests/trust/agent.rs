//! Signing with a key that only OpenSSH's agent has.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use headroom_tests::{is_refused, program, say_skipped, succeeds};

use crate::workshop::{BOARD, Workshop, write_policy};

/// A real agent, which ends with the test.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    /// `None`, with a visible line, where OpenSSH's client is not installed.
    fn start(workshop: &Workshop, test: &str) -> Option<Self> {
        let socket = workshop.path("agent.socket");
        let mut agent = Command::new("ssh-agent");
        let Ok(process) = agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn() else {
            say_skipped(&format!("{test}: no ssh-agent (package openssh-client)"));
            return None;
        };
        let agent = Self { process, socket };
        let begun = Instant::now();
        while !agent.socket.exists() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the agent makes no socket");
            thread::sleep(Duration::from_millis(5));
        }
        Some(agent)
    }

    /// Makes a key, gives it to the agent, and deletes the file.
    fn add(&self, workshop: &Workshop, kind: &str, comment: &str) {
        let file = workshop.path("in-agent-only");
        let mut keygen = Command::new("ssh-keygen");
        let _ = succeeds(keygen.args(["-q", "-t", kind, "-N", "", "-C", comment, "-f"]).arg(&file));
        let _ = succeeds(self.command(Command::new("ssh-add")).arg("-q").arg(&file));
        fs::remove_file(file).unwrap();
    }

    fn command(&self, mut command: Command) -> Command {
        command.env("SSH_AUTH_SOCK", &self.socket);
        command
    }

    fn sign(&self, workshop: &Workshop, key: &str) -> Command {
        let mut command = self.command(workshop.sign_command(12));
        command.args(["--key", &format!("agent:{key}")]);
        command
    }

    fn public_key(&self, key: &str) -> Command {
        let mut command = self.command(program("host-flash"));
        command.args(["public-key", "--key", &format!("agent:{key}")]);
        command
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_device_accepts_what_the_agent_signed() {
    let workshop = Workshop::new();
    let Some(agent) = Agent::start(&workshop, "a_device_accepts_what_the_agent_signed") else { return };
    agent.add(&workshop, "ed25519", "release key");
    let _ = succeeds(&mut agent.sign(&workshop, "release key"));

    let public = succeeds(&mut agent.public_key("release key"));
    let policy = workshop.path("trust.toml");
    let key = format!("[[key]]\nname = \"agent\"\npublic_key = \"\"\"\n{public}\"\"\"\n");
    write_policy(&policy, &format!("version = 1\nboard = {BOARD:?}\n{key}"));
    let _ = succeeds(&mut workshop.device_run(&policy));
    is_refused(&mut workshop.device_run(&workshop.policy("", &["another"])), &["does not list"]);

    // By the fingerprint that `ssh-add -l` shows; ed25519 has one signature for a key and a text.
    let signature = fs::read(workshop.bundle().join("manifest.sig")).unwrap();
    let list = succeeds(agent.command(Command::new("ssh-add")).arg("-l"));
    let fingerprint = list.split(' ').nth(1).unwrap();
    let _ = succeeds(&mut agent.sign(&workshop, fingerprint));
    assert_eq!(fs::read(workshop.bundle().join("manifest.sig")).unwrap(), signature);
}

#[test]
fn an_agent_that_cannot_sign_is_told_and_nothing_is_written() {
    let workshop = Workshop::new();
    let Some(agent) = Agent::start(&workshop, "an_agent_that_cannot_sign_is_told_and_nothing_is_written") else {
        return;
    };
    is_refused(&mut agent.sign(&workshop, "x"), &["shows no keys", "ssh-add -X"]);
    agent.add(&workshop, "ed25519", "release key");
    agent.add(&workshop, "ecdsa", "old");
    agent.add(&workshop, "rsa", "older");
    is_refused(&mut agent.sign(&workshop, "new"), &["no key `new`", "release key", "SHA256:", "ssh-add -l"]);
    is_refused(&mut agent.sign(&workshop, "old"), &["ecdsa-sha2-nistp256", "ssh-keygen -t ed25519"]);
    is_refused(&mut agent.public_key("older"), &["ssh-rsa", "expected ssh-ed25519"]);

    // A locked agent shows nothing.
    let locked = workshop.path("ask");
    fs::write(&locked, "#!/bin/sh\necho secret\n").unwrap();
    fs::set_permissions(&locked, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut lock = agent.command(Command::new("ssh-add"));
    let _ = succeeds(lock.arg("-x").env("SSH_ASKPASS", &locked).env("SSH_ASKPASS_REQUIRE", "force"));
    is_refused(&mut agent.sign(&workshop, "release key"), &["locked", "ssh-add -X"]);

    let socket = agent.socket.clone();
    drop(agent);
    let mut gone = workshop.sign_command(12);
    gone.args(["--key", "agent:release key"]);
    is_refused(gone.env("SSH_AUTH_SOCK", &socket), &["cannot reach the SSH agent", "ssh-agent"]);
    is_refused(gone.env_remove("SSH_AUTH_SOCK"), &["no SSH agent", "SSH_AUTH_SOCK", "ssh-agent"]);
    assert!(!workshop.bundle().join("manifest.sig").exists());
}

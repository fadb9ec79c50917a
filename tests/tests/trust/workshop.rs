//! A bundle, keys and a trust policy to work on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use headroom_device::bundle::manifest::{MANIFEST_FILE, MANIFEST_HASH_FILE, hash_file_content};
use headroom_device::bundle::trust::{SIGNATURE_FILE, SignedStatement, Statement};
use headroom_host::signing::SecretKey;
use headroom_tests::{program, small_job, succeeds};
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};

/// The board that the bundle is for.
pub const BOARD: &str = "jetson-orin";

/// A folder with a bundle of its own, that each test may spoil.
pub struct Workshop {
    home: TempDir,
}

impl Workshop {
    /// With an unsigned bundle.
    pub fn new() -> Self {
        static MADE: OnceLock<TempDir> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            let home = tempdir().unwrap();
            let _ = succeeds(&mut small_job(&home.path().join("bundle")));
            home
        });
        let workshop = Self { home: tempdir().unwrap() };
        fs::create_dir(workshop.bundle()).unwrap();
        for entry in fs::read_dir(made.path().join("bundle")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), workshop.bundle().join(entry.file_name())).unwrap();
        }
        workshop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    /// Makes the key `name`, if it is not there.
    pub fn key(&self, name: &str) -> SecretKey {
        let path = self.path(name);
        if !path.exists() {
            let _ = succeeds(program("host-flash").args(["keygen", "--out"]).arg(&path));
        }
        SecretKey::read(&path).unwrap()
    }

    /// Signs the bundle with the key `name`.
    pub fn sign(&self, name: &str, release: u32) {
        self.key(name);
        let _ = succeeds(self.sign_command(release).arg("--key").arg(self.path(name)));
    }

    pub fn sign_command(&self, release: u32) -> Command {
        let mut command = program("host-flash");
        command.env_remove("HEADROOM_SIGNING_KEY").arg("sign").arg("--bundle").arg(self.bundle());
        command.args(["--release", &release.to_string()]);
        command
    }

    /// Signs whatever the manifest is, for `board`: what `host-flash sign` would not sign.
    pub fn sign_anything(&self, name: &str, board: &str, release: u32) {
        let key = self.key(name);
        let manifest = fs::read(self.bundle().join(MANIFEST_FILE)).unwrap();
        let statement =
            Statement::new(board, release, Sha256::digest(&manifest).into(), key.public_key().fingerprint()).unwrap();
        let signature = key.sign(statement.signed_text().as_bytes());
        fs::write(self.bundle().join(SIGNATURE_FILE), SignedStatement { statement, signature }.encode()).unwrap();
    }

    /// Replaces the manifest, with the right hash beside it.
    pub fn replace_manifest(&self, bytes: &[u8]) {
        fs::write(self.bundle().join(MANIFEST_FILE), bytes).unwrap();
        fs::write(self.bundle().join(MANIFEST_HASH_FILE), hash_file_content(bytes)).unwrap();
    }

    /// A policy that trusts the keys of these names, with `top` before them.
    pub fn policy(&self, top: &str, keys: &[&str]) -> PathBuf {
        let state = self.path("minimum-release.toml");
        let mut text = format!("version = 1\nboard = {BOARD:?}\nminimum_release_file = {state:?}\n{top}\n");
        for name in keys {
            let public = self.key(name).public_key().to_pem();
            text.push_str(&format!("[[key]]\nname = {name:?}\npublic_key = \"\"\"\n{public}\"\"\"\n"));
        }
        let path = self.path("trust.toml");
        write_policy(&path, &text);
        path
    }

    /// One inference under the policy.
    pub fn device_run(&self, policy: &Path) -> Command {
        let mut command = program("device-run");
        command.arg("--bundle").arg(self.bundle()).args(["--synthetic", "1", "--trust"]).arg(policy);
        command
    }
}

/// Policies that others may write to are refused, whatever the umask is.
pub fn write_policy(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

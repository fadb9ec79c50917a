//! The service as its Debian package installs it, in a root folder of its own: started by the words of the unit
//! where no systemd runs, upgraded, removed and purged.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use headroom_tests::{ended, program, repository, say_skipped, succeeds};
use tempfile::TempDir;

use crate::clients::is_served;
use crate::random_bundle;
use crate::server::Server;

/// A root folder with an empty package database and the accounts of root.
struct Root {
    folder: TempDir,
}

impl Root {
    fn new() -> Self {
        let root = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["etc", "run", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log"] {
            fs::create_dir_all(root.path(folder)).unwrap();
        }
        for (file, text) in [
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
            ("etc/group", "root:x:0:\n"),
            ("etc/shadow", "root:*:1::::::\n"),
            ("etc/gshadow", "root:*::\n"),
            ("var/lib/dpkg/status", ""),
        ] {
            fs::write(root.path(file), text).unwrap();
        }
        // The service is another user, who must get to the folder.
        fs::set_permissions(root.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// `dpkg` on this root, whose packages need nothing else, with scripts that run outside of it.
    fn dpkg(&self, words: &[&str]) {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.folder.path().display()));
        // Neither questions nor a pager, whoever runs the tests.
        dpkg.args(["--force-depends", "--force-script-chrootless"]).env("DEBIAN_FRONTEND", "noninteractive");
        let _ = succeeds(dpkg.args(words).stdin(Stdio::null()));
    }

    /// Copies the libraries that a program of this machine loads.
    fn bring_libraries(&self, program: &Path) {
        let listed = succeeds(Command::new("ldd").arg(program));
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            let target = self.path(&library[1..]);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(library, target).unwrap();
        }
    }

    /// The numbers of the user and group of the service.
    fn account(&self) -> Option<(u32, u32)> {
        let passwd = self.text("etc/passwd");
        let line = passwd.lines().find(|line| line.starts_with("headroom:"))?;
        let number = |field| line.split(':').nth(field).unwrap().parse().unwrap();
        Some((number(2), number(3)))
    }

    /// What systemd does for the unit: its folders, its user, its mask of permissions, and its command line.
    fn start(&self) -> Server {
        let (user, group) = self.account().expect("the package makes a user");
        for folder in ["run/headroom", "var/log/headroom"] {
            fs::create_dir_all(self.path(folder)).unwrap();
            chown(self.path(folder), Some(user), Some(group)).unwrap();
        }
        let unit = self.text("lib/systemd/system/headroom.service").replace("\\\n", " ");
        let words = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("the unit starts something");
        // Another port, because other tests of this machine run beside this one.
        let words = words.replace("127.0.0.1:9477", "127.0.0.1:0");
        let mut command = Command::new("sh");
        command.args(["-c", "umask 0007 && exec chroot --userspec=\"$0\" \"$@\"", &format!("{user}:{group}")]);
        command.arg(self.folder.path()).args(words.split_whitespace()).stderr(Stdio::piped());
        Server::start(command, self.path("run/headroom/headroom.sock"))
    }
}

/// Builds the package of a program into a folder.
fn build(program: &Path, folder: &Path) -> PathBuf {
    let mut build = Command::new(repository().join("device/build-deb"));
    PathBuf::from(succeeds(build.arg(program).arg(folder)).trim())
}

/// The same package with a higher version.
fn newer(package: &Path, folder: &Path) -> PathBuf {
    let (tree, target) = (folder.join("tree"), folder.join("newer.deb"));
    let dpkg_deb = |words: [&Path; 3]| {
        let _ = succeeds(Command::new("dpkg-deb").args(words));
    };
    dpkg_deb([Path::new("--raw-extract"), package, &tree]);
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap().replace("\nVersion: ", "\nVersion: 99.");
    fs::write(&control, text).unwrap();
    dpkg_deb([Path::new("--build"), &tree, &target]);
    target
}

fn is_root_with_dpkg() -> bool {
    let has = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    succeeds(Command::new("id").arg("-u")).trim() == "0" && has("dpkg-deb") && has("useradd") && has("chroot")
}

#[test]
fn the_package_installs_serves_is_upgraded_and_leaves() {
    if !is_root_with_dpkg() {
        return say_skipped("the_package_installs_serves_is_upgraded_and_leaves: needs root, dpkg-deb and useradd");
    }
    let home = tempfile::tempdir().unwrap();
    let device_run = PathBuf::from(program("device-run").get_program());
    let package = build(&device_run, home.path());
    let again = build(&device_run, &home.path().join("again"));
    assert_eq!(fs::read(&package).unwrap(), fs::read(again).unwrap(), "the same program gives the same package");
    let text = ended(Command::new(repository().join("device/build-deb")).arg(repository().join("README.md")));
    assert!(text.code != Some(0) && text.stderr.contains("no program for amd64 or arm64"), "{}", text.stderr);

    let root = Root::new();
    root.dpkg(&["--install", package.to_str().unwrap()]);
    assert_eq!(root.text("etc/headroom/limits.toml"), include_str!("../../../device/systemd/limits.toml"));
    root.bring_libraries(&device_run);
    let bundles = root.path("var/lib/headroom/bundles");
    random_bundle::write(&bundles.join("first"), &random_bundle::tiny(), 1, 4);
    symlink("first", bundles.join("current")).unwrap();
    let mut server = root.start();
    is_served(&server);
    let socket = fs::metadata(server.socket()).unwrap().permissions().mode();
    assert_eq!(socket & 0o007, 0, "the socket is for the group alone: {socket:o}");
    server.signal("-USR1");
    server.wait_for_log("wrote the flight record");
    let _ = server.stop();

    // Limits that a user has set outlive the packages.
    let limits = format!("{}\n# Ours.\n", root.text("etc/headroom/limits.toml"));
    fs::write(root.path("etc/headroom/limits.toml"), &limits).unwrap();
    root.dpkg(&["--install", newer(&package, home.path()).to_str().unwrap()]);
    assert!(root.text("var/lib/dpkg/status").contains("\nVersion: 99."));
    assert_eq!(root.text("etc/headroom/limits.toml"), limits);
    let server = root.start();
    is_served(&server);
    let _ = server.stop();
    assert!(root.path("var/log/headroom/flight-record.jsonl").is_file());

    root.dpkg(&["--remove", "headroom"]);
    assert!(!root.path("opt/headroom").exists() && !root.path("lib/systemd/system/headroom.service").exists());
    assert_eq!(root.text("etc/headroom/limits.toml"), limits);
    root.dpkg(&["--purge", "headroom"]);
    assert!(!root.path("etc/headroom").exists() && !root.path("var/log/headroom").exists());
    assert_eq!(root.account(), None);
    // Bundles are nobody's but the user's.
    assert!(bundles.join("first/manifest.json").is_file());
}

//! A device as a folder: a root with an awkward name, a device tree, and the
//! tools that this machine lacks or must not touch.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use headroom_device::bundle::manifest::{REQUIRED_PARTS, sha256_hex};
use headroom_host::boards::{self, Board};
use headroom_host::bundle::{BundleWriter, Provenance};
use headroom_host::flash::check::Wish;
use headroom_host::flash::device::Health;
use headroom_host::flash::install::Job;
use headroom_host::flash::release::Release;
use headroom_host::interrupt::INTERRUPTED;
use tempfile::TempDir;

/// What a shell would stumble over if a script did not quote.
const ROOT: &str = "opt/it's $(touch pwned) \"a\" root\nwith lines; exit 9 #";

/// systemd with one unit, whose program is what `current` leads to.
const SYSTEMCTL: &str = r#"#!/bin/sh
state=$FAKE_DEVICE/state
case $1 in
    show)
        case $* in
            *LoadState*) echo loaded ;;
            *MainPID*) read -r pid <"$state/pid" && echo "$pid" ;;
        esac
        ;;
    is-active)
        if [ -f "$state/running" ]; then
            [ "$2" = --quiet ] || echo active
        else
            [ "$2" = --quiet ] || echo inactive
            exit 3
        fi
        ;;
    restart)
        rm -f "$state/running"
        "$FAKE_ROOT/current/bin/device-run" --serve || exit 1
        read -r pid <"$state/pid"
        echo $((pid + 1)) >"$state/pid"
        : >"$state/running"
        ;;
    stop) rm -f "$state/running" ;;
esac
"#;

/// A device. Tests change it by its files.
pub struct FakeDevice {
    home: TempDir,
}

impl FakeDevice {
    /// An AGX Orin that was set up and has no release.
    pub fn new() -> Self {
        // Memory where there is some: thousands of files come and go.
        let place = Path::new("/dev/shm");
        let place = if place.is_dir() { place.to_owned() } else { std::env::temp_dir() };
        let device = Self { home: TempDir::new_in(place).unwrap() };
        for folder in [ROOT, "state", "tools", "system/proc/device-tree"] {
            fs::create_dir_all(device.path(folder)).unwrap();
        }
        fs::write(device.path("state/pid"), "100\n").unwrap();
        device.is_board("nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0");
        device.tool("systemctl", SYSTEMCTL);
        device.tool("uname", "#!/bin/sh\necho aarch64\n");
        device
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn root(&self) -> PathBuf {
        self.path(ROOT)
    }

    pub fn root_text(&self) -> String {
        self.root().to_str().unwrap().to_owned()
    }

    pub fn system_text(&self) -> String {
        self.path("system").to_str().unwrap().to_owned()
    }

    /// Sets the names of the device tree.
    pub fn is_board(&self, compatible: &str) {
        fs::write(self.path("system/proc/device-tree/compatible"), compatible).unwrap();
    }

    /// Adds a tool that hides the machine's own.
    pub fn tool(&self, name: &str, text: &str) {
        write_program(&self.path("tools").join(name), text);
    }

    /// The environment of a session on the device.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        let path = format!("{}:{}", self.path("tools").display(), std::env::var("PATH").unwrap());
        [("PATH", path), ("FAKE_DEVICE", self.path("").display().to_string()), ("FAKE_ROOT", self.root_text())]
    }

    /// Another device with the same files, hard links included.
    pub fn copy(&self) -> Self {
        let home = TempDir::new_in(self.home.path().parent().unwrap()).unwrap();
        let copied = Command::new("cp").arg("-a").arg(self.path(".")).arg(home.path()).status().unwrap();
        assert!(copied.success());
        Self { home }
    }

    /// The hash of the active release, every byte of which is checked.
    ///
    /// # Panics
    /// If there is none or it is not whole.
    pub fn active(&self) -> String {
        let root = self.root();
        let target = fs::read_link(root.join("current")).expect("there is an active release");
        let hash = target.file_name().unwrap().to_str().unwrap().to_owned();
        let release = root.join(&target);
        let sums = fs::read_to_string(release.join("SHA256SUMS")).expect("the release has its list");
        assert_eq!(sha256_hex(sums.as_bytes()), hash, "the list is whole");
        for line in sums.lines() {
            let (sum, path) = line.split_once("  ").unwrap();
            let content = fs::read(release.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(sha256_hex(&content), sum, "{path} is whole");
        }
        let mode = fs::metadata(release.join("bin/device-run")).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "the program can be run");
        hash
    }

    /// The names in a folder of the root, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root().join(folder)).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn has(&self, name: &str) -> bool {
        self.root().join(name).symlink_metadata().is_ok()
    }
}

/// How a runtime behaves: shell code for each way in which it is called.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// `--version`.
    pub version: &'static str,
    /// When the unit starts it.
    pub serve: &'static str,
    /// The first inference.
    pub infer: &'static str,
    /// The pass over the sensors.
    pub probe: &'static str,
}

pub const GOOD: Behaviour = Behaviour { version: "exit 0", serve: "exit 0", infer: "exit 0", probe: "exit 0" };

pub fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A bundle and a runtime on this machine.
pub struct Source {
    home: TempDir,
}

impl Source {
    /// `name` makes the content differ from other sources.
    pub fn new(name: &str, behaviour: Behaviour) -> Self {
        let source = Self { home: tempfile::tempdir().unwrap() };
        let mut writer = BundleWriter::create(&source.bundle(), false).unwrap();
        for part in REQUIRED_PARTS {
            // One part that differs, and others that stay.
            let content = if part == "model.safetensors" { format!("weights of {name}") } else { part.to_owned() };
            writer.add(part, content.as_bytes()).unwrap();
        }
        writer.add("a name with spaces; $(touch pwned)", b"a part").unwrap();
        let provenance =
            Provenance { target: "jetson-orin".into(), model: format!("model {name}"), seed: 1, search: "none".into() };
        writer.finish(&provenance).unwrap();
        let Behaviour { version, serve, infer, probe } = behaviour;
        let text = format!(
            "#!/bin/sh\n# {name}\ncase $1 in\n--version) {version} ;;\n--serve) {serve} ;;\n--bundle) {infer} ;;\n--probe) {probe} ;;\nesac\n"
        );
        write_program(&source.runtime(), &text);
        source
    }

    pub fn bundle(&self) -> PathBuf {
        self.home.path().join("bundle")
    }

    pub fn runtime(&self) -> PathBuf {
        self.home.path().join("device-run")
    }

    pub fn release(&self) -> Release {
        Release::of(&self.bundle(), &self.runtime()).unwrap()
    }
}

/// The AGX Orin.
pub fn board() -> Board {
    boards::find("jetson-orin").unwrap()
}

/// A job that wastes no time.
pub fn job<'a>(board: &'a Board, root: &'a str, system: &'a str) -> Job<'a> {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let unit = "headroom.service";
    Job {
        wish: Wish { board: &board.profile, root, unit, allow_board_mismatch: false, now },
        system,
        health: Health {
            unit: unit.to_owned(),
            steady_seconds: 0,
            limit_seconds: 20,
            command: r#""$RELEASE/bin/device-run" --bundle "$RELEASE/bundle""#.to_owned(),
        },
        keep: 2,
        owner: "tester@here process 1 since 0",
        interrupt: &INTERRUPTED,
    }
}

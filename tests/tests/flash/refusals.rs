//! Bad input and devices in a bad state: refused with a cause and a hint, and
//! the device is as it was.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use headroom_host::flash::check::{self, CheckError};
use headroom_host::flash::device::Device;
use headroom_host::flash::release::{Release, ReleaseError};
use headroom_host::flash::{FlashError, Outcome};
use headroom_host::progress::Silent;
use headroom_tests::{is_refused, program, say_skipped};

use crate::device::{FakeDevice, GOOD, Source, board, job};
use crate::installation::install;
use crate::local_shell::LocalShell;

/// Installs and returns the refusal, with its cause.
fn refusal(device: &FakeDevice) -> CheckError {
    match install(device, &LocalShell::new(device), &Source::new("new", GOOD)) {
        Err(FlashError::Check(error)) => {
            assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
            assert!(!device.has("objects"), "nothing was changed");
            error
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_board_is_refused_unless_told() {
    let device = FakeDevice::new();
    device.is_board("nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0");
    let error = refusal(&device).to_string();
    assert!(error.contains("p3701-0005") && error.contains("p3767-0005-super"), "{error}");

    let (board, root, system) = (board(), device.root_text(), device.system_text());
    let mut job = job(&board, &root, &system);
    job.wish.allow_board_mismatch = true;
    let (shell, mut warnings) = (LocalShell::new(&device), Vec::new());
    let source = Source::new("new", GOOD);
    let release = source.release();
    job.install(&Device::new(&shell, &root), &release, false, &Silent, &mut warnings).unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("another board")), "{warnings:?}");

    let plain = FakeDevice::new();
    fs::remove_file(plain.path("system/proc/device-tree/compatible")).unwrap();
    assert!(refusal(&plain).to_string().contains("without a device tree"));
}

#[test]
fn boards_with_super_firmware_are_recognised() {
    let nano = headroom_host::boards::find("jetson-orin-nano").unwrap();
    let device = FakeDevice::new();
    device.is_board("nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0");
    let (root, system) = (device.root_text(), device.system_text());
    let shell = LocalShell::new(&device);
    let facts = Device::new(&shell, &root).probe(&system, "headroom.service", &[]).unwrap();
    check::device(&facts, None, &job(&nano, &root, &system).wish).unwrap();
}

#[test]
fn what_the_device_lacks_is_told() {
    let device = FakeDevice::new();
    device.tool("df", "#!/bin/sh\necho Filesystem\necho /dev/root 100 90 10 90% /\n");
    assert!(matches!(refusal(&device), CheckError::NoRoom { free: 10_240, .. }));

    let device = FakeDevice::new();
    fs::remove_dir(device.root()).unwrap();
    assert!(matches!(refusal(&device), CheckError::NotSetUp { .. }));

    let device = FakeDevice::new();
    device.tool("systemctl", "#!/bin/sh\n[ $1 = show ] && echo not-found\n");
    assert!(matches!(refusal(&device), CheckError::NoUnit { .. }));

    let device = FakeDevice::new();
    device.tool("id", "#!/bin/sh\necho 1000\n");
    device.tool("sudo", "#!/bin/sh\nexit 1\n");
    assert!(matches!(refusal(&device), CheckError::MayNotRestart { .. }));
}

#[test]
fn what_the_runtime_needs_is_compared_with_the_device() {
    let device = FakeDevice::new();
    let (board, root, system) = (board(), device.root_text(), device.system_text());
    let wish = job(&board, &root, &system).wish;
    device.tool("getconf", "#!/bin/sh\necho glibc 2.31\n");
    fs::create_dir_all(device.path("system/usr/local/cuda")).unwrap();
    fs::write(device.path("system/usr/local/cuda/version.json"), r#"{ "cuda" : { "version" : "11.4.19" } }"#).unwrap();
    let source = Source::new("new", GOOD);
    let mut release = source.release();
    let judge = |release: &Release| {
        let shell = LocalShell::new(&device);
        let libraries = &release.requirements.libraries;
        let facts = Device::new(&shell, &root).probe(&system, "headroom.service", libraries).unwrap();
        check::device(&facts, Some(release), &wish)
    };
    let libc = |text| headroom_host::flash::runtime_file::LibcVersion::find(text);
    release.requirements.glibc = libc("2.31");
    judge(&release).unwrap();
    release.requirements.glibc = libc("2.35");
    let error = judge(&release).unwrap_err();
    assert_eq!(error.to_string(), "the runtime needs glibc 2.35, the device has 2.31");

    release.requirements.glibc = None;
    release.requirements.libraries = vec!["libcudart.so.12".into()];
    let error = judge(&release).unwrap_err();
    assert!(error.to_string().contains("libcudart.so.12") && error.hint().unwrap().contains("11.4.19"), "{error}");
    fs::create_dir_all(device.path("system/usr/lib/aarch64-linux-gnu/tegra")).unwrap();
    fs::write(device.path("system/usr/lib/aarch64-linux-gnu/tegra/libcudart.so.12"), "").unwrap();
    judge(&release).unwrap();

    release.requirements.architecture = Some("x86_64");
    assert!(matches!(judge(&release), Err(CheckError::Architecture { whose: "the device", .. })));
    assert!(matches!(
        check::release(&release, wish.board, wish.allow_board_mismatch),
        Err(CheckError::Architecture { whose: "the board", .. })
    ));
    release.requirements.architecture = Some("aarch64");
    judge(&release).unwrap();
    release.description.target = "jetson-orin-nano".into();
    assert!(matches!(
        check::release(&release, wish.board, wish.allow_board_mismatch),
        Err(CheckError::OtherTarget { .. })
    ));
}

#[test]
fn a_clock_that_is_wrong_by_years_is_told_and_hinders_nothing() {
    let device = FakeDevice::new();
    device.tool("date", "#!/bin/sh\necho 1000000\n");
    let (board, root, system) = (board(), device.root_text(), device.system_text());
    let (shell, mut warnings) = (LocalShell::new(&device), Vec::new());
    let source = Source::new("new", GOOD);
    let release = source.release();
    let job = job(&board, &root, &system);
    let outcome = job.install(&Device::new(&shell, &root), &release, false, &Silent, &mut warnings);
    assert!(matches!(outcome, Ok(Outcome::Activated { .. })), "{outcome:?}");
    assert!(warnings.iter().any(|warning| warning.contains("days behind")), "{warnings:?}");
}

#[test]
fn a_second_host_flash_is_told_who_is_at_work() {
    let device = FakeDevice::new();
    let root = device.root_text();
    let shell = LocalShell::new(&device);
    let first = Device::new(&shell, &root).lock("anna@desk process 42 since 1700000000").unwrap();
    let error = install(&device, &shell, &Source::new("new", GOOD)).unwrap_err();
    assert!(
        matches!(&error, FlashError::Locked { owner } if owner == "anna@desk process 42 since 1700000000"),
        "{error}"
    );
    drop(first);
    install(&device, &shell, &Source::new("new", GOOD)).unwrap();
}

#[test]
fn a_lock_whose_owner_is_gone_is_taken_over() {
    let device = FakeDevice::new();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for stale in [
        // Of an earlier boot; a process that is gone; a number that another process has now.
        "00000000-0000-0000-0000-000000000000 1 1 anna@desk".to_owned(),
        format!("{} 4194305 7 anna@desk", boot.trim()),
        format!("{} {} 1 anna@desk", boot.trim(), std::process::id()),
        "no lock of ours".to_owned(),
    ] {
        symlink(&stale, device.root().join("lock")).unwrap();
        install(&device, &LocalShell::new(&device), &Source::new(&stale, GOOD)).unwrap();
        assert!(!device.has("lock"), "{stale}");
    }
}

/// A file system of its own for the device's root, of one MiB.
struct SmallDisk<'a>(&'a FakeDevice);

impl<'a> SmallDisk<'a> {
    fn mount(test: &str, device: &'a FakeDevice) -> Option<Self> {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs"]).arg(device.root()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(device));
        }
        say_skipped(&format!("{test}: nothing can be mounted here"));
        None
    }

    fn make_read_only(&self) {
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(self.0.root()).status().unwrap().success());
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.root()).status();
    }
}

#[test]
fn a_full_disk_leaves_the_old_release_active() {
    let device = FakeDevice::new();
    let Some(_disk) = SmallDisk::mount("a_full_disk_leaves_the_old_release_active", &device) else { return };
    // The room is misjudged, so that the disk fills up while writing.
    device.tool("df", "#!/bin/sh\necho Filesystem\necho tmpfs 100000 0 100000 0% /\n");
    let old = Source::new("old", GOOD);
    install(&device, &LocalShell::new(&device), &old).unwrap();
    let new = Source::new("new", GOOD);
    fs::write(new.runtime(), format!("#!/bin/sh\n{}", "#\n".repeat(1 << 20))).unwrap();
    let error = install(&device, &LocalShell::new(&device), &new).unwrap_err();
    assert!(matches!(error, FlashError::DiskFull { .. }), "{error}");
    assert_eq!(device.active(), old.release().hash);
}

#[test]
fn a_read_only_file_system_is_told() {
    let device = FakeDevice::new();
    let Some(disk) = SmallDisk::mount("a_read_only_file_system_is_told", &device) else { return };
    device.tool("df", "#!/bin/sh\necho Filesystem\necho tmpfs 100000 0 100000 0% /\n");
    let old = Source::new("old", GOOD);
    install(&device, &LocalShell::new(&device), &old).unwrap();
    disk.make_read_only();
    let error = install(&device, &LocalShell::new(&device), &Source::new("new", GOOD)).unwrap_err();
    assert!(matches!(error, FlashError::Check(CheckError::Unwritable { .. })), "{error}");
    let root = device.root_text();
    let error = Device::new(&LocalShell::new(&device), &root).lock("me").err().unwrap();
    assert!(matches!(error, FlashError::ReadOnly { .. }), "{error}");
    assert_eq!(device.active(), old.release().hash);
}

#[test]
fn a_source_that_is_not_what_it_says_is_refused() {
    let source = Source::new("new", GOOD);
    fs::write(source.bundle().join("structure.map"), "structure.mop").unwrap();
    assert!(matches!(Release::of(&source.bundle(), &source.runtime()), Err(ReleaseError::Bundle { .. })));

    let source = Source::new("new", GOOD);
    fs::write(source.runtime(), "text").unwrap();
    let mut command = program("host-flash");
    command.args(["--target", "jetson-orin", "--to", "nobody"]);
    command.arg("--bundle").arg(source.bundle()).arg("--runtime").arg(source.runtime());
    is_refused(&mut command, &["the release cannot be put together", "not a program"]);

    let mut command = program("host-flash");
    is_refused(command.args(["--target", "jetson-orin", "--to", "nobody"]), &["`--bundle` is needed to install"]);

    let mut command = program("host-flash");
    command.args(["--target", "jetson-orin-nano", "--to", "nobody"]);
    let source = Source::new("new", GOOD);
    command.arg("--bundle").arg(source.bundle()).arg("--runtime").arg(source.runtime());
    is_refused(
        &mut command,
        &["the bundle is for `jetson-orin`, not for `jetson-orin-nano`", "--allow-board-mismatch"],
    );
}

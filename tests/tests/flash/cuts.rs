//! The device's processes are killed at every step of every script, and at the
//! beginning, in the middle and at the end of every write. After each cut the
//! device has a whole active release, the old one or the new one.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use headroom_host::flash::{FlashError, Outcome};

use crate::device::{Behaviour, FakeDevice, GOOD, Source};
use crate::installation::{install, roll_back};
use crate::local_shell::{LocalShell, Recorded};

/// After every so many cuts the interrupted job is done again, to its end.
const REPEAT_EVERY: usize = 20;

/// The least that all scenarios together must cut.
const CUTS: usize = 1000;

/// What host-flash does to a device.
type Work = dyn Fn(&FakeDevice) -> Result<Outcome, FlashError> + Sync + Send;

/// Something that changes a device.
struct Scenario {
    name: &'static str,
    /// What may be active after a cut; `None` is no release, before the first installation.
    allowed: Vec<Option<String>>,
    /// What is active in the end, if doing it again comes to the same end. A rollback leads back and forth.
    last: Option<Option<String>>,
    job: Box<Work>,
    /// Its calls, and the device before each.
    calls: Vec<Recorded>,
}

fn active(device: &FakeDevice) -> Option<String> {
    device.has("current").then(|| device.active())
}

/// A device that lost power between the switch to `new` and its health check.
fn unproven(old: &Source, new: &Source) -> FakeDevice {
    let device = with_releases(&[old, new]);
    fs::rename(device.root().join("previous"), device.root().join("pending")).unwrap();
    device
}

/// A device on which `other` stands beside the active release and has rotted.
fn rotten(other: &Source, active: &Source) -> FakeDevice {
    let device = with_releases(&[other, active]);
    let release = device.root().join("releases").join(other.release().hash);
    for name in ["bundle/model.safetensors", "bin/device-run"] {
        let path = release.join(name);
        // In place: the object is the same file, and its length tells nothing.
        let length = fs::metadata(&path).unwrap().len() as usize;
        fs::write(path, vec![0; length]).unwrap();
    }
    device
}

fn with_releases(sources: &[&Source]) -> FakeDevice {
    let device = FakeDevice::new();
    for source in sources {
        install(&device, &LocalShell::new(&device), source).unwrap();
    }
    device
}

/// An installation of `source` on a device.
fn installation(name: &'static str, device: FakeDevice, source: Source, is_healthy: bool) -> Scenario {
    let old = active(&device);
    let shell = LocalShell::recording(&device);
    assert_eq!(install(&device, &shell, &source).is_ok(), is_healthy, "{name}");
    let calls = shell.recorded();
    let new = Some(source.release().hash);
    let last = if is_healthy { new.clone() } else { old.clone() };
    assert_eq!(active(&device), last, "{name}");
    let job = Box::new(move |device: &FakeDevice| install(device, &LocalShell::new(device), &source));
    Scenario { name, allowed: vec![old, new], last: Some(last), job, calls }
}

fn rollback(before: &[&Source]) -> Scenario {
    let device = with_releases(before);
    let shell = LocalShell::recording(&device);
    roll_back(&device, &shell).unwrap();
    let allowed = before.iter().map(|source| Some(source.release().hash)).collect();
    let job = Box::new(|device: &FakeDevice| roll_back(device, &LocalShell::new(device)));
    Scenario { name: "a rollback", allowed, last: None, job, calls: shell.recorded() }
}

fn scenarios() -> Vec<Scenario> {
    let good = |name| Source::new(name, GOOD);
    let wrong = || Source::new("wrong", Behaviour { infer: "exit 1", ..GOOD });
    let crash = || Source::new("crash", Behaviour { serve: "exit 1", ..GOOD });
    let (old, older) = (good("old"), good("older"));
    vec![
        installation("the first installation", with_releases(&[]), good("new"), true),
        installation("an update", with_releases(&[&old]), good("new"), true),
        installation("an update that removes the oldest", with_releases(&[&older, &old]), good("new"), true),
        installation("an update that is not healthy", with_releases(&[&old]), wrong(), false),
        installation("an update that crashes at start", with_releases(&[&older, &old]), crash(), false),
        installation("a first installation that is not healthy", with_releases(&[]), wrong(), false),
        installation("an update of an unproven release", unproven(&older, &old), good("new"), true),
        installation("a return to a release that has rotted", rotten(&older, &old), good("older"), true),
        rollback(&[&older, &old]),
    ]
}

/// Cuts every call at every step; returns the number of cuts.
fn cut_everywhere(scenario: &Scenario) -> usize {
    let Scenario { name, allowed, last, job, calls } = scenario;
    let mut cuts = 0;
    for call in calls {
        for step in 1.. {
            let (device, was_killed) = call.cut(step);
            let found = active(&device);
            let place = format!("{name}, script {} killed at step {step}", call.script.name());
            assert!(allowed.contains(&found), "{place}: {found:?} is active");
            // A script that came to its end has no further step.
            if !was_killed {
                break;
            }
            cuts += 1;
            if cuts % REPEAT_EVERY == 0 {
                let again = job(&device);
                assert!(allowed.contains(&active(&device)), "{place}, then again: {again:?}");
                if let Some(last) = last {
                    assert_eq!(active(&device), *last, "{place}, then again: {again:?}");
                }
                assert!(!device.has("pending"), "{place}, then again: {again:?}");
            }
        }
    }
    cuts
}

#[test]
fn whenever_the_device_is_cut_off_a_whole_release_is_active() {
    let (scenarios, next, cuts) = (scenarios(), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let count = cut_everywhere(scenario);
                    println!("{}: {count} cuts", scenario.name);
                    cuts.fetch_add(count, Ordering::SeqCst);
                }
            });
        }
    });
    let cuts = cuts.into_inner();
    println!("{cuts} cuts");
    assert!(cuts >= CUTS, "only {cuts} cuts");
}

//! The steps of the protocol, each a call of one script.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::time::Duration;

use super::child::Held;
use super::error::FlashError;
use super::facts::Facts;
use super::release::{Object, Release};
use super::script::{Exit, Script};
use super::status::Status;
use super::transport::{Call, Output, Transport};

/// How long a script may take that only looks or makes folders.
const SHORT_LIMIT: Duration = Duration::from_secs(60);

/// How a release is judged after it was activated.
#[derive(Clone, Debug)]
pub struct Health {
    /// The unit that is restarted.
    pub unit: String,
    /// Seconds that the unit must run as one process.
    pub steady_seconds: u32,
    /// Seconds that the restart and the check may each take.
    pub limit_seconds: u32,
    /// A shell command that finds the folder of the release in `$RELEASE`.
    pub command: String,
}

/// A device, reached by a transport.
pub struct Device<'a> {
    transport: &'a dyn Transport,
    root: &'a str,
}

/// The lock of a device. Dropping it frees the lock, as does the end of the connection.
pub struct Lock {
    text: String,
    _keeper: Held,
}

/// An object that the device lacks.
#[derive(Clone, Copy, Debug)]
pub struct Missing<'a> {
    pub object: &'a Object,
    /// Bytes of it that an earlier attempt has left.
    pub offset: u64,
}

impl<'a> Device<'a> {
    #[must_use]
    pub fn new(transport: &'a dyn Transport, root: &'a str) -> Self {
        Self { transport, root }
    }

    /// What the device is. Changes nothing. `system` is the root of the
    /// system's own files, empty but in tests.
    ///
    /// # Errors
    /// If the device cannot be reached.
    pub fn probe(&self, system: &str, unit: &str, libraries: &[String]) -> Result<Facts, FlashError> {
        let mut arguments = vec![system, unit];
        arguments.extend(libraries.iter().map(String::as_str));
        Ok(Facts::of(&self.quick(Script::Probe, &arguments, "")?))
    }

    /// What is installed. Changes nothing.
    ///
    /// # Errors
    /// If the device cannot be reached or was never set up.
    pub fn status(&self, unit: &str) -> Result<Status, FlashError> {
        Ok(Status::of(&self.quick(Script::Status, &[unit], "")?))
    }

    /// The objects of a release that the device lacks. Changes nothing.
    ///
    /// # Errors
    /// If the device cannot be reached or was never set up.
    pub fn missing<'r>(&self, release: &'r Release) -> Result<Vec<Missing<'r>>, FlashError> {
        let list = release.objects.iter().fold(String::new(), |mut list, object| {
            // Writing to a String cannot fail.
            let _ = writeln!(list, "{} {}", object.sha256, object.size);
            list
        });
        let output = self.quick(Script::Inventory, &[], &list)?;
        let has = |object: &Object| output.values("have").any(|hash| hash == object.sha256);
        let offset = |object: &Object| {
            let (_, size) = output
                .values("need")
                .filter_map(|line| line.split_once(' '))
                .find(|(hash, _)| *hash == object.sha256)?;
            // A beginning that is longer than the whole is of no use.
            size.parse().ok().filter(|size| *size <= object.size)
        };
        let lacking = release.objects.iter().filter(|object| !has(object));
        Ok(lacking.map(|object| Missing { object, offset: offset(object).unwrap_or(0) }).collect())
    }

    /// Takes the lock; `owner` says who asks.
    ///
    /// # Errors
    /// If somebody else has it.
    pub fn lock(&self, owner: &str) -> Result<Lock, FlashError> {
        let arguments = [self.root, owner];
        let keeper = self.transport.hold(&Call { script: Script::Lock, arguments: &arguments, limit: None })?;
        if let Some(text) = keeper.line().strip_prefix("taken ") {
            return Ok(Lock { text: text.to_owned(), _keeper: keeper });
        }
        let output = keeper.end()?;
        // Without an exit code of its own a keeper that said nothing was cut off.
        Err(self.failure(Script::Lock, &output))
    }

    /// Makes the folders and clears away what an interrupted run has left.
    ///
    /// # Errors
    /// If the device cannot be written to.
    pub fn prepare(&self, lock: &Lock) -> Result<(), FlashError> {
        self.quick(Script::Prepare, &[&lock.text], "").map(drop)
    }

    /// Sends an object, or the rest of it; `sent` hears how many bytes of it are there.
    ///
    /// # Errors
    /// If the connection ends or the device cannot write.
    pub fn send(&self, lock: &Lock, missing: Missing<'_>, sent: &dyn Fn(u64)) -> Result<(), FlashError> {
        let Missing { object, mut offset } = missing;
        let mut anew = false;
        loop {
            let file = object.open(offset).map_err(super::transport::TransportError::Input)?;
            let mut counted = Counted { inner: file, count: offset, sent };
            let (size, begin) = (object.size.to_string(), offset.to_string());
            let arguments = [lock.text.as_str(), &object.sha256, &size, &begin];
            match self.call(Script::Receive, &arguments, &mut counted, None) {
                // A beginning of an earlier attempt was not what it should be: once more, from the start.
                Err(FlashError::Corrupt { .. } | FlashError::Script { code: MOVED, .. }) if offset > 0 && !anew => {
                    (offset, anew) = (0, true);
                }
                Err(FlashError::Corrupt { .. }) => return Err(FlashError::Corrupt { sha256: object.sha256.clone() }),
                result => return result.map(drop),
            }
        }
    }

    /// Builds a release from objects that are there.
    ///
    /// # Errors
    /// If an object has rotted: it is gone then, and must be sent again.
    pub fn assemble(&self, lock: &Lock, release: &Release) -> Result<(), FlashError> {
        self.call(Script::Assemble, &[&lock.text, &release.hash], &mut release.sums.as_bytes(), None).map(drop)
    }

    /// Makes a release active, and the one before again if it is not healthy.
    /// The device goes on by itself if the connection ends meanwhile.
    ///
    /// # Errors
    /// If the release is not active in the end, or nobody can tell.
    pub fn activate(&self, lock: &Lock, hash: &str, keep: u32, health: &Health) -> Result<(), FlashError> {
        let [keep, steady, limit] =
            [keep, health.steady_seconds, health.limit_seconds].map(|number| number.to_string());
        let arguments = [lock.text.as_str(), hash, &keep, &health.unit, &steady, &limit, &health.command];
        // The trial, the restarts and the check are bounded on the device; this is for a device that hangs.
        let whole = Duration::from_secs(u64::from(health.steady_seconds) * 2 + u64::from(health.limit_seconds) * 5);
        match self.call(Script::Activate, &arguments, &mut io::empty(), Some(whole + SHORT_LIMIT)) {
            Err(FlashError::NoRelease { .. }) => Err(FlashError::NoRelease { hash: hash.to_owned() }),
            result => result.map(drop),
        }
    }

    fn quick(&self, script: Script, arguments: &[&str], input: &str) -> Result<Output, FlashError> {
        self.call(script, arguments, &mut input.as_bytes(), Some(SHORT_LIMIT))
    }

    fn call(
        &self,
        script: Script,
        arguments: &[&str],
        input: &mut dyn Read,
        limit: Option<Duration>,
    ) -> Result<Output, FlashError> {
        let arguments: Vec<&str> = [self.root].into_iter().chain(arguments.iter().copied()).collect();
        let output = self.transport.run(&Call { script, arguments: &arguments, limit }, input)?;
        if output.code == Some(0) { Ok(output) } else { Err(self.failure(script, &output)) }
    }

    /// What a script's end means.
    fn failure(&self, script: Script, output: &Output) -> FlashError {
        let text = |word| output.value(word).unwrap_or_default().to_owned();
        let said = || {
            output
                .stderr
                .lines()
                .rev()
                .map(str::trim)
                .find(|line| !line.is_empty())
                .unwrap_or("without a word")
                .to_owned()
        };
        match output.code.and_then(Exit::of) {
            Some(Exit::NotSetUp) => FlashError::NotSetUp { root: self.root.to_owned() },
            Some(Exit::Locked) => FlashError::Locked { owner: owner_of(&text("locked")) },
            Some(Exit::LockLost) => FlashError::LockLost,
            Some(Exit::Short) => FlashError::Short,
            Some(Exit::Corrupt) => FlashError::Corrupt { sha256: text("corrupt") },
            Some(Exit::NoRelease) => FlashError::NoRelease { hash: String::new() },
            Some(Exit::NotRunnable) => FlashError::NotRunnable { message: text("log") },
            Some(Exit::RolledBack) => FlashError::RolledBack { reason: text("reason"), log: text("log") },
            Some(Exit::Deactivated) => FlashError::Deactivated { reason: text("reason"), log: text("log") },
            Some(Exit::Unhealthy) => FlashError::Unhealthy { reason: text("reason"), log: text("log") },
            Some(Exit::Moved) | None => {
                let message = said();
                let says = |part: &str| output.stderr.contains(part);
                if says("No space left on device") || says("Disk quota exceeded") {
                    FlashError::DiskFull { message }
                } else if says("Read-only file system") {
                    FlashError::ReadOnly { message }
                } else if says("Permission denied") || says("Operation not permitted") {
                    FlashError::NotPermitted { message }
                } else {
                    FlashError::Script { script, code: output.code, message }
                }
            }
        }
    }
}

const MOVED: Option<i32> = Some(Exit::Moved as i32);

/// The words about who asked: what follows boot, process and start time.
pub(super) fn owner_of(lock: &str) -> String {
    lock.splitn(4, ' ').nth(3).unwrap_or(lock).to_owned()
}

/// Counts what is read.
struct Counted<'a> {
    inner: Box<dyn Read>,
    count: u64,
    sent: &'a dyn Fn(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        (self.sent)(self.count);
        Ok(count)
    }
}

//! The scripts that run on the device, and the exit codes that they agree on.
//!
//! Each is a file in `scripts/`, written for people to read. All values reach
//! them as arguments or on stdin.

/// A script of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Script {
    /// What the device is.
    Probe,
    /// What is installed.
    Status,
    /// Which objects are there.
    Inventory,
    /// Takes the lock and keeps it while the connection lives.
    Lock,
    /// Makes the folders and clears away leftovers.
    Prepare,
    /// Receives an object.
    Receive,
    /// Builds a release from objects.
    Assemble,
    /// Switches, checks and, if it must, switches back.
    Activate,
}

impl Script {
    /// The file's name without its ending.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Status => "status",
            Self::Inventory => "inventory",
            Self::Lock => "lock",
            Self::Prepare => "prepare",
            Self::Receive => "receive",
            Self::Assemble => "assemble",
            Self::Activate => "activate",
        }
    }

    /// The whole text: exit codes, what all scripts share, and the script.
    #[must_use]
    pub fn text(self) -> String {
        let body = match self {
            Self::Probe => include_str!("scripts/probe.sh"),
            Self::Status => include_str!("scripts/status.sh"),
            Self::Inventory => include_str!("scripts/inventory.sh"),
            Self::Lock => include_str!("scripts/lock.sh"),
            Self::Prepare => include_str!("scripts/prepare.sh"),
            Self::Receive => include_str!("scripts/receive.sh"),
            Self::Assemble => include_str!("scripts/assemble.sh"),
            Self::Activate => include_str!("scripts/activate.sh"),
        };
        let codes: String = Exit::ALL.iter().map(|exit| format!("{}={}\n", exit.variable(), *exit as i32)).collect();
        format!("{codes}{}{body}", include_str!("scripts/prelude.sh"))
    }
}

/// Why a script ended early: its exit code. Others are failures of its tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// There is no root folder.
    NotSetUp = 60,
    /// Another process has the lock.
    Locked,
    /// The lock is not ours any more.
    LockLost,
    /// The object's beginning has another length than the host was told.
    Moved,
    /// Stdin ended before everything had come.
    Short,
    /// The bytes have another hash than they should.
    Corrupt,
    /// There is no such release.
    NoRelease,
    /// The program does not start on this device. Nothing has changed.
    NotRunnable,
    /// The new release was not healthy; the one before is active again.
    RolledBack,
    /// The new release was not healthy and there was none before: none is active.
    Deactivated,
    /// The release is not healthy, and what could be gone back to is not either.
    Unhealthy,
}

impl Exit {
    const ALL: [Self; 11] = [
        Self::NotSetUp,
        Self::Locked,
        Self::LockLost,
        Self::Moved,
        Self::Short,
        Self::Corrupt,
        Self::NoRelease,
        Self::NotRunnable,
        Self::RolledBack,
        Self::Deactivated,
        Self::Unhealthy,
    ];

    /// What the code means; `None` for failures of tools.
    #[must_use]
    pub fn of(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| *exit as i32 == code)
    }

    /// The name in the scripts.
    fn variable(self) -> &'static str {
        match self {
            Self::NotSetUp => "NOT_SET_UP",
            Self::Locked => "LOCKED",
            Self::LockLost => "LOCK_LOST",
            Self::Moved => "MOVED",
            Self::Short => "SHORT",
            Self::Corrupt => "CORRUPT",
            Self::NoRelease => "NO_RELEASE",
            Self::NotRunnable => "NOT_RUNNABLE",
            Self::RolledBack => "ROLLED_BACK",
            Self::Deactivated => "DEACTIVATED",
            Self::Unhealthy => "UNHEALTHY",
        }
    }
}

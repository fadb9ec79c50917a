//! What the service manager (systemd) is told: ready, reloading, stopping, and that the process is alive.
//!
//! Without a service manager (no `NOTIFY_SOCKET` in the environment) nothing is
//! sent and nothing fails. `device/systemd/headroom.service` is the unit.

use std::io;
use std::time::Duration;

use headroom_shared::TimeSpan;
use sd_notify::NotifyState;

/// The line to the service manager.
#[derive(Debug)]
pub struct ServiceManager {
    /// Between two signs of life; `None` where no watchdog waits for them.
    period: Option<TimeSpan>,
    last_sign: Option<TimeSpan>,
}

impl ServiceManager {
    /// Of the service manager that started this process, if one did.
    ///
    /// Signs of life go out at half of the watchdog's interval (`WATCHDOG_USEC`),
    /// as `sd_watchdog_enabled(3)` recommends.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::with_watchdog(sd_notify::watchdog_enabled())
    }

    fn with_watchdog(interval: Option<Duration>) -> Self {
        let period = interval.filter(|interval| !interval.is_zero()).map(|interval| TimeSpan::from(interval / 2));
        Self { period, last_sign: None }
    }

    /// How often [`alive`](Self::alive) has something to send, where a watchdog waits for it.
    #[must_use]
    pub fn period(&self) -> Option<TimeSpan> {
        self.period
    }

    /// Requests are served from now on; also after a reload, whether it was accepted or not.
    ///
    /// # Errors
    /// If the service manager cannot be told.
    pub fn ready(&self, status: &str) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(one_line(status))])
    }

    /// Limits or bundle are read again.
    ///
    /// # Errors
    /// If the service manager cannot be told.
    pub fn reloading(&self) -> io::Result<()> {
        // systemd orders the reload by this clock where the unit is of type notify-reload.
        sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
    }

    /// No new requests are accepted; the accepted ones are being answered.
    ///
    /// # Errors
    /// If the service manager cannot be told.
    pub fn stopping(&self) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Stopping])
    }

    /// A line for people, shown by `systemctl status`.
    ///
    /// # Errors
    /// If the service manager cannot be told.
    pub fn status(&self, status: &str) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Status(one_line(status))])
    }

    /// Says that the process is alive, where a watchdog waits for it and half of its interval has passed. `now` is a
    /// monotonic clock. Called by the thread whose progress shows that the whole is well.
    ///
    /// Returns whether a sign was sent.
    ///
    /// # Errors
    /// If the service manager cannot be told; the next call tries again.
    pub fn alive(&mut self, now: TimeSpan) -> io::Result<bool> {
        let due = self.period.is_some_and(|period| match self.last_sign {
            None => true,
            Some(last) => now.checked_sub(last).is_some_and(|passed| passed >= period),
        });
        if due {
            sd_notify::notify(&[NotifyState::Watchdog])?;
            self.last_sign = Some(now);
        }
        Ok(due)
    }
}

/// A second line would be a message of its own.
fn one_line(status: &str) -> &str {
    status.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn without_a_service_manager_nothing_fails() {
        // The tests themselves may run below one.
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            return;
        }
        let mut manager = ServiceManager::with_watchdog(None);
        manager.ready("serving").unwrap();
        manager.reloading().unwrap();
        manager.stopping().unwrap();
        assert!(!manager.alive(TimeSpan::from_nanoseconds(0)).unwrap());
        assert_eq!(manager.period(), None);
    }

    /// The environment is the process's, so this test runs itself again in another.
    #[test]
    fn the_manager_hears_states_and_signs_of_life_at_half_the_interval() {
        if std::env::var_os("HEADROOM_TEST_SERVICE").is_some() {
            let mut manager = ServiceManager::from_environment();
            manager.ready("rung 0\nREADY=0").unwrap();
            let sent = [0, 1, 4, 5, 9, 10, 3]
                .map(|second| manager.alive(TimeSpan::from_nanoseconds(second * SECOND)).unwrap());
            assert_eq!(sent, [true, false, false, true, false, true, false]);
            manager.reloading().unwrap();
            manager.stopping().unwrap();
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "service::tests::the_manager_hears_states_and_signs_of_life_at_half_the_interval"]);
        again.env("HEADROOM_TEST_SERVICE", "1").env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "10000000");
        let output = again.env_remove("WATCHDOG_PID").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        socket.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 256];
        while let Ok(length) = socket.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        let alive = "WATCHDOG=1\n".to_owned();
        assert_eq!(heard[..4], ["READY=1\nSTATUS=rung 0\n".to_owned(), alive.clone(), alive.clone(), alive]);
        assert!(heard[4].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
        assert_eq!(heard[5..], ["STOPPING=1\n"]);
    }
}

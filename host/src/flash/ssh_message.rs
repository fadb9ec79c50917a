//! What OpenSSH says, as causes. It has one exit code for all of them; its
//! messages are not translated and have been the same for many years.

use super::transport::TransportError;

/// A part of a message, and the cause that it tells.
type Cause = (&'static str, fn(String) -> TransportError);

/// The most telling first.
const CAUSES: [Cause; 13] = [
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", |message| TransportError::ChangedHostKey { message }),
    ("POSSIBLE DNS SPOOFING", |message| TransportError::ChangedHostKey { message }),
    ("Host key verification failed", |message| TransportError::UnknownHostKey { message }),
    ("Could not resolve hostname", |message| TransportError::UnknownHost { message }),
    ("Permission denied", |message| TransportError::Denied { message }),
    ("Too many authentication failures", |message| TransportError::Denied { message }),
    ("No more authentication methods", |message| TransportError::Denied { message }),
    ("Connection refused", |message| TransportError::Unreachable { message }),
    ("timed out", |message| TransportError::Unreachable { message }),
    ("No route to host", |message| TransportError::Unreachable { message }),
    ("Network is unreachable", |message| TransportError::Unreachable { message }),
    ("Connection closed", |message| TransportError::Lost { message }),
    ("Connection reset", |message| TransportError::Lost { message }),
];

/// Why a login failed.
#[must_use]
pub fn cause(stderr: &str) -> TransportError {
    for (part, cause) in CAUSES {
        if stderr.contains(part) {
            let line = stderr.lines().find(|line| line.contains(part)).unwrap_or(part);
            return cause(line.trim_matches(|c: char| c == '@' || c.is_whitespace()).to_owned());
        }
    }
    TransportError::Other { message: last_line(stderr) }
}

/// Why a connection that stood has ended.
#[must_use]
pub fn lost(stderr: &str) -> TransportError {
    TransportError::Lost { message: last_line(stderr) }
}

fn last_line(stderr: &str) -> String {
    stderr.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("without a word").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_causes() {
        let changed = "@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@\nHost key verification failed.\n";
        let TransportError::ChangedHostKey { message } = cause(changed) else { panic!("{changed}") };
        assert_eq!(message, "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!");
        let refused = "ssh: connect to host 10.0.0.7 port 22: Connection refused\r\n";
        assert!(matches!(cause(refused), TransportError::Unreachable { .. }));
        assert!(matches!(cause("a@b: Permission denied (publickey,password)."), TransportError::Denied { .. }));
        assert!(matches!(
            cause("No ED25519 host key is known for x.\nHost key verification failed."),
            TransportError::UnknownHostKey { .. }
        ));
        assert!(matches!(
            cause("ssh: Could not resolve hostname x: Name or service not known"),
            TransportError::UnknownHost { .. }
        ));
        let TransportError::Other { message } = cause("Bad configuration option: x\n\n") else { panic!() };
        assert_eq!(message, "Bad configuration option: x");
    }
}

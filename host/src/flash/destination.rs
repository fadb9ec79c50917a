//! Where a device is: `user@host:port`, as people type it.

use std::fmt;
use std::str::FromStr;

/// A host as OpenSSH knows it: a name of `~/.ssh/config`, of the network, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `None` leaves the user to OpenSSH's configuration.
    pub user: Option<String>,
    pub host: String,
    /// `None` leaves the port to OpenSSH's configuration.
    pub port: Option<u16>,
}

/// Not a destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a destination: expected `[user@]host[:port]`, with an IPv6 address in brackets")]
pub struct DestinationError {
    pub found: String,
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        parse(text).ok_or_else(|| DestinationError { found: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Destination> {
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']')?;
        match port {
            "" => (host, None),
            _ => (host, Some(port.strip_prefix(':')?)),
        }
    } else {
        match rest.matches(':').count() {
            0 => (rest, None),
            1 => rest.split_once(':').map(|(host, port)| (host, Some(port)))?,
            _ => return None,
        }
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None => None,
    };
    // A leading hyphen would be an option of ssh; other characters than these are in no name.
    let plain = |name: &str, more: &str| {
        let allowed = |c: char| c.is_alphanumeric() || more.contains(c);
        !name.is_empty() && !name.starts_with('-') && name.chars().all(allowed)
    };
    if !plain(host, "-._:%") || !user.is_none_or(|user| plain(user, "-._+@\\")) {
        return None;
    }
    Some(Destination { user: user.map(str::to_owned), host: host.to_owned(), port })
}

impl Destination {
    /// `user@host`, without the port, as the last word of ssh's command line.
    #[must_use]
    pub fn login(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(formatter, "{user}@")?;
        }
        match (self.port, self.host.contains(':')) {
            (Some(port), true) => write!(formatter, "[{}]:{port}", self.host),
            (Some(port), false) => write!(formatter, "{}:{port}", self.host),
            (None, _) => formatter.write_str(&self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_as_people_type_them() {
        for (text, user, host, port) in [
            ("nano", None, "nano", None),
            ("nvidia@10.0.0.7", Some("nvidia"), "10.0.0.7", None),
            ("nvidia@nano.local:2222", Some("nvidia"), "nano.local", Some(2222)),
            ("[fe80::1%eth0]:22", None, "fe80::1%eth0", Some(22)),
            ("[::1]", None, "::1", None),
            ("a@b@host", Some("a@b"), "host", None),
        ] {
            let found: Destination = text.parse().unwrap();
            assert_eq!((found.user.as_deref(), found.host.as_str(), found.port), (user, host, port), "{text}");
        }
    }

    #[test]
    fn what_ssh_or_a_shell_would_take_for_something_else_is_refused() {
        let wrong = [
            "",
            "@",
            "user@",
            "-oProxyCommand=sh",
            "a@-x",
            "-l@a",
            "a b",
            "a;b",
            "a:0",
            "a:99999",
            "::1",
            "[::1",
            "a:$x",
            "a\nb",
        ];
        for text in wrong {
            assert!(text.parse::<Destination>().is_err(), "{text:?}");
        }
    }
}

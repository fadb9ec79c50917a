//! The power mode of a Jetson: a set of clock caps with a name, not a power budget.

use super::attribute::Attribute;
use super::gauge::Tracked;
use super::tree::{self, Tree};
use super::{Pass, Source};
use crate::reading::{Measurement, Missing};

/// Longer than the configurations of all boards.
const MAX_CONFIGURATION_BYTES: usize = 64 * 1024;

/// The power mode that is set, and those that the board has.
#[derive(Debug)]
pub struct PowerMode {
    status: Attribute,
    id: Tracked<u8>,
    /// Id and name, from the board's own configuration: the same id is another mode on another board.
    modes: Vec<(u8, String)>,
}

impl PowerMode {
    /// The id of the mode.
    #[must_use]
    pub fn id(&self) -> Measurement<u8> {
        self.id.value()
    }

    /// Its name, if the board's configuration has it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let id = self.id.value().value()?;
        self.modes.iter().find(|(of, _)| *of == id).map(|(_, name)| name.as_str())
    }

    /// Id and name of all modes of the board.
    #[must_use]
    pub fn modes(&self) -> &[(u8, String)] {
        &self.modes
    }
}

impl Default for PowerMode {
    fn default() -> Self {
        Self { status: Attribute::absent(), id: Tracked::new(), modes: Vec::new() }
    }
}

impl Source for PowerMode {
    fn discover(&mut self, tree: &Tree<'_>) {
        self.status = Attribute::open(tree.root.join("var/lib/nvpmodel/status"));
        self.modes = modes(&configuration(tree).unwrap_or_default());
    }

    fn read(&mut self, pass: &mut Pass<'_>) {
        if pass.everything {
            let status = self.status.text(pass.buffer);
            self.id.update(status.and_then(|status| id(status).ok_or(Missing::Malformed)), pass.now);
        }
    }
}

fn configuration(tree: &Tree<'_>) -> Option<String> {
    let mut buffer = vec![0; MAX_CONFIGURATION_BYTES];
    tree::text_within(&tree.root.join("etc/nvpmodel.conf"), &mut buffer)
}

/// Of `pmode:0002`, which may be followed by ` fmode:quiet`.
fn id(status: &str) -> Option<u8> {
    status.strip_prefix("pmode:")?.split_whitespace().next()?.parse().ok()
}

/// Of lines such as `< POWER_MODEL ID=2 NAME=MAXN_SUPER >`.
fn modes(configuration: &str) -> Vec<(u8, String)> {
    let mode = |line: &str| {
        let words = line.trim().strip_prefix('<')?.trim_end().strip_suffix('>')?;
        let mut words = words.split_whitespace();
        if words.next() != Some("POWER_MODEL") {
            return None;
        }
        let (mut id, mut name) = (None, None);
        for word in words {
            match word.split_once('=')? {
                ("ID", value) => id = value.parse().ok(),
                ("NAME", value) => name = Some(value.to_owned()),
                _ => {}
            }
        }
        Some((id?, name?))
    };
    configuration.lines().filter_map(mode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_names_an_id() {
        assert_eq!(id("pmode:0002"), Some(2));
        assert_eq!(id("pmode:0001 fmode:quiet"), Some(1));
        for wrong in ["", "pmode:", "pmode:x", "pmode:-1", "pmode:999", "2"] {
            assert_eq!(id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_configuration_names_the_modes() {
        let text = "# comment\n< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/x\n\
                    < POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n<POWER_MODEL ID=2 NAME=MAXN_SUPER>\n\
                    < PM_CONFIG DEFAULT=1 >\n< POWER_MODEL NAME=lost >\n< POWER_MODEL";
        assert_eq!(modes(text), [(0, "15W".to_owned()), (2, "MAXN_SUPER".to_owned())]);
    }
}

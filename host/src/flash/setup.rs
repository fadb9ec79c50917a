//! The script that prepares a device once: the only step that needs root.

use headroom_shared::BoardProfile;
use headroom_shared::board::Ssh;

/// What the script writes.
pub struct Setup<'a> {
    pub board: &'a BoardProfile,
    /// Of the board's deployment.
    pub folders: &'a Ssh,
    pub root: &'a str,
    pub unit: &'a str,
    /// The text of the unit's file.
    pub unit_file: &'a str,
    /// The text of `/etc/headroom/limits.toml`; empty for none.
    pub limits_file: &'a str,
}

impl Setup<'_> {
    /// The script, to be read and then run.
    ///
    /// # Errors
    /// If a value holds a zero byte, which no shell can hold.
    pub fn text(&self) -> Result<String, shlex::QuoteError> {
        let quote = shlex::try_quote;
        Ok(format!(
            "#!/bin/sh\n\
             # Prepares a {} for host-flash, once. Read it, copy it to the device and run it there:\n\
             #   sudo sh setup.sh          for the user who runs sudo\n\
             #   sudo sh setup.sh USER     for another one\n\
             # Running it again does no harm. With DESTDIR set, everything goes below that folder.\n\
             set -eu\n\
             user=${{1:-${{SUDO_USER:-root}}}}\n\
             DESTDIR=${{DESTDIR:-}}\n\
             root={}\n\
             programs={}\n\
             bundles={}\n\
             unit={}\n\n{}{}{}",
            self.board.name,
            quote(self.root)?,
            quote(&self.folders.programs)?,
            quote(&self.folders.bundles)?,
            quote(self.unit)?,
            printer("unit_file", self.unit_file),
            printer("limits_file", self.limits_file),
            include_str!("scripts/setup.sh"),
        ))
    }
}

/// A shell function that prints a text, which stands in it as it is.
fn printer(name: &str, text: &str) -> String {
    let mut ends = (0_u32..).map(|number| format!("END_{number}"));
    let end = ends.find(|end| !text.lines().any(|line| line == end)).unwrap_or_default();
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{name}() {{\n    cat <<'{end}'\n{text}{newline}{end}\n}}\n\n")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_script_prepares_what_a_release_needs() {
        let home = tempfile::tempdir().unwrap();
        let board = crate::boards::find("jetson-orin").unwrap();
        let unit_file = "[Service]\nExecStart='it''s $HOME' \\\n  \"$(touch pwned)\"\nEND_0\n";
        let setup = Setup {
            board: &board.profile,
            folders: board.profile.deployment.ssh().unwrap(),
            root: "/opt/headroom",
            unit: "headroom.service",
            unit_file,
            limits_file: "# none\n",
        };
        let script = home.path().join("setup.sh");
        std::fs::write(&script, setup.text().unwrap()).unwrap();
        // The tools of the device that this machine need not have.
        let tools = home.path().join("tools");
        std::fs::create_dir(&tools).unwrap();
        for tool in ["systemctl", "visudo"] {
            let path = tools.join(tool);
            std::fs::write(&path, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let device = home.path().join("device");
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        for _ in 0..2 {
            let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
            let output = Command::new("sh")
                .arg(&script)
                .arg(user.trim())
                .env("DESTDIR", &device)
                .env("PATH", path)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let read = |path: &str| std::fs::read_to_string(device.join(path)).unwrap();
        let link = |path: &str| std::fs::read_link(device.join(path)).unwrap();
        assert!(device.join("opt/headroom").is_dir());
        assert_eq!(link("opt/headroom/bin").to_str(), Some("/opt/headroom/current/bin"));
        assert_eq!(link("var/lib/headroom/bundles/current").to_str(), Some("/opt/headroom/current/bundle"));
        assert_eq!(read("etc/systemd/system/headroom.service"), unit_file);
        assert_eq!(read("etc/headroom/limits.toml"), "# none\n");
        let rules = read("etc/sudoers.d/headroom-flash");
        assert_eq!(rules.lines().count(), 1, "{rules}");
        let systemctl = tools.join("systemctl");
        let expected =
            format!("NOPASSWD: {0} restart headroom.service, {0} stop headroom.service", systemctl.display());
        assert!(rules.ends_with(&format!("{expected}\n")), "{rules}");
    }
}

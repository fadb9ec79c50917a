//! Which profile, if any, holds for a bundle on this machine as it is now.

use std::fmt;
use std::path::Path;

use super::{Execution, Key, MeasuredProfile, MeasuredProfileError, MeasuredProfiles};
use crate::sources::Sensors;

/// What a file of measured profiles has for a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A profile under exactly this key.
    Profile(MeasuredProfile),
    /// Only profiles under other keys, which are not used; the last of them differs in `what`.
    OnlyOthers { what: &'static str, found: String, expected: String },
    /// No profile at all.
    Nothing,
}

impl Found {
    /// Looks in the file at `path` for the profile of a bundle with this hash, on the machine whose files are under
    /// `root`, where inferences run in this way.
    ///
    /// # Errors
    /// If there is a file and it is refused.
    pub fn on_this_machine(
        path: &Path,
        root: &Path,
        execution: Execution<'_>,
        bundle_sha256: &str,
    ) -> Result<Self, MeasuredProfileError> {
        let profiles = MeasuredProfiles::read(path)?;
        // Most bundles have no profile: the sensors need not be looked for.
        let Some(last) = profiles.profiles().last() else { return Ok(Self::Nothing) };
        let key = Key::of(root, &mut Sensors::discover(root, None), execution, bundle_sha256);
        if let Some(profile) = profiles.find(&key) {
            return Ok(Self::Profile(profile.clone()));
        }
        // A profile of this bundle says more about why it is not used than one of another bundle.
        let of_bundle = profiles.profiles().iter().rfind(|profile| profile.key.bundle_sha256 == bundle_sha256);
        let difference = of_bundle.unwrap_or(last).key.difference(&key);
        // Without a difference the profile would have been found.
        Ok(difference.map_or(Self::Nothing, |(what, found, expected)| Self::OnlyOthers { what, found, expected }))
    }

    /// The profile under the key.
    #[must_use]
    pub fn profile(&self) -> Option<&MeasuredProfile> {
        match self {
            Self::Profile(profile) => Some(profile),
            Self::OnlyOthers { .. } | Self::Nothing => None,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(profile) => write!(formatter, "costs as measured on {}", profile.key),
            Self::OnlyOthers { what, found, expected } => write!(
                formatter,
                "costs as predicted: the measured profile is of another {what} ({found}, here {expected}) and not used"
            ),
            Self::Nothing => write!(formatter, "costs as predicted: nothing was measured on this machine"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{key, profile};
    use super::*;
    use crate::precision::Precision;

    #[test]
    fn a_profile_of_another_key_is_not_used_and_the_difference_said() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("measured.toml");
        let find_in = |precision, hash: &str| {
            let execution = Execution { precision, threads: 1, accelerator: None };
            Found::on_this_machine(&path, home.path(), execution, hash)
        };
        let find = |hash: &str| find_in(Precision::F32, hash).unwrap();
        let hash = key().bundle_sha256;
        assert_eq!(find(&hash), Found::Nothing);

        let mut profiles = MeasuredProfiles::default();
        profiles.insert(profile(&[3, 2, 1], false));
        profiles.write(&path).unwrap();
        assert!(find(&hash).to_string().contains("another board (a test bench, here"), "{}", find(&hash));
        assert!(find("cd").to_string().contains("another bundle"));

        // The machine of an empty tree: no name, no power mode, no GPU.
        let mut here = profile(&[6, 4, 2], false);
        here.key = Key::of(
            home.path(),
            &mut Sensors::discover(home.path(), None),
            Execution { threads: 1, ..Execution::default() },
            &hash,
        );
        profiles.insert(here.clone());
        profiles.write(&path).unwrap();
        assert_eq!(find(&hash).profile(), Some(&here));
        let int8 = find_in(Precision::Int8, &hash).unwrap();
        assert!(int8.to_string().contains("another precision (f32, here int8) and not used"), "{int8}");
        std::fs::write(&path, "version = 1\nprofile = 3").unwrap();
        assert!(find_in(Precision::F32, &hash).is_err());
    }
}

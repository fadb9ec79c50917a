//! The file of measured profiles: TOML beside the bundle.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use headroom_shared::{MAX_RUNGS, TimeSpan};
use serde::{Deserialize, Serialize};

use super::{Key, MeasuredProfile};
use crate::whole_file;

/// The version of the file that this code writes and reads.
pub const MEASURED_PROFILE_VERSION: u32 = 1;

/// Profiles of a file at most: power modes times precisions times numbers of threads of a few bundles.
const MAX_PROFILES: usize = 64;

/// What [`MAX_PROFILES`] with [`MAX_RUNGS`] rungs each stay far below.
const MAX_BYTES: u64 = 1 << 20;

/// Why a file of measured profiles is refused. Nothing of a refused file is used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasuredProfileError {
    /// It cannot be read, or is no text.
    #[error("cannot read the measured profiles `{path}`")]
    Read { path: PathBuf, source: io::Error },
    /// It cannot be written; the old file, if there was one, is still there.
    #[error("cannot write the measured profiles `{path}`")]
    Write { path: PathBuf, source: io::Error },
    /// It is far too large to be one.
    #[error("the measured profiles `{path}` have more than {MAX_BYTES} bytes")]
    TooLarge { path: PathBuf },
    /// Not TOML, or a key is unknown, missing or of another type. The message
    /// quotes the line and names what was expected and found.
    #[error("measured profiles: {message}")]
    Form { message: String },
    /// It is of another version.
    #[error("the measured profiles have version {found}, this program reads version {readable}")]
    Version { found: u32, readable: u32 },
    /// The form is right and the content is not.
    #[error("measured profile {profile}: {what} is {found}, expected {expected}")]
    Content { profile: usize, what: &'static str, expected: &'static str, found: String },
}

/// Profiles under different keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeasuredProfiles {
    profiles: Vec<MeasuredProfile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    #[serde(rename = "profile", default)]
    profiles: Vec<MeasuredProfile>,
}

/// Where the profiles of a bundle are unless the user says otherwise: beside its folder, as `NAME.measured.toml`. Of a
/// link, beside what it points to, so that each of several releases has its own.
#[must_use]
pub fn default_path(bundle: &Path) -> PathBuf {
    let folder = bundle.canonicalize().unwrap_or_else(|_| bundle.to_path_buf());
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".measured.toml");
    folder.with_file_name(name)
}

impl MeasuredProfiles {
    /// Reads the file at `path`; no file is no profiles.
    ///
    /// # Errors
    /// If there is one and it cannot be read or is not what this version writes.
    pub fn read(path: &Path) -> Result<Self, MeasuredProfileError> {
        let unreadable = |source| MeasuredProfileError::Read { path: path.to_path_buf(), source };
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            file => file.map_err(unreadable)?,
        };
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(MeasuredProfileError::TooLarge { path: path.to_path_buf() });
        }
        Self::parse(&text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// If it is not what this version writes.
    pub fn parse(text: &str) -> Result<Self, MeasuredProfileError> {
        // The version first: another version may have other keys.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let form = |error: toml::de::Error| MeasuredProfileError::Form { message: error.to_string() };
        let found = toml::from_str::<Versioned>(text).map_err(form)?.version;
        if found != MEASURED_PROFILE_VERSION {
            return Err(MeasuredProfileError::Version { found, readable: MEASURED_PROFILE_VERSION });
        }
        let Content { profiles, .. } = toml::from_str(text).map_err(form)?;
        let mut checked = Self::default();
        for (number, profile) in profiles.into_iter().enumerate() {
            check(number, &profile)?;
            checked.insert(profile);
        }
        Ok(checked)
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn profiles(&self) -> &[MeasuredProfile] {
        &self.profiles
    }

    /// The profile under exactly this key.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<&MeasuredProfile> {
        self.profiles.iter().find(|profile| profile.key == *key)
    }

    /// Adds a profile in the place of the one under the same key; the oldest goes where there are too many.
    pub fn insert(&mut self, profile: MeasuredProfile) {
        self.profiles.retain(|other| other.key != profile.key);
        if self.profiles.len() == MAX_PROFILES {
            self.profiles.remove(0);
        }
        self.profiles.push(profile);
    }

    /// Replaces the file at `path`, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), MeasuredProfileError> {
        let content = Content { version: MEASURED_PROFILE_VERSION, profiles: self.profiles.clone() };
        let table =
            toml::to_string(&content).map_err(|error| MeasuredProfileError::Form { message: error.to_string() })?;
        let text = format!(
            "# Written by `device-run --calibrate`: costs of one inference as measured on this machine.\n{table}"
        );
        whole_file::write(path, text.as_bytes())
            .map_err(|source| MeasuredProfileError::Write { path: path.to_path_buf(), source })
    }
}

fn check(number: usize, profile: &MeasuredProfile) -> Result<(), MeasuredProfileError> {
    let wrong =
        |what, expected, found: String| Err(MeasuredProfileError::Content { profile: number, what, expected, found });
    let rungs = profile.rungs();
    if !(1..=MAX_RUNGS).contains(&rungs.len()) {
        return wrong("the number of rungs", "1 to 32", rungs.len().to_string());
    }
    if let Some(pair) = rungs.windows(2).find(|pair| pair[0].macs <= pair[1].macs) {
        return wrong("MACs of a rung", "fewer than those of the rung before", pair[1].macs.to_string());
    }
    if rungs.iter().any(|rung| rung.latency == TimeSpan::default()) {
        return wrong("the latency of a rung", "above 0", "0".into());
    }
    let hash = &profile.key.bundle_sha256;
    if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return wrong("bundle_sha256", "64 hexadecimal digits", format!("`{hash}`"));
    }
    if profile.key.threads == 0 {
        return wrong("threads", "at least 1", "0".into());
    }
    let errors = [profile.interpolation.latency, profile.interpolation.energy];
    for error in errors.into_iter().flatten().flat_map(|error| [error.mean, error.worst]) {
        // NaN is in no range.
        if !(0.0..f64::INFINITY).contains(&error) {
            return wrong("an interpolation error", "a finite number from 0", error.to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{key, profile};
    use super::*;
    use crate::precision::Precision;

    fn saved(profiles: &MeasuredProfiles) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.toml");
        profiles.write(&path).unwrap();
        assert_eq!(MeasuredProfiles::read(&path).unwrap(), *profiles);
        std::fs::read_to_string(path).unwrap()
    }

    fn two() -> MeasuredProfiles {
        let mut profiles = MeasuredProfiles::default();
        profiles.insert(profile(&[9, 6, 2], true));
        let mut other = profile(&[18, 11, 4], false);
        other.key = Key { power_mode: None, gpu_tpcs: None, ..key() };
        profiles.insert(other);
        profiles
    }

    #[test]
    fn each_key_has_its_profile_and_a_new_one_takes_the_place_of_the_old() {
        let mut profiles = two();
        saved(&profiles);
        assert_eq!(profiles.find(&key()), Some(&profile(&[9, 6, 2], true)));
        assert_eq!(profiles.find(&Key { threads: 2, ..key() }), None);
        profiles.insert(profile(&[8, 5, 1], true));
        assert_eq!(profiles.profiles().len(), 2);
        assert_eq!(profiles.find(&key()), Some(&profile(&[8, 5, 1], true)));
        for threads in 2..200 {
            let mut other = profile(&[1], false);
            other.key.threads = threads;
            profiles.insert(other);
        }
        assert_eq!(profiles.profiles().len(), MAX_PROFILES);
        assert!(saved(&profiles).len() < MAX_BYTES as usize);
    }

    #[test]
    fn f32_and_int8_stand_beside_each_other_and_a_file_without_a_precision_is_of_f32() {
        let mut profiles = two();
        let before = saved(&profiles);
        assert!(!before.contains("precision"), "a program that knows of no precision reads it: {before}");
        let mut int8 = profile(&[4, 3, 1], true);
        int8.key.precision = Precision::Int8;
        profiles.insert(int8.clone());
        let text = saved(&profiles);
        assert_eq!((profiles.profiles().len(), text.matches("precision = \"int8\"").count()), (3, 1), "{text}");
        assert_eq!(profiles.find(&key()), Some(&profile(&[9, 6, 2], true)));
        assert_eq!(profiles.find(&int8.key), Some(&int8));
        let said = text.replacen("threads = 1", "precision = \"f32\"\nthreads = 1", 1);
        assert_eq!(MeasuredProfiles::parse(&said).unwrap(), profiles, "f32 may be said");
        let other = MeasuredProfiles::parse(&text.replace("\"int8\"", "\"int4\"")).unwrap_err().to_string();
        assert!(other.contains("int4") && other.contains("int8"), "{other}");
    }

    #[test]
    fn the_file_says_that_it_was_measured_and_how_far_off_interpolation_is() {
        let text = saved(&two());
        assert!(text.contains("origin = \"measured\""), "{text}");
        assert!(text.contains("worst_relative_error"), "{text}");
    }

    #[test]
    fn what_is_no_profile_is_refused_with_what_was_found() {
        let text = saved(&two());
        for (from, to, words) in [
            ("version = 1", "version = 2", ["version 2", "version 1"]),
            ("version = 1", "", ["version", "missing"]),
            ("\"measured\"", "\"guessed\"", ["guessed", "measured"]),
            ("latency_nanoseconds = 9000000", "latency_nanoseconds = nan", ["nan", "expected"]),
            ("latency_nanoseconds = 9000000", "latency_nanoseconds = -1", ["-1", "expected"]),
            ("latency_nanoseconds = 9000000", "latency_nanoseconds = 0", ["latency", "above 0"]),
            ("macs = 900", "macs = 1000", ["MACs", "1000"]),
            ("threads = 1", "threads = 0", ["threads", "at least 1"]),
            ("threads = 1", "thread = 1", ["thread", "threads"]),
            ("bundle_sha256 = \"ab", "bundle_sha256 = \"x", ["bundle_sha256", "64"]),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            let message = MeasuredProfiles::parse(&changed).expect_err(&changed).to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{to}: {message}");
        }
        let errors = text.lines().find(|line| line.starts_with("mean_relative_error")).unwrap();
        for wrong in ["nan", "inf", "-0.5"] {
            let changed = text.replacen(errors, &format!("mean_relative_error = {wrong}"), 1);
            assert!(matches!(MeasuredProfiles::parse(&changed), Err(MeasuredProfileError::Content { .. })), "{wrong}");
        }
    }

    #[test]
    fn no_file_is_no_profiles_and_any_other_trouble_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.toml");
        assert_eq!(MeasuredProfiles::read(&missing).unwrap(), MeasuredProfiles::default());
        assert!(matches!(MeasuredProfiles::read(folder.path()), Err(MeasuredProfileError::Read { .. })));
        assert!(matches!(MeasuredProfiles::read(Path::new("/dev/zero")), Err(MeasuredProfileError::TooLarge { .. })));
        let unwritable = two().write(&folder.path().join("no/file.toml"));
        assert!(matches!(unwritable, Err(MeasuredProfileError::Write { .. })));
    }

    #[test]
    fn the_file_is_beside_the_bundle_and_of_a_link_beside_its_target() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        std::fs::create_dir(home.join("release")).unwrap();
        std::os::unix::fs::symlink("release", home.join("current")).unwrap();
        let expected = home.join("release.measured.toml");
        assert_eq!(default_path(&home.join("release")), expected);
        assert_eq!(default_path(&home.join("release/")), expected);
        assert_eq!(default_path(&home.join("current")), expected);
        assert_eq!(default_path(&home.join("release/.")), expected);
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_panics(place: prop::sample::Index, byte: u8) {
            let mut bytes = saved(&two()).into_bytes();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let _ = MeasuredProfiles::parse(&String::from_utf8_lossy(&bytes));
        }
    }
}

//! Reading limits and bundle again, while the old ones go on serving.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::companion::Supervised;
use super::control::Report;
use super::error::ServeError;
use super::machine::Machine;
use super::watcher::Watcher;
use crate::bundle::trust::Trust;
use crate::bundle::{Bundle, bundle_hash};
use crate::error_text::with_causes;
use crate::flight_record::Reloaded;
use crate::governor::{Limits, TemperatureLimits};
use crate::limits_file::LimitsFile;
use crate::run::trust;
use crate::runtime::Runtime;
use crate::service::ServiceManager;

/// Where limits and bundle are read from.
#[derive(Clone)]
pub(super) struct Files {
    /// A folder, or a link to one: what it leads to at the time of a reload counts.
    pub bundle: PathBuf,
    pub limits: Option<PathBuf>,
    /// As the policy was when the program started.
    pub trust: Option<Trust>,
}

impl Files {
    /// The limits as the file says now; without a file those of the machine, which has profiled the bundle.
    /// With them come the temperatures at the sensor of a supervisor, where they are others.
    pub(super) fn limits(&self, machine: &Machine) -> Result<(Limits, Option<TemperatureLimits>), ServeError> {
        let file = self.limits.as_deref().map(LimitsFile::read).transpose()?.unwrap_or_default();
        let limits = file.limits(machine.temperature_limits())?;
        if limits.energy.is_some() && !machine.knows_energy() {
            return Err(ServeError::UnknownEnergy);
        }
        Ok((limits, file.supervisor_temperature()?))
    }

    /// The bundle that is there now, if it is trusted.
    pub(super) fn open_bundle(&self) -> Result<Bundle, ServeError> {
        trust::open(&self.bundle, self.trust.as_ref())
            .map_err(|source| ServeError::Bundle { path: self.bundle.clone(), source })
    }
}

/// Reads again what it is asked to, one request after another, until nobody can ask any more.
pub(super) struct Reloader {
    pub files: Files,
    pub machine: Arc<Machine>,
    pub runtime: Arc<Runtime>,
    pub watcher: Arc<Watcher>,
    pub supervised: Arc<Supervised>,
}

impl Reloader {
    pub(super) fn run(&self, requests: &Receiver<Report>) {
        let service = ServiceManager::from_environment();
        for report in requests {
            // A service manager that cannot be told does not keep anybody from reloading.
            let _ = service.reloading();
            let outcome = self.reload();
            match &outcome {
                Ok(text) => anstream::eprintln!("reload: {text}"),
                Err(text) => anstream::eprintln!("reload refused: {text}"),
            }
            let _ = service.ready("serving");
            report.tell(outcome.as_deref().map_err(String::as_str));
        }
    }

    /// Either part is tried whatever comes of the other.
    fn reload(&self) -> Result<String, String> {
        match (self.reload_bundle(), self.reload_limits()) {
            (Ok(bundle), Ok(limits)) => Ok(format!("{bundle}; {limits}")),
            (Err(bundle), Err(limits)) => Err(format!("{bundle}; {limits}")),
            (Err(error), Ok(other)) | (Ok(other), Err(error)) => Err(format!("{error}; {other}")),
        }
    }

    fn reload_bundle(&self) -> Result<String, String> {
        if bundle_hash(&self.files.bundle).is_ok_and(|hash| hash == self.runtime.bundle().hash()) {
            return Ok("the bundle is the same".into());
        }
        let replaced = self
            .files
            .open_bundle()
            .and_then(|bundle| self.runtime.replace_bundle(bundle).map_err(ServeError::from))
            .map_err(|error| format!("{}; the old bundle goes on serving", one_line(&error)));
        self.watcher.reloaded(Reloaded::Bundle, replaced.is_ok());
        replaced.map(|()| format!("bundle {:.12} serves", self.runtime.bundle().hash()))
    }

    fn reload_limits(&self) -> Result<String, String> {
        let set = self
            .files
            .limits(&self.machine)
            .map_err(|error| one_line(&error))
            .and_then(|(limits, supervisor)| {
                self.runtime.set_limits(limits).map_err(|error| one_line(&error))?;
                self.supervised.set_temperature(supervisor);
                Ok(())
            })
            .map_err(|error| format!("{error}; the old limits hold"));
        self.watcher.reloaded(Reloaded::Limits, set.is_ok());
        set.map(|()| "limits were read".into())
    }
}

/// The error with what caused it, in one line.
fn one_line(error: &dyn Error) -> String {
    with_causes(error).replace('\n', " ")
}

//! What `device-run` says and does about trust.

use std::path::Path;

use super::{Arguments, RunError};
use crate::bundle::trust::{DEFAULT_POLICY_FILE, Trust, TrustError};
use crate::bundle::{Bundle, BundleError};

/// The device's policy. Warns, once, where there is none.
pub(crate) fn policy(arguments: &Arguments) -> Result<Option<Trust>, TrustError> {
    let trust = Trust::find(arguments.trust.as_deref())?;
    if trust.is_none() {
        anstream::eprintln!("warning: any bundle is run: there is no trust policy `{DEFAULT_POLICY_FILE}`");
    }
    Ok(trust)
}

/// Opens the bundle if `trust` admits it, and warns of one that is let pass without a signature.
pub(crate) fn open(path: &Path, trust: Option<&Trust>) -> Result<Bundle, BundleError> {
    let bundle = Bundle::open_with(path, trust)?;
    if trust.is_some() && bundle.statement().is_none() {
        anstream::eprintln!("warning: the bundle is not signed, and the trust policy does not require it");
    }
    Ok(bundle)
}

/// After the job has succeeded: no earlier release is accepted any more, where the command line asks for that.
pub(super) fn raise_minimum(arguments: &Arguments, trust: Option<&Trust>, bundle: &Bundle) -> Result<(), RunError> {
    if !arguments.raise_minimum {
        return Ok(());
    }
    let trust = trust.ok_or(RunError::NoPolicy)?;
    let statement = bundle.statement().ok_or(TrustError::Unsigned)?;
    if trust.raise_minimum(statement)? {
        anstream::eprintln!("from now on, no release before {} is accepted", statement.release());
    }
    Ok(())
}

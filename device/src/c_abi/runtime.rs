//! The whole runtime: a queue, workers and a governor around one bundle.

use std::ffi::c_char;
use std::path::Path;
use std::sync::{Arc, Mutex};

use headroom_shared::{TimeSpan, board_file};

use super::governor::HeadroomDecision;
use super::limits::HeadroomLimits;
use super::model::{
    HEADROOM_PRECISION_F32, HeadroomSizes, checked_precision, checked_threads, open_bundle, open_engine, sizes_of,
};
use super::pointer::{self, Output};
use super::status::{Failure, HeadroomStatus, guarded};
use crate::bundle::Bundle;
use crate::governor::{Governor, Inputs};
use crate::lock::lock;
use crate::measured_profile::{Execution, Found, MeasuredProfile, default_path, rung_profiles};
use crate::precision::Precision;
use crate::runtime::{Runtime, RuntimeError, profile};
use crate::sources::Sensors;

/// A bundle that serves.
pub struct HeadroomRuntime {
    pub(super) runtime: Runtime,
    /// Of the bundle that is about to serve.
    measured: Measured,
    threads: usize,
}

type Measured = Arc<Mutex<Option<MeasuredProfile>>>;

/// `HeadroomOptions::sensors`: none are read; only latency governs.
pub const HEADROOM_SENSORS_NONE: u32 = 0;
/// `HeadroomOptions::sensors`: those that the bundle's board profile names. The device is the one of the bundle.
pub const HEADROOM_SENSORS_OF_BOARD: u32 = 1;
/// `HeadroomOptions::sensors`: whatever this machine has. The device is another than the bundle was made for.
pub const HEADROOM_SENSORS_OF_MACHINE: u32 = 2;

/// How a runtime is set up; all fields 0 is the default.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadroomOptions {
    /// Inferences at the same time; 0 is one.
    pub workers: u32,
    /// Threads that share each inference; 0 is one.
    pub threads: u32,
    /// Requests that may wait, of all clients together; 0 is 64.
    pub queue_capacity: u32,
    /// One of `HEADROOM_SENSORS_*`; they are read once a second.
    pub sensors: u32,
}

/// Opens a bundle and starts to serve it. Costs are those of the measured profile beside the bundle, if one holds on
/// this machine; otherwise the rungs are timed for about a second.
///
/// # Safety
/// `bundle` is null or ends in 0; `limits` is null (no limit) or some; `options` is null (the default) or some;
/// `runtime` is null or room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_runtime_start(
    bundle: *const c_char,
    limits: *const HeadroomLimits,
    options: *const HeadroomOptions,
    runtime: *mut *mut HeadroomRuntime,
) -> HeadroomStatus {
    // SAFETY: the promises of this function's own caller.
    unsafe { headroom_runtime_start_in(bundle, HEADROOM_PRECISION_F32, limits, options, runtime) }
}

/// As `headroom_runtime_start`, with inferences in `precision`, one of `HEADROOM_PRECISION_*`; bundles that are put in
/// place later run in it too.
///
/// `HEADROOM_STATUS_BUNDLE` says that the bundle has no `model.int8`, or one that cannot run a rung of the ladder.
///
/// # Safety
/// As of `headroom_runtime_start`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_runtime_start_in(
    bundle: *const c_char,
    precision: u32,
    limits: *const HeadroomLimits,
    options: *const HeadroomOptions,
    runtime: *mut *mut HeadroomRuntime,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, path) = unsafe { (Output::new(runtime, "runtime")?, pointer::path(bundle, "bundle")?) };
        let limits = if limits.is_null() {
            HeadroomLimits::default()
        } else {
            // SAFETY: the promise of this function's own caller.
            *unsafe { pointer::reference(limits, "limits")? }
        };
        let options = if options.is_null() {
            HeadroomOptions::default()
        } else {
            // SAFETY: the promise of this function's own caller.
            *unsafe { pointer::reference(options, "options")? }
        };
        let (limits, threads) = (limits.checked()?, checked_threads(options.threads)?);
        let engine = open_engine(&path, checked_precision(precision)?)?;
        let sensors = sensors(engine.bundle(), options.sensors)?;
        let profile = measured_profile(&path, engine.bundle(), engine.precision(), threads)?;
        let measured = Measured::new(Mutex::new(profile));
        let mut builder = Runtime::builder_with(engine).limits(limits).threads(threads).profiler({
            let measured = Arc::clone(&measured);
            move |engine| {
                let profile = lock(&measured).take();
                let map = engine.bundle().structure_map();
                match profile.and_then(|profile| profile.overlay(map.rungs()).ok()) {
                    Some(rungs) => Ok(rung_profiles(&rungs)),
                    None => profile::timed(engine, threads, profile::TIMING),
                }
            }
        });
        if options.workers > 0 {
            builder = builder.workers(options.workers as usize);
        }
        if options.queue_capacity > 0 {
            builder = builder.queue_capacity(options.queue_capacity as usize);
        }
        // A limit that needs a sensor is refused where there is none: it could not be kept.
        let mut inputs = Inputs { temperature: false, power: false };
        if let Some(mut sensors) = sensors {
            let reading = sensors.read(TimeSpan::from_nanoseconds(0));
            inputs = Inputs::of(&reading);
            builder = builder.sensors(move |now| sensors.read(now));
        }
        builder = builder.governor(move |profile, limits| Governor::new(profile, limits)?.with_inputs(inputs));
        let runtime = builder.start().map_err(|error| refused(&error))?;
        output.write(Box::into_raw(Box::new(HeadroomRuntime { runtime, measured, threads })));
        Ok(())
    })
}

/// Stops: refuses what waits, finishes the inferences that have begun, and ends all threads. Null is none. Clients of
/// the runtime stay valid and are told `HEADROOM_STATUS_STOPPED`.
///
/// # Safety
/// `runtime` is null, or a runtime that was not stopped and that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_runtime_stop(runtime: *mut HeadroomRuntime) {
    guarded(|| {
        // SAFETY: the promise of this function's own caller.
        unsafe { pointer::close(runtime) };
        Ok(())
    });
}

/// Writes the sizes of the model that serves.
///
/// # Safety
/// `runtime` is null or running; `sizes` is null or room for them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_runtime_sizes(
    runtime: *const HeadroomRuntime,
    sizes: *mut HeadroomSizes,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, runtime) = unsafe { (Output::new(sizes, "sizes")?, pointer::reference(runtime, "runtime")?) };
        output.write(sizes_of(&runtime.runtime.bundle()));
        Ok(())
    })
}

/// Writes what the governor decided last: the rung that runs, and why.
///
/// # Safety
/// `runtime` is null or running; `decision` is null or room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_runtime_decision(
    runtime: *const HeadroomRuntime,
    decision: *mut HeadroomDecision,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, runtime) =
            unsafe { (Output::new(decision, "decision")?, pointer::reference(runtime, "runtime")?) };
        output.write(HeadroomDecision::new(&runtime.runtime.decision()));
        Ok(())
    })
}

/// Governs within other limits from now on. Where they make no sense, the old ones hold.
///
/// # Safety
/// `runtime` is null or running; `limits` is null or some.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_runtime_set_limits(
    runtime: *const HeadroomRuntime,
    limits: *const HeadroomLimits,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (runtime, limits) =
            unsafe { (pointer::reference(runtime, "runtime")?, *pointer::reference(limits, "limits")?) };
        let set = runtime.runtime.set_limits(limits.checked()?);
        set.map_err(|error| Failure::of(HeadroomStatus::Limits, &error))
    })
}

/// Serves another bundle from the next inference on; no request is lost. Where it is refused, the old one goes on.
///
/// # Safety
/// `runtime` is null or running; `bundle` is null or ends in 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_runtime_replace_bundle(
    runtime: *const HeadroomRuntime,
    bundle: *const c_char,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (runtime, path) = unsafe { (pointer::reference(runtime, "runtime")?, pointer::path(bundle, "bundle")?) };
        let bundle = open_bundle(&path)?;
        let profile = measured_profile(&path, &bundle, runtime.runtime.precision(), runtime.threads)?;
        // Of two threads that replace at once the later profile stays; one that does not fit its bundle is not used.
        *lock(&runtime.measured) = profile;
        runtime.runtime.replace_bundle(bundle).map_err(|error| refused(&error))
    })
}

fn refused(error: &RuntimeError) -> Failure {
    let status = match error {
        RuntimeError::Engine(_) => HeadroomStatus::Bundle,
        RuntimeError::Governor(_) => HeadroomStatus::Limits,
        RuntimeError::Thread(_) => HeadroomStatus::System,
    };
    Failure::of(status, error)
}

fn measured_profile(
    path: &Path,
    bundle: &Bundle,
    precision: Precision,
    threads: usize,
) -> Result<Option<MeasuredProfile>, Failure> {
    let found = Found::on_this_machine(
        &default_path(path),
        Path::new("/"),
        Execution { precision, threads, accelerator: None },
        bundle.hash(),
    )
    .map_err(|error| Failure::of(HeadroomStatus::MeasuredProfile, &error))?;
    Ok(found.profile().cloned())
}

fn sensors(bundle: &Bundle, which: u32) -> Result<Option<Sensors>, Failure> {
    let root = Path::new("/");
    match which {
        HEADROOM_SENSORS_NONE => Ok(None),
        HEADROOM_SENSORS_OF_BOARD => {
            let board =
                board_file::parse(bundle.board()).map_err(|error| Failure::of(HeadroomStatus::Bundle, &error))?;
            Ok(Some(Sensors::discover(root, Some(&board))))
        }
        HEADROOM_SENSORS_OF_MACHINE => Ok(Some(Sensors::discover(root, None))),
        found => {
            let message = format!("`options.sensors` is {found}, expected 0 to 2");
            Err(Failure::new(HeadroomStatus::InvalidArgument, message))
        }
    }
}

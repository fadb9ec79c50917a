//! The engine that `--device` and `--precision` ask for.

use std::path::Path;
use std::sync::Arc;

use super::{Arguments, DeviceChoice};
use crate::bundle::Bundle;
use crate::error_text::with_causes;
use crate::rung_engine::{OpenAccelerator, RungEngine, RungEngineError};

/// The engine for the bundle in the folder `path`. On the CPU in int8, only some of its rungs may run.
pub(super) fn partial(bundle: Arc<Bundle>, path: &Path, arguments: &Arguments) -> Result<RungEngine, RungEngineError> {
    choose(bundle, path, arguments, RungEngine::partial)
}

/// The same, all of whose rungs can run.
pub(crate) fn complete(bundle: Arc<Bundle>, path: &Path, arguments: &Arguments) -> Result<RungEngine, RungEngineError> {
    choose(bundle, path, arguments, RungEngine::new)
}

fn choose(
    bundle: Arc<Bundle>,
    path: &Path,
    arguments: &Arguments,
    on_cpu: impl FnOnce(Arc<Bundle>, crate::precision::Precision) -> Result<RungEngine, RungEngineError>,
) -> Result<RungEngine, RungEngineError> {
    let ordinal = match arguments.device() {
        DeviceChoice::Cpu => None,
        DeviceChoice::Auto => Some(0),
        DeviceChoice::Cuda(ordinal) => Some(ordinal),
    };
    if let Some(ordinal) = ordinal {
        match RungEngine::accelerated(bundle.clone(), gpu(ordinal, path)) {
            Ok(engine) => {
                anstream::eprintln!("running on {} in f16", engine.accelerator().unwrap_or("an accelerator"));
                return Ok(engine);
            }
            Err(error) if arguments.device() == DeviceChoice::Auto => {
                anstream::eprintln!("running on the CPU: {}", with_causes(&error));
            }
            Err(error) => return Err(error),
        }
    }
    on_cpu(bundle, arguments.precision())
}

/// What loads bundles in the folder `path` to a GPU.
#[cfg(feature = "cuda")]
fn gpu(ordinal: usize, path: &Path) -> Arc<OpenAccelerator> {
    let path = path.to_path_buf();
    Arc::new(move |bundle| crate::cuda::open(ordinal, bundle, &path))
}

#[cfg(not(feature = "cuda"))]
fn gpu(_: usize, _: &Path) -> Arc<OpenAccelerator> {
    use crate::rung_engine::AcceleratorError;

    /// A GPU was asked for, and this program has no engine for it.
    #[derive(Debug, thiserror::Error)]
    #[error("this program was built without CUDA")]
    struct NoCuda;

    const HINT: &str = "build it with `--features cuda`, or run with `--device cpu`";
    Arc::new(|_| Err(AcceleratorError::new(NoCuda, Some(HINT))))
}

//! The kernels' functions, compiled for this machine.

use std::process::Command;
use std::sync::OnceLock;

use libloading::Library;

use super::super::kernel::Launch;

type Emulate = unsafe extern "C" fn(i32, *const *mut f32, *const i32, f32, i32, i32, i32) -> i64;

/// The library, compiled once. `None` where there is no C compiler, or the test is a static program, which loads no
/// libraries; that is said.
fn library() -> Option<&'static Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    LIBRARY
        .get_or_init(|| {
            if cfg!(target_feature = "crt-static") {
                eprintln!("skipped: the kernels' functions (a static program loads no libraries)");
                return None;
            }
            let folder = tempfile::tempdir().expect("a temporary folder");
            let out = folder.path().join("emulate.so");
            let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda/kernels/emulate.c");
            let arguments = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC", source, "-o"];
            let status = match Command::new(&compiler).args(arguments).arg(&out).arg("-lm").status() {
                Ok(status) => status,
                Err(error) => {
                    eprintln!("skipped: the kernels' functions (no C compiler `{compiler}`: {error})");
                    return None;
                }
            };
            assert!(status.success(), "the kernels' functions do not compile as C");
            // SAFETY: the library was just compiled from our source, and runs nothing when it is loaded.
            #[expect(unsafe_code, reason = "loading a library")]
            Some(unsafe { Library::new(&out) }.expect("a library"))
        })
        .as_ref()
}

/// Runs the threads of a launch on `pointers`, with values rounded to f16 where they are on a GPU if `rounding`; returns how many values
/// were stored, `None` without the library.
///
/// Each pointer must lead to as many values as the launch has a right to.
pub(super) fn emulate(launch: &Launch, pointers: &[*mut f32], rounding: bool) -> Option<i64> {
    let library = library()?;
    assert_eq!(pointers.len(), launch.places.len());
    // SAFETY: `emulate.c` declares this function with these types; it takes the pointers and integers of the kernel,
    // in its order, which is the order of a launch. The tests give it buffers that a launch may use.
    #[expect(unsafe_code, reason = "a function of C")]
    Some(unsafe {
        let emulate = library.get::<Emulate>(b"emulate").expect("a function");
        let (integers, number) = (launch.integers.as_ptr(), launch.number.unwrap_or(0.0));
        let (blocks, threads) = launch.dimensions();
        let (blocks, threads) = (blocks as i32, threads as i32);
        emulate(launch.kernel as i32, pointers.as_ptr(), integers, number, rounding.into(), blocks, threads)
    })
}

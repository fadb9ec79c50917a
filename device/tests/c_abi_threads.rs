//! The interface for C from several threads at once.
#![cfg(feature = "c-abi")]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::ptr::null;

use headroom_device::c_abi::{
    HeadroomModel, HeadroomSession, HeadroomSizes, HeadroomStatus, headroom_model_close, headroom_model_open,
    headroom_model_sizes, headroom_session_close, headroom_session_infer_pixels, headroom_session_new,
};

mod random_bundle;
mod random_model;

use random_bundle::tiny;
use random_model::noise;

/// Handles go from thread to thread as C programs pass them.
struct Shared<T>(*mut T);

// Derived, these would hold for handles of copyable values only.
impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: the interface allows models and sessions to be used by several threads at once.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

fn open() -> (Shared<HeadroomModel>, HeadroomSizes) {
    let folder = tempfile::tempdir().unwrap();
    random_bundle::write(folder.path(), &tiny(), 1, 3);
    let path = CString::new(folder.path().as_os_str().as_bytes()).unwrap();
    let mut model = std::ptr::null_mut();
    let mut sizes = HeadroomSizes { pixels: 0, channels: 0, height: 0, width: 0, embedding: 0, classes: 0, rungs: 0 };
    // SAFETY: all pointers are those of live values.
    unsafe {
        assert_eq!(headroom_model_open(path.as_ptr(), 0, null(), &mut model), HeadroomStatus::Ok);
        assert_eq!(headroom_model_sizes(model, &mut sizes), HeadroomStatus::Ok);
    }
    (Shared(model), sizes)
}

fn session(model: Shared<HeadroomModel>) -> Shared<HeadroomSession> {
    let mut session = std::ptr::null_mut();
    // SAFETY: the model is open.
    assert_eq!(unsafe { headroom_session_new(model.0, &mut session) }, HeadroomStatus::Ok);
    Shared(session)
}

fn infer(session: Shared<HeadroomSession>, sizes: HeadroomSizes, rung: usize) -> (HeadroomStatus, Vec<f32>) {
    let pixels: Vec<f32> = noise(7, sizes.pixels).collect();
    let mut embedding = vec![0.0; sizes.embedding];
    let (input, output) = (pixels.as_ptr(), embedding.as_mut_ptr());
    let none = std::ptr::null_mut();
    // SAFETY: the session is open and the buffers are as long as is said.
    let status = unsafe {
        headroom_session_infer_pixels(session.0, rung, input, pixels.len(), output, sizes.embedding, none, 0)
    };
    (status, embedding)
}

#[test]
fn threads_share_a_model_and_compute_the_same_each_with_a_session() {
    let (model, sizes) = open();
    let expected: Vec<Vec<f32>> = {
        let own = session(model);
        let all = (0..sizes.rungs).map(|rung| infer(own, sizes, rung).1).collect();
        // SAFETY: nobody uses it any more.
        unsafe { headroom_session_close(own.0) };
        all
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let expected = &expected;
            scope.spawn(move || {
                let own = session(model);
                for turn in 0..50 {
                    let rung = (thread + turn) % sizes.rungs;
                    assert_eq!(infer(own, sizes, rung), (HeadroomStatus::Ok, expected[rung].clone()));
                }
                // SAFETY: only this thread has it.
                unsafe { headroom_session_close(own.0) };
            });
        }
    });
    // SAFETY: nobody uses it any more.
    unsafe { headroom_model_close(model.0) };
}

#[test]
fn threads_that_share_a_session_are_served_or_told_that_it_is_busy() {
    let (model, sizes) = open();
    let shared = session(model);
    let expected = infer(shared, sizes, 1).1;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let (status, embedding) = infer(shared, sizes, 1);
                    match status {
                        HeadroomStatus::Ok => assert_eq!(embedding, expected),
                        other => assert_eq!(other, HeadroomStatus::Busy),
                    }
                }
            });
        }
    });
    // SAFETY: all threads have ended.
    unsafe {
        headroom_session_close(shared.0);
        headroom_model_close(model.0);
    }
}

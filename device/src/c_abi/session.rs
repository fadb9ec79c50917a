//! Inference at a rung that the caller names.

use std::sync::{Arc, Mutex, TryLockError};

use super::model::{HeadroomModel, OpenModel};
use super::pointer::{self, Output, Outputs};
use super::status::{Failure, HeadroomStatus, guarded};
use crate::images::RgbImage;
use crate::rung_engine::{RungOutput, RungWorkspace};

/// The buffers of one inference at a time; a thread that infers has one of its own. It keeps its model open.
pub struct HeadroomSession {
    model: Arc<OpenModel>,
    workspace: Mutex<RungWorkspace>,
}

/// Makes a session of a model.
///
/// # Safety
/// `model` is null or open; `session` is null or room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_session_new(
    model: *const HeadroomModel,
    session: *mut *mut HeadroomSession,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, model) = unsafe { (Output::new(session, "session")?, pointer::reference(model, "model")?) };
        let model = Arc::clone(&model.0);
        let workspace = Mutex::new(model.workspace());
        output.write(Box::into_raw(Box::new(HeadroomSession { model, workspace })));
        Ok(())
    })
}

/// Closes a session; null is none.
///
/// # Safety
/// `session` is null, or a session that was not closed and that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_session_close(session: *mut HeadroomSession) {
    guarded(|| {
        // SAFETY: the promise of this function's own caller.
        unsafe { pointer::close(session) };
        Ok(())
    });
}

/// Runs rung `rung` on one input of the model: normalised values, `[channels, height, width]`.
///
/// `embedding` takes `HeadroomSizes::embedding` values and `logits` `HeadroomSizes::classes`; either may be null with
/// size 0. A session that another thread is using answers `HEADROOM_STATUS_BUSY`.
///
/// # Safety
/// `session` is null or open; the buffers are null or have the sizes that are given for them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_session_infer_pixels(
    session: *const HeadroomSession,
    rung: usize,
    pixels: *const f32,
    pixel_count: usize,
    embedding: *mut f32,
    embedding_size: usize,
    logits: *mut f32,
    logits_size: usize,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promise of this function's own caller.
        let session = unsafe { pointer::reference(session, "session")? };
        let expected = session.model.engine.bundle().vit().pixels();
        // SAFETY: the promises of this function's own caller.
        let (results, pixels) = unsafe {
            let results = Results::new(session, embedding, embedding_size, logits, logits_size)?;
            (results, pointer::values(pixels, pixel_count, expected, "pixels")?)
        };
        session.with_workspace(|workspace| {
            workspace.set_pixels(pixels).map_err(|error| Failure::of(HeadroomStatus::Inference, &error))?;
            session.infer(workspace, rung, results)
        })
    })
}

/// Runs rung `rung` on one image of any size: rows from top to bottom without gaps, three bytes a pixel, red first. The
/// image is resized, cropped and normalised as the model's evaluation does.
///
/// The outputs are those of `headroom_session_infer_pixels`.
///
/// # Safety
/// As of `headroom_session_infer_pixels`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_session_infer_rgb8(
    session: *const HeadroomSession,
    rung: usize,
    rgb: *const u8,
    byte_count: usize,
    width: u32,
    height: u32,
    embedding: *mut f32,
    embedding_size: usize,
    logits: *mut f32,
    logits_size: usize,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (session, image) =
            unsafe { (pointer::reference(session, "session")?, rgb_image(rgb, byte_count, width, height)?) };
        // SAFETY: the promises of this function's own caller.
        let results = unsafe { Results::new(session, embedding, embedding_size, logits, logits_size)? };
        session.with_workspace(|workspace| {
            workspace.set_image(&image).map_err(|error| Failure::of(HeadroomStatus::Inference, &error))?;
            session.infer(workspace, rung, results)
        })
    })
}

/// An image of the caller, copied.
///
/// # Safety
/// `rgb` is null, or points to `byte_count` bytes.
pub(super) unsafe fn rgb_image(
    rgb: *const u8,
    byte_count: usize,
    width: u32,
    height: u32,
) -> Result<RgbImage, Failure> {
    let bytes = u64::from(width) * u64::from(height);
    let expected = bytes.checked_mul(3).and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    let wrong = || Failure::new(HeadroomStatus::WrongSize, format!("an image of {width} x {height} pixels"));
    let expected = expected.filter(|bytes| isize::try_from(*bytes).is_ok()).ok_or_else(wrong)?;
    // SAFETY: the promise of this function's own caller; more than `isize::MAX` bytes were just refused.
    let bytes = unsafe { pointer::values(rgb, byte_count, expected, "rgb")? };
    RgbImage::from_raw(width, height, bytes.to_vec()).ok_or_else(wrong)
}

/// Where the caller wants the outputs.
struct Results {
    embedding: Outputs<f32>,
    logits: Outputs<f32>,
}

impl Results {
    /// # Safety
    /// The pointers are null or have room for as many values as is said.
    unsafe fn new(
        session: &HeadroomSession,
        embedding: *mut f32,
        embedding_size: usize,
        logits: *mut f32,
        logits_size: usize,
    ) -> Result<Self, Failure> {
        let vit = session.model.engine.bundle().vit();
        // SAFETY: the promises of this function's own caller.
        unsafe {
            Ok(Self {
                embedding: Outputs::new(embedding, embedding_size, vit.embed_dim(), "embedding")?,
                logits: Outputs::new(logits, logits_size, vit.classes().unwrap_or(0), "logits")?,
            })
        }
    }

    fn write(self, computed: &RungOutput<'_>) {
        self.embedding.write(computed.embedding);
        self.logits.write(computed.logits.unwrap_or_default());
    }
}

impl HeadroomSession {
    fn with_workspace(&self, body: impl FnOnce(&mut RungWorkspace) -> Result<(), Failure>) -> Result<(), Failure> {
        match self.workspace.try_lock() {
            Ok(mut workspace) => body(&mut workspace),
            Err(TryLockError::WouldBlock) => {
                let message = "another thread is using the session; each thread needs its own";
                Err(Failure::new(HeadroomStatus::Busy, message))
            }
            Err(TryLockError::Poisoned(poisoned)) => {
                // After a panic the buffers are of no use.
                let mut workspace = poisoned.into_inner();
                *workspace = self.model.workspace();
                self.workspace.clear_poison();
                body(&mut workspace)
            }
        }
    }

    fn infer(&self, workspace: &mut RungWorkspace, rung: usize, results: Results) -> Result<(), Failure> {
        self.model.rung(rung)?;
        let refused = |error| Failure::of(HeadroomStatus::Inference, &error);
        results.write(&self.model.engine.infer(workspace, rung).map_err(refused)?);
        Ok(())
    }
}

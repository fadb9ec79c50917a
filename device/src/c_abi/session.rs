//! Inference at a rung that the caller names.

use std::sync::{Arc, Mutex, TryLockError};

use super::model::{HeadroomModel, OpenModel};
use super::pointer::{self, Output, Outputs};
use super::status::{Failure, HeadroomStatus, guarded};
use crate::engine::{Output as Computed, Workspace};
use crate::images::{Preprocessor, RgbImage};
use crate::switch::RungTable;

/// The buffers of one inference at a time; a thread that infers has one of its own. It keeps its model open.
pub struct HeadroomSession {
    model: Arc<OpenModel>,
    table: RungTable,
    buffers: Mutex<Buffers>,
}

struct Buffers {
    workspace: Workspace,
    /// Absent for models whose input is no RGB image; the text says why.
    preprocessor: Result<Preprocessor, String>,
    pixels: Vec<f32>,
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
        let buffers = Mutex::new(Buffers::new(&model));
        let table = RungTable::new(&model.bundle.structure_map());
        output.write(Box::into_raw(Box::new(HeadroomSession { model, table, buffers })));
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
        let expected = session.model.bundle.vit().pixels();
        // SAFETY: the promises of this function's own caller.
        let (results, pixels) = unsafe {
            let results = Results::new(session, embedding, embedding_size, logits, logits_size)?;
            (results, pointer::values(pixels, pixel_count, expected, "pixels")?)
        };
        session.with_buffers(|buffers| session.infer(&mut buffers.workspace, pixels, rung, results))
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
        session.with_buffers(|Buffers { workspace, preprocessor, pixels }| {
            let refused = |text: &str| Failure::new(HeadroomStatus::Inference, text);
            let preprocessor = preprocessor.as_mut().map_err(|text| refused(text))?;
            preprocessor.evaluation_into(&image, pixels).map_err(|error| refused(&error.to_string()))?;
            session.infer(workspace, pixels, rung, results)
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
        let vit = session.model.bundle.vit();
        // SAFETY: the promises of this function's own caller.
        unsafe {
            Ok(Self {
                embedding: Outputs::new(embedding, embedding_size, vit.embed_dim(), "embedding")?,
                logits: Outputs::new(logits, logits_size, vit.classes().unwrap_or(0), "logits")?,
            })
        }
    }

    fn write(self, computed: &Computed<'_>) {
        self.embedding.write(computed.pooled);
        self.logits.write(computed.logits.unwrap_or_default());
    }
}

impl Buffers {
    fn new(model: &OpenModel) -> Self {
        let bundle = &model.bundle;
        Self {
            workspace: bundle.vit().workspace_with_threads(1, model.threads),
            preprocessor: Preprocessor::new(&bundle.description().image).map_err(|error| error.to_string()),
            pixels: vec![0.0; bundle.vit().pixels()],
        }
    }
}

impl HeadroomSession {
    fn with_buffers(&self, body: impl FnOnce(&mut Buffers) -> Result<(), Failure>) -> Result<(), Failure> {
        match self.buffers.try_lock() {
            Ok(mut buffers) => body(&mut buffers),
            Err(TryLockError::WouldBlock) => {
                let message = "another thread is using the session; each thread needs its own";
                Err(Failure::new(HeadroomStatus::Busy, message))
            }
            Err(TryLockError::Poisoned(poisoned)) => {
                // After a panic the buffers are of no use.
                let mut buffers = poisoned.into_inner();
                *buffers = Buffers::new(&self.model);
                self.buffers.clear_poison();
                body(&mut buffers)
            }
        }
    }

    fn infer(&self, workspace: &mut Workspace, pixels: &[f32], rung: usize, results: Results) -> Result<(), Failure> {
        self.model.rung(rung)?;
        let bundle = &self.model.bundle;
        let kept = bundle.corrected(rung, &self.table.sub_networks()[rung]);
        let refused = |error| Failure::of(HeadroomStatus::Inference, &error);
        results.write(&bundle.vit().embed(workspace, pixels, 1, &kept).map_err(refused)?);
        Ok(())
    }
}

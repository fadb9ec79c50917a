//! How a GPU is opened, how values get there, and what memory it has left.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaEvent, CudaSlice, CudaStream, DriverError, PinnedHostSlice, result, sys,
};
use candle_core::{CudaDevice, Device, Result};

/// One part in so many of a GPU's memory may stay reserved for what is allocated next, rather than go back to the system
/// whenever the host waits for the GPU, which is what happens otherwise and takes longer than many kernels.
const PART_KEPT_RESERVED: usize = 2;

/// GPU `index`, with one stream for all threads: with one for each, what a thread uploads would not wait for, nor be waited
/// for by, what another one computes.
pub fn open(index: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(index)?;
    let cuda = device.as_cuda_device()?;
    #[expect(unsafe_code, reason = "cudarc's default suits several streams, and takes longer than small kernels")]
    // SAFETY: events order the streams that use a tensor, and here is one: candle queues all that it does with this device,
    // copies included, in the stream that was made for it above. Page-locked memory, which is freed by the host, has
    // [`BeingCopied`].
    unsafe {
        cuda.disable_event_tracking();
    }
    // It only saves time, and some virtual GPUs have no pools.
    let _ = keep_reserved(cuda.cuda_stream().context());
    Ok(device)
}

/// Page-locked memory of the host that a GPU may be reading still. Dropping it waits until that is done.
#[derive(Debug)]
pub struct BeingCopied {
    done: CudaEvent,
    /// cudarc's own event of this memory is not recorded without event tracking.
    _memory: PinnedHostSlice<f32>,
}

impl BeingCopied {
    /// Starts to copy `values` to the GPU.
    pub fn start(stream: &Arc<CudaStream>, values: &[f32]) -> std::result::Result<(CudaSlice<f32>, Self), DriverError> {
        #[expect(unsafe_code, reason = "cudarc has no safe way to page-locked memory")]
        // SAFETY: the memory is uninitialised until the next line writes all of it.
        let mut memory = unsafe { stream.context().alloc_pinned::<f32>(values.len()) }?;
        memory.as_mut_slice()?.copy_from_slice(values);
        let started = stream.clone_htod(&memory).and_then(|there| Ok((there, stream.record_event(None)?)));
        let (there, done) = started.inspect_err(|_| {
            // A copy may have started before what failed. If this fails too, the GPU is lost and reads nothing more.
            let _ = stream.synchronize();
        })?;
        Ok((there, Self { done, _memory: memory }))
    }
}

impl Drop for BeingCopied {
    fn drop(&mut self) {
        // The fields are dropped after this. If it fails the GPU is lost, and reads nothing more.
        let _ = self.done.synchronize();
    }
}

/// Free bytes: those of the GPU, and those that are reserved for this program and not in use.
pub fn free(device: &CudaDevice) -> Option<u64> {
    let stream = device.cuda_stream();
    let context = stream.context();
    let (free, _) = context.mem_get_info().ok()?;
    let reserved = attribute(context, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
    let used = attribute(context, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
    let unused = reserved.ok().zip(used.ok()).map_or(0, |(reserved, used)| reserved.saturating_sub(used));
    Some(free as u64 + unused)
}

fn keep_reserved(context: &CudaContext) -> std::result::Result<(), DriverError> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    let (_, total) = context.mem_get_info()?;
    let mut threshold = (total / PART_KEPT_RESERVED) as u64;
    #[expect(unsafe_code, reason = "cudarc has no safe way to memory pools")]
    // SAFETY: the device is the context's, every device has a pool, and this attribute is 64 bits (CUDA driver API,
    // `cuMemPoolSetAttribute`), which are read before the call returns.
    unsafe {
        let pool = result::device::get_mem_pool(context.cu_device())?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast())
    }
}

/// An attribute of the memory pool, of those that are 64 bits.
fn attribute(context: &CudaContext, attribute: sys::CUmemPool_attribute) -> std::result::Result<u64, DriverError> {
    let mut value = 0_u64;
    #[expect(unsafe_code, reason = "cudarc has no safe way to memory pools")]
    // SAFETY: as in `keep_reserved`; the driver writes 64 bits for these attributes.
    unsafe {
        let pool = result::device::get_mem_pool(context.cu_device())?;
        result::mem_pool::get_attribute(pool, attribute, (&raw mut value).cast())?;
    }
    Ok(value)
}

//! Runs the tables on a GPU: one CUDA graph for each rung.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use cudarc::cublas::{CudaBlas, sys as cublas};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PinnedHostSlice,
    PushKernelArg, sys,
};
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use half::f16;
use headroom_shared::{KeptStructures, TimeSpan};

use super::buffer::{Buffer, BufferSizes, Place, Storage};
use super::capability::ComputeCapability;
use super::error::{CudaError, driver};
use super::kernel::{FUNCTIONS, Kernel, Launch};
use super::libraries;
use super::plan::{Operation, Plan, Product, Stage, buffer_sizes};
use super::weights::LaidOutWeights;
use crate::model::Description;

/// What cuBLAS is given to work with, so that graphs allocate nothing: NVIDIA's recommendation for Hopper and later,
/// more than it asks for on earlier GPUs (cuBLAS documentation, `cublasSetWorkspace`).
const PRODUCT_WORKSPACE: usize = 32 << 20;

/// An elastic Vision Transformer on a GPU, for one image at a time.
pub struct CudaVit {
    device: String,
    driver: String,
    // Graphs come before what they use: fields are dropped in order.
    rungs: Vec<(Plan, CudaGraph)>,
    products: CudaBlas,
    /// Of the kernels that the GPU can run.
    functions: Vec<Option<CudaFunction>>,
    memory: Memory,
    stream: Arc<CudaStream>,
}

/// What an inference computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CudaOutput {
    /// The image embedding.
    pub pooled: Vec<f32>,
    /// Empty where the model has no classifier.
    pub logits: Vec<f32>,
    /// On the GPU alone, without the copies.
    pub time: TimeSpan,
}

impl fmt::Debug for CudaVit {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let mut debug = formatter.debug_struct("CudaVit");
        debug.field("device", &self.device).field("rungs", &self.rungs.len()).finish_non_exhaustive()
    }
}

impl CudaVit {
    /// Loads the weights to GPU `ordinal` and records the graph of each rung.
    ///
    /// # Errors
    /// If a library is missing or too old, the GPU has too little memory, or a rung cannot run on it.
    pub fn new<K: KeptStructures>(
        ordinal: usize,
        description: &Description,
        weights: &LaidOutWeights,
        rungs: &[K],
    ) -> Result<Self, CudaError> {
        let context = libraries::open(ordinal)?;
        let capability = capability(&context)?;
        let sizes = buffer_sizes(description, weights, 1, capability)?;
        let plan = |kept| Plan::new(description, weights, 1, kept, capability);
        let plans: Vec<Plan> = rungs.iter().map(plan).collect::<Result<_, _>>()?;
        let device = context.name().map_err(driver("telling its name"))?;
        let driver_name = libraries::driver_name()?;
        check_memory(&context, &device, &sizes)?;
        let compile = |kernel: Kernel| (capability >= kernel.needs()).then(|| compile(&context, kernel, capability));
        let functions = Kernel::ALL.map(|kernel| compile(kernel).transpose());
        let functions = functions.into_iter().collect::<Result<Vec<_>, _>>()?;
        let stream = context.new_stream().map_err(driver("making a stream"))?;
        let memory = Memory::new(&stream, sizes, weights)?;
        let products = CudaBlas::new(stream.clone()).map_err(|source| CudaError::Product { source })?;
        memory.give_workspace(&products)?;
        let mut vit = Self {
            device,
            driver: driver_name,
            rungs: Vec::with_capacity(plans.len()),
            products,
            functions,
            memory,
            stream,
        };
        for plan in plans {
            // The first run loads what is loaded late, which a recording may not.
            vit.enqueue(&plan)?;
            vit.stream.synchronize().map_err(driver("running a rung for the first time"))?;
            let graph = vit.record(&plan)?;
            vit.rungs.push((plan, graph));
        }
        Ok(vit)
    }

    /// The name of the GPU.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The latest CUDA that the driver runs, such as `CUDA 12.6`.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Runs rung `rung`, one of those that this was made with, on one image.
    ///
    /// # Errors
    /// If there is no such rung, the pixels are not one image, the GPU fails, or a value is not finite.
    pub fn infer(&mut self, pixels: &[f32], rung: usize) -> Result<CudaOutput, CudaError> {
        let expected = self.memory.sizes.values(Buffer::Pixels);
        if pixels.len() != expected {
            return Err(CudaError::Size { what: "pixel values", expected, found: pixels.len() });
        }
        let expected = self.rungs.len();
        let (plan, graph) = self.rungs.get(rung).ok_or(CudaError::Size { what: "rungs", expected, found: rung })?;
        self.memory.upload_pixels(&self.stream, pixels)?;
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let start = self.stream.record_event(timed).map_err(driver("starting an inference"))?;
        graph.launch().map_err(driver("starting an inference"))?;
        let end = self.stream.record_event(timed).map_err(driver("starting an inference"))?;
        let milliseconds = start.elapsed_ms(&end).map_err(driver("running an inference"))?;
        let has_classes = plan.operations.iter().any(|(stage, _)| *stage == Stage::Head);
        let output = CudaOutput {
            pooled: self.memory.download(&self.stream, Buffer::Pooled)?,
            logits: if has_classes { self.memory.download(&self.stream, Buffer::Logits)? } else { Vec::new() },
            time: TimeSpan::from_nanoseconds((f64::from(milliseconds) * 1e6) as u64),
        };
        if output.pooled.iter().chain(&output.logits).all(|value| value.is_finite()) {
            return Ok(output);
        }
        Err(CudaError::NotFinite { stage: self.first_not_finite(plan)? })
    }

    /// Runs the table stage by stage, up to the first that gives what is not finite.
    fn first_not_finite(&self, plan: &Plan) -> Result<Stage, CudaError> {
        let mut last = Stage::Embedding;
        for (operations, result) in plan.operations.chunk_by(|a, b| a.0 == b.0).zip(&plan.results) {
            operations.iter().try_for_each(|(_, operation)| self.enqueue_one(operation))?;
            let values = self.memory.download(&self.stream, result.buffer)?;
            if values[..result.values].iter().any(|value| !value.is_finite()) {
                return Ok(result.stage);
            }
            last = result.stage;
        }
        Ok(last)
    }

    fn record(&self, plan: &Plan) -> Result<CudaGraph, CudaError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(driver("recording a rung"))?;
        let enqueued = self.enqueue(plan);
        // A recording must be ended even where it failed.
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = self.stream.end_capture(flags).map_err(driver("recording a rung"));
        enqueued?;
        let graph = graph?.ok_or(CudaError::Size { what: "operations of a rung", expected: 1, found: 0 })?;
        graph.upload().map_err(driver("uploading a rung's graph"))?;
        Ok(graph)
    }

    fn enqueue(&self, plan: &Plan) -> Result<(), CudaError> {
        plan.operations.iter().try_for_each(|(_, operation)| self.enqueue_one(operation))
    }

    fn enqueue_one(&self, operation: &Operation) -> Result<(), CudaError> {
        match operation {
            Operation::Product(product) => self.enqueue_product(product),
            Operation::Kernel(launch) => self.enqueue_kernel(launch),
            Operation::Zeros { buffer, values } => {
                let bytes = values * bytes_of(*buffer);
                // SAFETY: the plan zeroes no more values than the buffer has.
                #[expect(unsafe_code, reason = "a function of the driver")]
                let zeroed = unsafe {
                    cudarc::driver::result::memset_d8_async(
                        self.memory.address(buffer.at(0)),
                        0,
                        bytes,
                        self.stream.cu_stream(),
                    )
                };
                zeroed.map_err(driver("clearing a buffer"))
            }
        }
    }

    fn enqueue_kernel(&self, launch: &Launch) -> Result<(), CudaError> {
        let (blocks, threads) = launch.dimensions();
        let addresses: Vec<u64> = launch.places.iter().map(|&place| self.memory.address(place)).collect();
        let function = self.functions[launch.kernel as usize].as_ref();
        let function = function.expect("a plan has the kernels that the GPU can run");
        let mut builder = self.stream.launch_builder(function);
        for address in &addresses {
            builder.arg(address);
        }
        for integer in &launch.integers {
            builder.arg(integer);
        }
        if let Some(number) = &launch.number {
            builder.arg(number);
        }
        let shape = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: a launch has the kernel's parameters in their order, and its sizes are those of the buffers, which the
        // tests show for the tables of random models.
        #[expect(unsafe_code, reason = "a kernel")]
        unsafe { builder.launch(shape) }.map_err(driver("starting a kernel"))?;
        Ok(())
    }

    /// cuBLAS counts columns first: to it, the product of row-major matrices is the transposed one.
    fn enqueue_product(&self, product: &Product) -> Result<(), CudaError> {
        let integer = |value: usize| i32::try_from(value).expect("sizes of buffers that are checked to be smaller");
        let of = |place: Place| self.memory.address(place) as *mut c_void;
        let &Product { weight, input, output, .. } = product;
        let transpose = if product.transposed {
            cublas::cublasOperation_t::CUBLAS_OP_N
        } else {
            cublas::cublasOperation_t::CUBLAS_OP_T
        };
        let beta = if product.accumulate { 1.0_f32 } else { 0.0 };
        // SAFETY: the matrices lie in buffers that outlive the call, which the tests show for the tables of random models;
        // scale and beta are read before the call returns.
        #[expect(unsafe_code, reason = "a function of cuBLAS")]
        let enqueued = unsafe {
            cudarc::cublas::result::gemm_strided_batched_ex(
                *self.products.handle(),
                transpose,
                cublas::cublasOperation_t::CUBLAS_OP_N,
                integer(product.outputs),
                integer(product.rows),
                integer(product.inputs),
                (&raw const product.scale).cast(),
                of(weight.place),
                type_of(weight.place.buffer),
                integer(weight.leading),
                weight.stride as i64,
                of(input.place),
                type_of(input.place.buffer),
                integer(input.leading),
                input.stride as i64,
                (&raw const beta).cast(),
                of(output.place),
                type_of(output.place.buffer),
                integer(output.leading),
                output.stride as i64,
                integer(product.count),
                cublas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        enqueued.map_err(|source| CudaError::Product { source })
    }
}

fn bytes_of(buffer: Buffer) -> usize {
    match buffer.storage() {
        Storage::F16 => 2,
        Storage::F32 => 4,
    }
}

fn type_of(buffer: Buffer) -> cublas::cudaDataType {
    match buffer.storage() {
        Storage::F16 => cublas::cudaDataType::CUDA_R_16F,
        Storage::F32 => cublas::cudaDataType::CUDA_R_32F,
    }
}

/// Refuses a model that does not fit, before anything is allocated.
fn check_memory(context: &CudaContext, device: &str, sizes: &BufferSizes) -> Result<(), CudaError> {
    let (free, _) = context.mem_get_info().map_err(driver("telling its free memory"))?;
    let needed = sizes.bytes() + PRODUCT_WORKSPACE;
    let megabytes = |bytes: usize| bytes / 1_000_000;
    if needed <= free {
        return Ok(());
    }
    Err(CudaError::MemoryTooSmall { device: device.into(), free: megabytes(free), needed: megabytes(needed) })
}

fn capability(context: &CudaContext) -> Result<ComputeCapability, CudaError> {
    let (major, minor) = context.compute_capability().map_err(driver("telling its architecture"))?;
    // A driver tells no negative ones.
    Ok(ComputeCapability { major: major.unsigned_abs(), minor: minor.unsigned_abs() })
}

fn compile(
    context: &Arc<CudaContext>,
    kernel: Kernel,
    ComputeCapability { major, minor }: ComputeCapability,
) -> Result<CudaFunction, CudaError> {
    let options = CompileOptions {
        options: vec![format!("--gpu-architecture=compute_{major}{minor}")],
        name: Some(kernel.name().into()),
        ..CompileOptions::default()
    };
    let program = compile_ptx_with_opts(format!("{FUNCTIONS}{}", kernel.source()), options)
        .map_err(|source| CudaError::Compile { kernel: kernel.name(), source })?;
    let module = context.load_module(program).map_err(driver("loading a kernel"))?;
    module.load_function(kernel.name()).map_err(driver("loading a kernel"))
}

/// Zeros in page-locked memory of the host.
fn page_locked(context: &Arc<CudaContext>, values: usize) -> Result<PinnedHostSlice<f32>, CudaError> {
    let locking = || driver("locking memory for images");
    // SAFETY: the memory is uninitialised until the next line writes all of it.
    #[expect(unsafe_code, reason = "cudarc has no safe way to page-locked memory")]
    let mut memory = unsafe { context.alloc_pinned::<f32>(values) }.map_err(locking())?;
    memory.as_mut_slice().map_err(locking())?.fill(0.0);
    Ok(memory)
}

/// All buffers on the GPU.
struct Memory {
    sizes: BufferSizes,
    buffers: Vec<CudaSlice<u8>>,
    addresses: Vec<u64>,
    /// An image on its way: page-locked, so that the GPU reads it by itself.
    pixels: PinnedHostSlice<f32>,
    product_workspace: CudaSlice<u8>,
    workspace_address: u64,
}

impl Memory {
    fn new(stream: &Arc<CudaStream>, sizes: BufferSizes, weights: &LaidOutWeights) -> Result<Self, CudaError> {
        let allocate = |bytes: usize| stream.alloc_zeros::<u8>(bytes).map_err(driver("allocating memory"));
        let buffers = Buffer::ALL.map(|buffer| allocate(sizes.values(buffer) * bytes_of(buffer)));
        let buffers = buffers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let product_workspace = allocate(PRODUCT_WORKSPACE)?;
        let address = |slice: &CudaSlice<u8>| slice.device_ptr(stream).0;
        let addresses = buffers.iter().map(address).collect();
        let workspace_address = address(&product_workspace);
        let pixels = page_locked(stream.context(), sizes.values(Buffer::Pixels))?;
        let mut memory = Self { sizes, buffers, addresses, pixels, product_workspace, workspace_address };
        let matrices: Vec<u16> = weights.matrices.iter().map(|&value| f16::from_f32(value).to_bits()).collect();
        memory.upload(stream, Buffer::Matrices, bytemuck::cast_slice(&matrices))?;
        memory.upload(stream, Buffer::Vectors, bytemuck::cast_slice(&weights.vectors))?;
        // The values are this function's own until the copies are done.
        stream.synchronize().map_err(driver("loading the weights"))?;
        Ok(memory)
    }

    fn give_workspace(&self, products: &CudaBlas) -> Result<(), CudaError> {
        let address = self.workspace_address as *mut c_void;
        // SAFETY: the workspace lives as long as the buffers, which are dropped after cuBLAS.
        #[expect(unsafe_code, reason = "a function of cuBLAS")]
        let given =
            unsafe { cublas::cublasSetWorkspace_v2(*products.handle(), address, self.product_workspace.num_bytes()) };
        given.result().map_err(|source| CudaError::Product { source })
    }

    fn address(&self, place: Place) -> u64 {
        self.addresses[place.buffer as usize] + (place.offset * bytes_of(place.buffer)) as u64
    }

    fn upload(&mut self, stream: &Arc<CudaStream>, buffer: Buffer, bytes: &[u8]) -> Result<(), CudaError> {
        stream.memcpy_htod(bytes, &mut self.buffers[buffer as usize]).map_err(driver("copying to the GPU"))
    }

    /// As many pixels as the model takes.
    fn upload_pixels(&mut self, stream: &Arc<CudaStream>, pixels: &[f32]) -> Result<(), CudaError> {
        let copying = || driver("copying an image to the GPU");
        // Waits until the image before is there.
        self.pixels.as_mut_slice().map_err(copying())?.copy_from_slice(pixels);
        // SAFETY: any f32 is four bytes of u8, and the view is dropped before the buffer is used as another type.
        #[expect(unsafe_code, reason = "buffers are bytes")]
        let buffer = unsafe { self.buffers[Buffer::Pixels as usize].transmute_mut::<f32>(pixels.len()) };
        let mut buffer = buffer.ok_or(CudaError::Size {
            what: "pixel values",
            expected: self.sizes.values(Buffer::Pixels),
            found: pixels.len(),
        })?;
        stream.memcpy_htod(&self.pixels, &mut buffer).map_err(copying())
    }

    /// A buffer of f32, once all before is done.
    fn download(&self, stream: &Arc<CudaStream>, buffer: Buffer) -> Result<Vec<f32>, CudaError> {
        let bytes = stream.clone_dtoh(&self.buffers[buffer as usize]).map_err(driver("copying from the GPU"))?;
        stream.synchronize().map_err(driver("copying from the GPU"))?;
        Ok(bytes.chunks_exact(4).map(|value| f32::from_ne_bytes([value[0], value[1], value[2], value[3]])).collect())
    }
}

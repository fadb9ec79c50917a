/* The interface of Headroom for C and C++. Generated from device/src/c_abi: do not edit.
 *
 * Functions return a HeadroomStatus; headroom_last_error() says what went wrong. Outputs are
 * written only on HEADROOM_STATUS_OK, unless a function says otherwise. Null and unaligned pointers
 * and wrong sizes are refused. Handles may be used by several threads at once; closing one is the
 * last thing that happens to it. device/examples/c/classify.c is a whole program.
 *
 * Where the trust policy /etc/headroom/trust.toml exists, only bundles that it admits are opened
 * (docs/trust.md). A caller cannot name another policy.
 */

#ifndef HEADROOM_H
#define HEADROOM_H

#include <stddef.h>
#include <stdint.h>

// The version of this interface. Functions and constants are only ever added within a version.
#define HEADROOM_ABI_VERSION 1

// Newest wins, for cameras: the oldest waiting request of the client is answered `HEADROOM_STATUS_DROPPED`.
#define HEADROOM_WHEN_FULL_DROP_OLDEST 0

// The new request is answered `HEADROOM_STATUS_QUEUE_FULL`.
#define HEADROOM_WHEN_FULL_REFUSE 1

// Submitting waits for room.
#define HEADROOM_WHEN_FULL_WAIT 2

// `HeadroomReading::known`: an inference has ended.
#define HEADROOM_READING_INFERENCE 1

// `HeadroomReading::known`: this is a pass over the sensors; those that are not known are missing.
#define HEADROOM_READING_SENSORS 2

// `HeadroomReading::known`: `temperature_millidegrees` was read.
#define HEADROOM_READING_TEMPERATURE 4

// `HeadroomReading::known`: `power_milliwatts` was read.
#define HEADROOM_READING_POWER 8

// `HeadroomReading::known`: `throttled` was read.
#define HEADROOM_READING_THROTTLED 16

// `HeadroomReading::known`: the over-current rates were read.
#define HEADROOM_READING_OVER_CURRENT 32

// `HeadroomReading::known`: `charge_percent` was read.
#define HEADROOM_READING_CHARGE 64

// `HeadroomLimits::set`: `deadline_nanoseconds` and `miss_rate` are limits.
#define HEADROOM_LIMIT_DEADLINE 1

// `HeadroomLimits::set`: `power_milliwatts` is a limit.
#define HEADROOM_LIMIT_POWER 2

// `HeadroomLimits::set`: the temperatures are limits.
#define HEADROOM_LIMIT_TEMPERATURE 4

// `HeadroomLimits::set`: `energy_microjoules` is a limit.
#define HEADROOM_LIMIT_ENERGY 8

// `HeadroomLimits::set`: `minimum_fidelity` is a limit.
#define HEADROOM_LIMIT_FIDELITY 16

// `HeadroomBudget::set`: `macs` is a limit.
#define HEADROOM_BUDGET_MACS 1

// `HeadroomBudget::set`: `latency_nanoseconds` is a limit.
#define HEADROOM_BUDGET_LATENCY 2

// `HeadroomBudget::set`: `energy_microjoules` is a limit.
#define HEADROOM_BUDGET_ENERGY 4

// `HeadroomBudget::set`: `power_milliwatts` is a limit.
#define HEADROOM_BUDGET_POWER 8

// `precision`: 32-bit floating point.
#define HEADROOM_PRECISION_F32 0

// `precision`: the eight-bit integers of the bundle's `model.int8`. Pixels become the nearest 8-bit image.
#define HEADROOM_PRECISION_INT8 1

// `HeadroomOptions::sensors`: none are read; only latency governs.
#define HEADROOM_SENSORS_NONE 0

// `HeadroomOptions::sensors`: those that the bundle's board profile names. The device is the one of the bundle.
#define HEADROOM_SENSORS_OF_BOARD 1

// `HeadroomOptions::sensors`: whatever this machine has. The device is another than the bundle was made for.
#define HEADROOM_SENSORS_OF_MACHINE 2

// How a call ended.
typedef enum {
  HEADROOM_STATUS_OK = 0,
  // A pointer is null or not aligned.
  HEADROOM_STATUS_INVALID_POINTER = 1,
  // A buffer or image has another size than is needed.
  HEADROOM_STATUS_WRONG_SIZE = 2,
  // A text is not UTF-8, or a number is out of its range.
  HEADROOM_STATUS_INVALID_ARGUMENT = 3,
  // The bundle is refused.
  HEADROOM_STATUS_BUNDLE = 4,
  // The measured profiles are refused.
  HEADROOM_STATUS_MEASURED_PROFILE = 5,
  // The ladder has no such rung.
  HEADROOM_STATUS_NO_SUCH_RUNG = 6,
  // No rung fits the budget.
  HEADROOM_STATUS_NOTHING_FITS = 7,
  // The engine or the preprocessing refuses the input.
  HEADROOM_STATUS_INFERENCE = 8,
  // The limits make no sense, or not together.
  HEADROOM_STATUS_LIMITS = 9,
  // Another thread is using the session.
  HEADROOM_STATUS_BUSY = 10,
  // A newer request of the same client took the place of this one.
  HEADROOM_STATUS_DROPPED = 11,
  // There is no room for another request.
  HEADROOM_STATUS_QUEUE_FULL = 12,
  // The runtime has stopped or is about to.
  HEADROOM_STATUS_STOPPED = 13,
  // Nothing was answered in time.
  HEADROOM_STATUS_TIMED_OUT = 14,
  // The operating system refused something.
  HEADROOM_STATUS_SYSTEM = 15,
  // A defect of the library.
  HEADROOM_STATUS_INTERNAL = 16,
} HeadroomStatus;

// Which limit bound.
typedef enum {
  // None: the rung of the highest fidelity runs.
  HEADROOM_BINDING_NOTHING = 0,
  HEADROOM_BINDING_DEADLINE = 1,
  HEADROOM_BINDING_POWER = 2,
  HEADROOM_BINDING_TEMPERATURE = 3,
  HEADROOM_BINDING_ENERGY = 4,
  // A smaller rung would fit better, but is of no use to the caller.
  HEADROOM_BINDING_MINIMUM_FIDELITY = 5,
  // A larger rung fits, but has not for long enough.
  HEADROOM_BINDING_HYSTERESIS = 6,
  // A sensor that a limit needs is lost.
  HEADROOM_BINDING_LOST_SENSOR = 7,
  // A part is too hot to wait for anything.
  HEADROOM_BINDING_EMERGENCY = 8,
} HeadroomBinding;

// The state of the governor.
typedef enum {
  HEADROOM_MODE_NORMAL = 0,
  // A sensor is lost: the safe rung runs.
  HEADROOM_MODE_SAFE = 1,
  // Too hot: the smallest rung runs, paced, until every part is back at its target.
  HEADROOM_MODE_EMERGENCY = 2,
} HeadroomMode;

// Somebody who sends requests, such as one camera. Several threads may submit; one at a time receives.
typedef struct HeadroomClient HeadroomClient;

// A governor with what it remembers.
typedef struct HeadroomGovernor HeadroomGovernor;

// An opened bundle. Immutable: any number of threads and sessions share one.
typedef struct HeadroomModel HeadroomModel;

// A bundle that serves.
typedef struct HeadroomRuntime HeadroomRuntime;

// The buffers of one inference at a time; a thread that infers has one of its own. It keeps its model open.
typedef struct HeadroomSession HeadroomSession;

// What is known about an inference besides its outputs.
typedef struct {
  // The number that the request was submitted with.
  uint64_t request;
  // The rung that ran, from the first block to the last.
  uint32_t rung;
  // Of the rung to the dense model, as measured by the host.
  float fidelity;
  uint64_t macs;
  // From the start of the computation to its end, without preprocessing.
  uint64_t latency_nanoseconds;
  // From the acceptance of the request to the start of the computation.
  uint64_t queued_nanoseconds;
} HeadroomReply;

// What inference may cost; any subset may be set.
typedef struct {
  // Which of the other fields are limits: a sum of `HEADROOM_LIMIT_*`.
  uint32_t set;
  // The share of inferences that may take longer than the deadline: above 0, below 1.
  float miss_rate;
  uint64_t deadline_nanoseconds;
  // The most that the whole board may draw on average.
  uint32_t power_milliwatts;
  // Where the governor holds the board.
  int32_t target_millidegrees;
  // Where the kernel starts to cut clocks.
  int32_t passive_millidegrees;
  // Where the kernel, or the hardware, shuts down.
  int32_t critical_millidegrees;
  // The most that one inference may take.
  uint64_t energy_microjoules;
  // The least fidelity that is of use, -1 to 1.
  float minimum_fidelity;
} HeadroomLimits;

// What is new since the last step.
typedef struct {
  // Which of the other fields are known: a sum of `HEADROOM_READING_*`.
  uint32_t known;
  // The rung of the inference that has ended.
  uint32_t inference_rung;
  // From the start of its computation to its end.
  uint64_t inference_nanoseconds;
  // Of the hottest zone that clocks depend on.
  int32_t temperature_millidegrees;
  // Of the whole board.
  uint32_t power_milliwatts;
  // Under-voltage or average-power events a second.
  float sustained_over_current;
  // Instantaneous-power events a second.
  float instantaneous_over_current;
  // Not 0 while the kernel cuts clocks.
  uint8_t throttled;
  // What is left in the battery, 0 to 100.
  uint8_t charge_percent;
} HeadroomReading;

// The outcome of one step.
typedef struct {
  // The rung for the inferences that start from now on.
  uint32_t rung;
  HeadroomBinding binding;
  HeadroomMode mode;
  // How much slower than its profile the board is: mean and standard deviation.
  float slowdown;
  float slowdown_standard_deviation;
  // What the board may draw; only where `has_power_budget` is 1.
  uint32_t power_budget_milliwatts;
  // The least time between the starts of two inferences.
  uint64_t pace_nanoseconds;
  // 1 where heat or a cap limits the power.
  uint8_t has_power_budget;
} HeadroomDecision;

// Sizes of a model; each a number of values, but for height, width and rungs.
typedef struct {
  // Of one input: channels x height x width.
  size_t pixels;
  size_t channels;
  size_t height;
  size_t width;
  // Of an image embedding.
  size_t embedding;
  // Of the logits; 0 where the model has no classifier.
  size_t classes;
  // Of the ladder.
  size_t rungs;
} HeadroomSizes;

// What a rung costs, for one inference of one image, and what it is worth.
typedef struct {
  // Steps of the ranking that are removed.
  uint32_t steps;
  // Mean cosine similarity to the dense model's embedding.
  float fidelity;
  uint64_t macs;
  uint64_t weight_bytes;
  uint64_t latency_nanoseconds;
  uint64_t energy_microjoules;
  // 1 where the latency was measured on this machine, 0 where it is predicted.
  uint8_t latency_is_measured;
  // 1 where the energy was measured on this machine, 0 where it is predicted.
  uint8_t energy_is_measured;
} HeadroomRung;

// What one inference may cost.
typedef struct {
  // Which of the other fields are limits: a sum of `HEADROOM_BUDGET_*`.
  uint32_t set;
  // Mean power of the board while it infers without a pause.
  uint32_t power_milliwatts;
  uint64_t macs;
  uint64_t latency_nanoseconds;
  uint64_t energy_microjoules;
} HeadroomBudget;

// How a runtime is set up; all fields 0 is the default.
typedef struct {
  // Inferences at the same time; 0 is one.
  uint32_t workers;
  // Threads that share each inference; 0 is one.
  uint32_t threads;
  // Requests that may wait, of all clients together; 0 is 64.
  uint32_t queue_capacity;
  // One of `HEADROOM_SENSORS_*`; they are read once a second.
  uint32_t sensors;
} HeadroomOptions;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the interface that the library has; a program compares it with `HEADROOM_ABI_VERSION`.
uint32_t headroom_abi_version(void);

// The version of the library, such as "0.1.0"; static.
const char *headroom_version(void);

// Makes a client of a runtime. `when_full` is one of `HEADROOM_WHEN_FULL_*`; `most_waiting` requests of the client
// may wait at a time (0 is one).
//
// # Safety
// `runtime` is null or running; `client` is null or room for a pointer.
HeadroomStatus headroom_client_new(const HeadroomRuntime *runtime,
                                   uint32_t when_full,
                                   uint32_t most_waiting,
                                   HeadroomClient **client);

// Closes a client, whose waiting requests are refused; null is none. Safe before and after its runtime has stopped.
//
// # Safety
// `client` is null, or a client that was not closed and that no other thread uses.
void headroom_client_close(HeadroomClient *client);

// Sends one image of any size: rows from top to bottom without gaps, three bytes a pixel, red first. It is copied.
// `request` is any number; `headroom_client_receive` gives it back with the answer, which every accepted request gets.
//
// # Safety
// `client` is null or open; `rgb` is null or has `byte_count` bytes.
HeadroomStatus headroom_client_submit_rgb8(const HeadroomClient *client,
                                           uint64_t request,
                                           const uint8_t *rgb,
                                           size_t byte_count,
                                           uint32_t width,
                                           uint32_t height);

// Sends one input of the model: normalised values, `[channels, height, width]`. It is copied.
//
// # Safety
// `client` is null or open; `pixels` is null or has `pixel_count` values.
HeadroomStatus headroom_client_submit_pixels(const HeadroomClient *client,
                                             uint64_t request,
                                             const float *pixels,
                                             size_t pixel_count);

// Waits up to `timeout_milliseconds` for the next answer and writes it.
//
// `embedding` and `logits` have the sizes that `headroom_runtime_sizes` gives; either may be null with size 0. With
// another size `HEADROOM_STATUS_WRONG_SIZE` is returned and the answer kept, as happens once after a bundle of other
// sizes was put in place. A request that got no result returns the status that says why, with its number in
// `reply->request`. Nothing else is written then.
//
// # Safety
// `client` is null or open; `reply` is null or room for one; the buffers are null or have the sizes that are given.
HeadroomStatus headroom_client_receive(const HeadroomClient *client,
                                       uint64_t timeout_milliseconds,
                                       HeadroomReply *reply,
                                       float *embedding,
                                       size_t embedding_size,
                                       float *logits,
                                       size_t logits_size);

// Makes a governor of a model's rungs.
//
// # Safety
// `model` is null or open; `limits` is null or some; `governor` is null or room for a pointer.
HeadroomStatus headroom_governor_new(const HeadroomModel *model,
                                     const HeadroomLimits *limits,
                                     HeadroomGovernor **governor);

// Closes a governor; null is none.
//
// # Safety
// `governor` is null, or a governor that was not closed and that no other thread uses.
void headroom_governor_close(HeadroomGovernor *governor);

// Takes in what is new and decides. `now_nanoseconds` is the time since any fixed moment on a monotonic clock.
//
// # Safety
// `governor` is null or open; `reading` is null or one; `decision` is null or room for one.
HeadroomStatus headroom_governor_step(const HeadroomGovernor *governor,
                                      const HeadroomReading *reading,
                                      uint64_t now_nanoseconds,
                                      HeadroomDecision *decision);

// Opens the bundle in the folder `bundle`: checks every hash and packs the weights.
//
// `threads` share each inference of a session; 0 is one. The results do not depend on it. `measured_profile` is the
// file of `device-run --calibrate`; null is the one beside the bundle, if there is one. A profile of another machine,
// power mode, bundle, precision or number of threads is not used.
//
// # Safety
// The texts are null or end in 0; `model` is null or room for a pointer.
HeadroomStatus headroom_model_open(const char *bundle,
                                   uint32_t threads,
                                   const char *measured_profile,
                                   HeadroomModel **model);

// As `headroom_model_open`, with sessions that run in `precision`, one of `HEADROOM_PRECISION_*`.
//
// `HEADROOM_STATUS_BUNDLE` says that the bundle has no `model.int8`, or one that cannot run a rung of the ladder.
//
// # Safety
// As of `headroom_model_open`.
HeadroomStatus headroom_model_open_in(const char *bundle,
                                      uint32_t precision,
                                      uint32_t threads,
                                      const char *measured_profile,
                                      HeadroomModel **model);

// Closes a model; null is none. Sessions and governors of it stay valid.
//
// # Safety
// `model` is null, or a model that was not closed and that no other thread uses.
void headroom_model_close(HeadroomModel *model);

// Writes the sizes of a model.
//
// # Safety
// `model` is null or open; `sizes` is null or room for them.
HeadroomStatus headroom_model_sizes(const HeadroomModel *model, HeadroomSizes *sizes);

// Writes what rung `index` costs; 0 is the dense model, and costs fall with the index.
//
// # Safety
// `model` is null or open; `rung` is null or room for it.
HeadroomStatus headroom_model_rung(const HeadroomModel *model, size_t index, HeadroomRung *rung);

// Writes the name of a class, which is valid until the model is closed; null where the checkpoint has no name for it.
//
// # Safety
// `model` is null or open; `label` is null or room for a pointer.
HeadroomStatus headroom_model_label(const HeadroomModel *model,
                                    size_t class_,
                                    const char **label);

// Writes the index of the rung with the highest fidelity within a budget, which `HEADROOM_STATUS_NOTHING_FITS` says
// that there is none of.
//
// # Safety
// `model` is null or open; `budget` is null or one; `rung` is null or room for an index.
HeadroomStatus headroom_model_choose(const HeadroomModel *model,
                                     const HeadroomBudget *budget,
                                     size_t *rung);

// Opens a bundle and starts to serve it. Costs are those of the measured profile beside the bundle, if one holds on
// this machine; otherwise the rungs are timed for about a second.
//
// # Safety
// `bundle` is null or ends in 0; `limits` is null (no limit) or some; `options` is null (the default) or some;
// `runtime` is null or room for a pointer.
HeadroomStatus headroom_runtime_start(const char *bundle,
                                      const HeadroomLimits *limits,
                                      const HeadroomOptions *options,
                                      HeadroomRuntime **runtime);

// As `headroom_runtime_start`, with inferences in `precision`, one of `HEADROOM_PRECISION_*`; bundles that are put in
// place later run in it too.
//
// `HEADROOM_STATUS_BUNDLE` says that the bundle has no `model.int8`, or one that cannot run a rung of the ladder.
//
// # Safety
// As of `headroom_runtime_start`.
HeadroomStatus headroom_runtime_start_in(const char *bundle,
                                         uint32_t precision,
                                         const HeadroomLimits *limits,
                                         const HeadroomOptions *options,
                                         HeadroomRuntime **runtime);

// Stops: refuses what waits, finishes the inferences that have begun, and ends all threads. Null is none. Clients of
// the runtime stay valid and are told `HEADROOM_STATUS_STOPPED`.
//
// # Safety
// `runtime` is null, or a runtime that was not stopped and that no other thread uses.
void headroom_runtime_stop(HeadroomRuntime *runtime);

// Writes the sizes of the model that serves.
//
// # Safety
// `runtime` is null or running; `sizes` is null or room for them.
HeadroomStatus headroom_runtime_sizes(const HeadroomRuntime *runtime, HeadroomSizes *sizes);

// Writes what the governor decided last: the rung that runs, and why.
//
// # Safety
// `runtime` is null or running; `decision` is null or room for one.
HeadroomStatus headroom_runtime_decision(const HeadroomRuntime *runtime,
                                         HeadroomDecision *decision);

// Governs within other limits from now on. Where they make no sense, the old ones hold.
//
// # Safety
// `runtime` is null or running; `limits` is null or some.
HeadroomStatus headroom_runtime_set_limits(const HeadroomRuntime *runtime,
                                           const HeadroomLimits *limits);

// Serves another bundle from the next inference on; no request is lost. Where it is refused, the old one goes on.
//
// # Safety
// `runtime` is null or running; `bundle` is null or ends in 0.
HeadroomStatus headroom_runtime_replace_bundle(const HeadroomRuntime *runtime,
                                               const char *bundle);

// Makes a session of a model.
//
// # Safety
// `model` is null or open; `session` is null or room for a pointer.
HeadroomStatus headroom_session_new(const HeadroomModel *model, HeadroomSession **session);

// Closes a session; null is none.
//
// # Safety
// `session` is null, or a session that was not closed and that no other thread uses.
void headroom_session_close(HeadroomSession *session);

// Runs rung `rung` on one input of the model: normalised values, `[channels, height, width]`.
//
// `embedding` takes `HeadroomSizes::embedding` values and `logits` `HeadroomSizes::classes`; either may be null with
// size 0. A session that another thread is using answers `HEADROOM_STATUS_BUSY`.
//
// # Safety
// `session` is null or open; the buffers are null or have the sizes that are given for them.
HeadroomStatus headroom_session_infer_pixels(const HeadroomSession *session,
                                             size_t rung,
                                             const float *pixels,
                                             size_t pixel_count,
                                             float *embedding,
                                             size_t embedding_size,
                                             float *logits,
                                             size_t logits_size);

// Runs rung `rung` on one image of any size: rows from top to bottom without gaps, three bytes a pixel, red first. The
// image is resized, cropped and normalised as the model's evaluation does.
//
// The outputs are those of `headroom_session_infer_pixels`.
//
// # Safety
// As of `headroom_session_infer_pixels`.
HeadroomStatus headroom_session_infer_rgb8(const HeadroomSession *session,
                                           size_t rung,
                                           const uint8_t *rgb,
                                           size_t byte_count,
                                           uint32_t width,
                                           uint32_t height,
                                           float *embedding,
                                           size_t embedding_size,
                                           float *logits,
                                           size_t logits_size);

// What the last call of this thread that did not return `HEADROOM_STATUS_OK` says about it; empty before the first.
// Valid until the next such call of this thread; not for other threads.
const char *headroom_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HEADROOM_H */

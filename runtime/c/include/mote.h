/*
 * mote.h: diffusion models on microcontrollers, from C.
 *
 * A program gives a .mote file (from `converter quantize`), working memory, and a request; it gets a picture:
 *
 *     static mote_sampler_t sampler;
 *     static uint8_t arena[57488] __attribute__((aligned(16)));   // `converter inspect` says how long
 *
 *     mote_init(&sampler, model, model_len, arena, sizeof arena, NULL);
 *     mote_request_t request = mote_request_default();
 *     request.seed = 7;
 *     mote_start(&sampler, &request);
 *     while ((status = mote_poll(&sampler, &progress)) == MOTE_PENDING) { other_work(); }
 *     mote_image_gray8(&sampler, pixels, sizeof pixels);
 *
 * Every function that can fail returns a mote_status_t, 0 for success, negative for an error, and has then changed
 * nothing that its description does not name. Checked at every call: null and misaligned pointers, lengths, buffers
 * over each other, a sampler that was not initialised, was moved, or is in use. Nothing aborts, allocates or prints.
 *
 * What cannot be checked is the caller's to promise: that a pointer which is not null points to as much memory as is
 * said; that the model's bytes and the arena stay as they are, and are used by nothing else, as long as the sampler is
 * used; that one sampler is used by one thread at a time (interrupts that call in are refused with MOTE_ERROR_BUSY).
 *
 * Made by cbindgen from runtime/c/src; `cargo test -p mote-tests --test c_header` says how to renew it.
 */

#ifndef MOTE_H
#define MOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * 64-bit words of a `mote_sampler_t`.
 */
#define MOTE_SAMPLER_WORDS 10

/**
 * Pointer-sized words of a `mote_sampler_t`.
 */
#define MOTE_SAMPLER_POINTERS 32

/**
 * No class: the null class, or a model that takes none.
 */
#define MOTE_NO_CLASS -1

/**
 * For mote_self_test(): one step.
 */
#define MOTE_SELF_TEST_STEP 0

/**
 * For mote_self_test(): a whole picture.
 */
#define MOTE_SELF_TEST_SAMPLE 1

/**
 * What a call came to: 0, 1, or a negative error. mote_error_text() has words for each.
 */
enum mote_status_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done. From mote_poll(): the picture is done.
     */
    MOTE_OK = 0,
    /**
     * From mote_poll(): there is more to do.
     */
    MOTE_PENDING = 1,
    /**
     * A pointer that is needed is null.
     */
    MOTE_ERROR_NULL = -1,
    /**
     * A pointer is not aligned for what it points to. (For model and arena there are codes of their own.)
     */
    MOTE_ERROR_UNALIGNED = -2,
    /**
     * A buffer lies over the sampler, its arena or another buffer of the call.
     */
    MOTE_ERROR_OVERLAP = -3,
    /**
     * The sampler was not initialised, or its last initialisation failed.
     */
    MOTE_ERROR_NOT_INITIALIZED = -4,
    /**
     * The sampler is not where it was initialised.
     */
    MOTE_ERROR_MOVED = -5,
    /**
     * The call came out of an interrupt, and the interrupted code is in a call with the same sampler.
     */
    MOTE_ERROR_BUSY = -6,
    /**
     * No picture was started, or it was cancelled.
     */
    MOTE_ERROR_NOT_STARTED = -7,
    /**
     * There is no picture to be seen yet.
     */
    MOTE_ERROR_NOT_READY = -8,
    /**
     * An argument is none of the values that it may have.
     */
    MOTE_ERROR_ARGUMENT = -9,
    /**
     * A buffer is too short, an input has the wrong length, or a length is none that memory can have.
     */
    MOTE_ERROR_LENGTH = -10,
    /**
     * The picture has another number of channels than this output takes.
     */
    MOTE_ERROR_CHANNELS = -11,
    /**
     * Not a .mote file.
     */
    MOTE_ERROR_NOT_MOTE = -20,
    /**
     * Another .mote format version than this library reads.
     */
    MOTE_ERROR_VERSION = -21,
    /**
     * The file is cut short.
     */
    MOTE_ERROR_TRUNCATED = -22,
    /**
     * The file does not begin at a multiple of 4.
     */
    MOTE_ERROR_MODEL_UNALIGNED = -23,
    /**
     * The header or the records are damaged.
     */
    MOTE_ERROR_META_CHECKSUM = -24,
    /**
     * The weights or tables are damaged.
     */
    MOTE_ERROR_PAYLOAD_CHECKSUM = -25,
    /**
     * A section of the file is missing, twice there or not known to this library.
     */
    MOTE_ERROR_SECTION = -26,
    /**
     * A record of the file is malformed.
     */
    MOTE_ERROR_RECORD = -27,
    /**
     * The model needs an operator that this library was built without (MOTE_LIKE named another model).
     */
    MOTE_ERROR_NOT_LINKED = -28,
    /**
     * The arena is too short.
     */
    MOTE_ERROR_ARENA_TOO_SHORT = -30,
    /**
     * The arena does not begin at a multiple of 16.
     */
    MOTE_ERROR_ARENA_UNALIGNED = -31,
    /**
     * The model has no such class.
     */
    MOTE_ERROR_CLASS = -40,
    /**
     * The model needs a class.
     */
    MOTE_ERROR_CLASS_MISSING = -41,
    /**
     * The class embedding has another length than the model takes.
     */
    MOTE_ERROR_CLASS_EMBEDDING = -42,
    /**
     * A guidance scale other than 1 needs a finite number and a model with a null class.
     */
    MOTE_ERROR_GUIDANCE = -43,
    /**
     * The file holds no schedule of that many steps.
     */
    MOTE_ERROR_STEPS = -44,
    /**
     * The snapshot is damaged.
     */
    MOTE_ERROR_SNAPSHOT_CHECKSUM = -50,
    /**
     * The snapshot was taken with another model.
     */
    MOTE_ERROR_SNAPSHOT_MODEL = -51,
    /**
     * The self-test failed: this core's kernels compute something else than they should, first in one operator.
     */
    MOTE_ERROR_SELF_TEST_OPERATOR = -60,
    /**
     * The self-test failed, but not in the kernels: floating point (flush-to-zero switched on?), memory, a compiler.
     */
    MOTE_ERROR_SELF_TEST_ARITHMETIC = -61,
    /**
     * An error that this version of the header has no number for.
     */
    MOTE_ERROR_OTHER = -99,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mote_status_t mote_status_t;
#else
typedef int32_t mote_status_t;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Kinds of records in a file.
 */
enum mote_record_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * No record.
     */
    MOTE_RECORD_NONE = 0,
    /**
     * The header, or the number of records.
     */
    MOTE_RECORD_HEADER = 1,
    /**
     * An entry of the section directory.
     */
    MOTE_RECORD_SECTION = 2,
    /**
     * A tensor.
     */
    MOTE_RECORD_TENSOR = 3,
    /**
     * A scale and zero point.
     */
    MOTE_RECORD_QUANT = 4,
    /**
     * A weight matrix.
     */
    MOTE_RECORD_WEIGHTS = 5,
    /**
     * An operator.
     */
    MOTE_RECORD_OP = 6,
    /**
     * A graph.
     */
    MOTE_RECORD_GRAPH = 7,
    /**
     * A schedule.
     */
    MOTE_RECORD_SCHEDULE = 8,
    /**
     * A network call of a schedule.
     */
    MOTE_RECORD_ROW = 9,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mote_record_t mote_record_t;
#else
typedef uint8_t mote_record_t;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What is wrong with a record.
 */
enum mote_fault_t
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Nothing.
     */
    MOTE_FAULT_NONE = 0,
    /**
     * An unknown kind, type or flag.
     */
    MOTE_FAULT_UNKNOWN = 1,
    /**
     * An offset or index points outside its table, the file or the arena.
     */
    MOTE_FAULT_RANGE = 2,
    /**
     * Shapes do not fit each other, or a dimension is zero or too large.
     */
    MOTE_FAULT_SHAPE = 3,
    /**
     * A scale is not a positive finite number, or a coefficient is not finite.
     */
    MOTE_FAULT_NUMBER = 4,
    /**
     * An offset is not a multiple of what its contents need.
     */
    MOTE_FAULT_ALIGNMENT = 5,
    /**
     * Two tensors that an operator uses together lie over each other.
     */
    MOTE_FAULT_OVERLAP = 6,
    /**
     * An element type that the operator does not take.
     */
    MOTE_FAULT_TYPE = 7,
    /**
     * An operator reads what no earlier operator has written.
     */
    MOTE_FAULT_ORDER = 8,
    /**
     * It needs an operator that is not linked.
     */
    MOTE_FAULT_NOT_LINKED = 9,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mote_fault_t mote_fault_t;
#else
typedef uint8_t mote_fault_t;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Why a file or an arena was refused, in numbers. What does not apply is 0.
 */
typedef struct mote_details_t {
    /**
     * What there is. MOTE_ERROR_TRUNCATED, MOTE_ERROR_ARENA_TOO_SHORT: bytes; MOTE_ERROR_VERSION: the file's version.
     */
    uint32_t have;
    /**
     * What is needed. MOTE_ERROR_TRUNCATED, MOTE_ERROR_ARENA_TOO_SHORT: bytes; MOTE_ERROR_VERSION: the version read.
     */
    uint32_t need;
    /**
     * The number of the record (MOTE_ERROR_RECORD, MOTE_ERROR_NOT_LINKED) or of the block of weights
     * (MOTE_ERROR_PAYLOAD_CHECKSUM).
     */
    uint32_t index;
    /**
     * The kind of the record.
     */
    mote_record_t record;
    /**
     * What is wrong with the record.
     */
    mote_fault_t fault;
    /**
     * The four letters of the section (MOTE_ERROR_SECTION), without an end mark.
     */
    uint8_t section[4];
} mote_details_t;

/**
 * A sampler: a model, an arena, and the picture under way.
 *
 * Declare it static (or keep it as long as it is used) and leave its contents alone. It has to stay where
 * mote_init() found it, and as long as it is used, so do the model's bytes and the arena, unchanged by anybody else.
 * Zeroed or never initialised, every function says MOTE_ERROR_NOT_INITIALIZED; copied elsewhere, MOTE_ERROR_MOVED.
 *
 * Several samplers are independent of each other, and may share a model. One sampler belongs to one thread at a time.
 */
typedef struct mote_sampler_t {
    /**
     * Opaque.
     */
    uint64_t words[MOTE_SAMPLER_WORDS];
    /**
     * Opaque.
     */
    size_t pointers[MOTE_SAMPLER_POINTERS];
} mote_sampler_t;

/**
 * What a model draws and takes.
 */
typedef struct mote_info_t {
    /**
     * Height of a picture, pixels.
     */
    uint32_t height;
    /**
     * Width of a picture, pixels.
     */
    uint32_t width;
    /**
     * Channels of a picture: 1 is gray, 3 is red, green, blue.
     */
    uint32_t channels;
    /**
     * Number of classes, the null class included; 0 where the model takes none.
     */
    uint32_t classes;
    /**
     * The class that stands for "none", or MOTE_NO_CLASS: then guidance is impossible.
     */
    int32_t null_class;
    /**
     * Elements of the class embedding that the model takes; 0 where it takes none.
     */
    uint32_t class_embedding_len;
    /**
     * Bytes of the arena that are used.
     */
    uint32_t arena_len;
    /**
     * Bytes of a snapshot.
     */
    uint32_t snapshot_len;
} mote_info_t;

/**
 * What to draw. Take mote_request_default() and change what matters.
 */
typedef struct mote_request_t {
    /**
     * Seed of all noise; the same seed gives the same picture on every core.
     */
    uint64_t seed;
    /**
     * The class, 0 up to the model's classes less 1; or MOTE_NO_CLASS.
     */
    int32_t class_label;
    /**
     * `guidance_scale` as diffusers means it: 1 is one network call a step, anything else two.
     */
    float guidance_scale;
    /**
     * Number of steps, one that the file holds a schedule of; 0 for the file's first schedule.
     */
    uint16_t num_inference_steps;
    /**
     * Multiply-adds that one mote_poll() may spend, at least; a poll never splits an output row.
     */
    uint32_t poll_budget;
    /**
     * The start sample x_T, height x width x channels, instead of the seed's; null for none. Read by mote_start() only.
     */
    const float *noise;
    /**
     * Its elements.
     */
    size_t noise_len;
    /**
     * The class embedding, for a model that takes one; null for none. Read by mote_start() only.
     */
    const float *class_embedding;
    /**
     * Its elements.
     */
    size_t class_embedding_len;
} mote_request_t;

/**
 * How far a picture has come.
 */
typedef struct mote_progress_t {
    /**
     * Steps finished.
     */
    uint16_t step;
    /**
     * Steps in all.
     */
    uint16_t steps;
    /**
     * Whether this poll ended at a step's end: then the mote_image functions have this step's foreseen picture.
     */
    bool step_done;
} mote_progress_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The words for a status, for a log or a screen.
 *
 * @param status any number.
 * @return static text in ASCII, never null.
 */
const char *mote_error_text(int32_t status);

/**
 * Checks a file completely: magic, version, checksums, every offset, shape, scale and dependency.
 *
 * mote_init() does the same; this is for looking at a file before it is used, a download say.
 *
 * @param bytes   the file, at a multiple of 4.
 * @param len     bytes given, at least as many as the file has.
 * @param details what is wrong, in numbers; may be null.
 * @return MOTE_OK, or MOTE_ERROR_NULL, MOTE_ERROR_LENGTH, MOTE_ERROR_UNALIGNED (of details), and of the file
 *         MOTE_ERROR_NOT_MOTE to MOTE_ERROR_NOT_LINKED.
 */
mote_status_t mote_validate(const uint8_t *bytes, size_t len, struct mote_details_t *details);

/**
 * The arena bytes that a model needs on this kind of core, from its records alone.
 *
 * `converter inspect` prints the same number. It does not check the file: mote_init() does.
 *
 * @param bytes the file.
 * @param len   bytes given.
 * @return bytes; 0 where there is no .mote file.
 */
size_t mote_arena_len(const uint8_t *bytes, size_t len);

/**
 * Checks a file, and makes a sampler that draws with it. Also ends whatever the sampler was doing before.
 *
 * The file and the arena are the sampler's from here on, for as long as it is used. Nothing in the arena needs to be
 * initialised. If the file or the arena is refused, the sampler is not initialised, even if it was before.
 *
 * @param sampler   memory for the sampler; any content.
 * @param bytes     the file, at a multiple of 4, usually in flash.
 * @param bytes_len bytes given, at least as many as the file has.
 * @param arena     working memory, at a multiple of 16.
 * @param arena_len_bytes its length, at least mote_arena_len().
 * @param details   what is wrong, in numbers; may be null.
 * @return MOTE_OK; what mote_validate() returns; MOTE_ERROR_ARENA_TOO_SHORT, MOTE_ERROR_ARENA_UNALIGNED,
 *         MOTE_ERROR_OVERLAP, MOTE_ERROR_BUSY.
 */
mote_status_t mote_init(struct mote_sampler_t *sampler,
                        const uint8_t *bytes,
                        size_t bytes_len,
                        uint8_t *arena,
                        size_t arena_len_bytes,
                        struct mote_details_t *details);

/**
 * As mote_init(), without the checksum over the weights: for callers that trust their flash and want to start sooner.
 *
 * Damaged weights change the picture, never safety.
 */
mote_status_t mote_init_trusting_payload(struct mote_sampler_t *sampler,
                                         const uint8_t *bytes,
                                         size_t bytes_len,
                                         uint8_t *arena,
                                         size_t arena_len_bytes,
                                         struct mote_details_t *details);

/**
 * Says what the sampler's model draws and takes.
 *
 * @return MOTE_OK, MOTE_ERROR_NULL, MOTE_ERROR_UNALIGNED, MOTE_ERROR_OVERLAP, MOTE_ERROR_NOT_INITIALIZED,
 *         MOTE_ERROR_MOVED, MOTE_ERROR_BUSY.
 */
mote_status_t mote_info(struct mote_sampler_t *sampler, struct mote_info_t *info);

/**
 * A request for seed 0 without a class, guidance 1, the file's first schedule, a whole step a poll.
 */
struct mote_request_t mote_request_default(void);

/**
 * Begins a picture; one under way is dropped, after an error too.
 *
 * @return MOTE_OK; what mote_info() returns; MOTE_ERROR_CLASS, MOTE_ERROR_CLASS_MISSING, MOTE_ERROR_CLASS_EMBEDDING,
 *         MOTE_ERROR_GUIDANCE, MOTE_ERROR_STEPS, MOTE_ERROR_LENGTH (of the noise).
 */
mote_status_t mote_start(struct mote_sampler_t *sampler, const struct mote_request_t *request);

/**
 * Works for about the request's poll_budget, or up to the end of a step.
 *
 * @param progress how far the picture has come; may be null. Written only with MOTE_PENDING.
 * @return MOTE_PENDING; MOTE_OK when the picture is done, and at every further call; MOTE_ERROR_NOT_STARTED; what
 *         mote_info() returns.
 */
mote_status_t mote_poll(struct mote_sampler_t *sampler, struct mote_progress_t *progress);

/**
 * Drops the picture under way. The arena may be used for anything until the next mote_start() or mote_restore().
 *
 * @return MOTE_OK; what mote_info() returns.
 */
mote_status_t mote_cancel(struct mote_sampler_t *sampler);

/**
 * Writes the picture, one byte a pixel, row by row from the top; 0 is black.
 *
 * The finished picture once mote_poll() returned MOTE_OK. Before that, at the end of a step (`step_done`), the picture
 * as this step foresees it, to be shown while the rest is drawn.
 *
 * @param out     where the pixels go.
 * @param out_len bytes there, at least height x width.
 * @return MOTE_OK; MOTE_ERROR_NOT_STARTED, MOTE_ERROR_NOT_READY, MOTE_ERROR_LENGTH, MOTE_ERROR_CHANNELS (unless the
 *         picture has one); what mote_info() returns.
 */
mote_status_t mote_image_gray8(struct mote_sampler_t *sampler, uint8_t *out, size_t out_len);

/**
 * As mote_image_gray8(), three bytes a pixel, red first; a picture with one channel becomes gray.
 *
 * @param out_len bytes there, at least 3 x height x width.
 */
mote_status_t mote_image_rgb888(struct mote_sampler_t *sampler, uint8_t *out, size_t out_len);

/**
 * As mote_image_gray8(), a 16-bit word a pixel: five bits red (the high ones), six green, five blue.
 *
 * @param out_len words there, at least height x width.
 */
mote_status_t mote_image_rgb565(struct mote_sampler_t *sampler, uint16_t *out, size_t out_len);

/**
 * CRC-32 of the sample as it is (32-bit floats, little-endian, row by row): the same on every core.
 *
 * @return MOTE_OK; MOTE_ERROR_NOT_STARTED; what mote_info() returns.
 */
mote_status_t mote_sample_crc(struct mote_sampler_t *sampler, uint32_t *crc);

/**
 * Writes a snapshot, with which mote_restore() continues the picture after a reset, to the same bytes.
 *
 * @param out     where it goes.
 * @param out_len bytes there, at least `snapshot_len` of mote_info_t, which is what is written.
 * @return MOTE_OK; MOTE_ERROR_NOT_STARTED, MOTE_ERROR_LENGTH; what mote_info() returns.
 */
mote_status_t mote_snapshot(struct mote_sampler_t *sampler, uint8_t *out, size_t out_len);

/**
 * Continues from a snapshot of the same model. The sampler is idle after an error.
 *
 * @return MOTE_OK; MOTE_ERROR_LENGTH, MOTE_ERROR_SNAPSHOT_CHECKSUM, MOTE_ERROR_SNAPSHOT_MODEL; what mote_info() returns.
 */
mote_status_t mote_restore(struct mote_sampler_t *sampler,
                           const uint8_t *snapshot,
                           size_t snapshot_len);

/**
 * Draws what the file says a correct library draws, and compares. A picture under way is dropped.
 *
 * @param depth MOTE_SELF_TEST_STEP or MOTE_SELF_TEST_SAMPLE.
 * @param op    with MOTE_ERROR_SELF_TEST_OPERATOR, the operator's number in the file; may be null.
 * @return MOTE_OK if the bytes are right; MOTE_ERROR_SELF_TEST_OPERATOR, MOTE_ERROR_SELF_TEST_ARITHMETIC;
 *         MOTE_ERROR_SECTION if the file has no self-test; MOTE_ERROR_ARGUMENT; what mote_info() returns.
 */
mote_status_t mote_self_test(struct mote_sampler_t *sampler, uint32_t depth, uint16_t *op);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MOTE_H */

/* The library was built for this size; another one would mean another C ABI than the platform's. */
#ifdef __cplusplus
static_assert(sizeof(mote_sampler_t) == 8 * MOTE_SAMPLER_WORDS + sizeof(void *) * MOTE_SAMPLER_POINTERS, "mote_sampler_t");
#else
_Static_assert(sizeof(mote_sampler_t) == 8 * MOTE_SAMPLER_WORDS + sizeof(void *) * MOTE_SAMPLER_POINTERS, "mote_sampler_t");
#endif

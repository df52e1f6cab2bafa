/* Every way of using the library wrongly that it promises to notice: each has to end in its status, and none in a fault.
 * (Not met here: MOTE_ERROR_CHANNELS, since both models are gray; MOTE_ERROR_SELF_TEST_OPERATOR, which takes a wrong
 * kernel; MOTE_ERROR_OTHER, which nothing returns today.) Then what has to hold after all that: the right pictures. Prints what did not hold, and the CRC lines of the pictures. */

#define _DEFAULT_SOURCE
#include "mote.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "interrupt.h"

extern const uint8_t digits[], digits_end[], small[], small_end[];
#define DIGITS_LEN ((size_t)(digits_end - digits))
#define SMALL_LEN ((size_t)(small_end - small))

enum { ROOM = 16384, PIXELS = 28 * 28 };

static mote_sampler_t sampler, other;
/* A host's kernels take more scratch. */
#define ARENA_LEN (UINTPTR_MAX > 0xffffffff ? 262144 : 131072)
static uint8_t arena[ARENA_LEN] __attribute__((aligned(16)));
static uint8_t file[ROOM] __attribute__((aligned(16)));
static uint8_t snapshot[ROOM];
static uint8_t pixels[3 * PIXELS];
static uint16_t words[PIXELS];
static const float embedding[4] = {0.5f, -1.25f, 2.0f, 0.125f};
static mote_details_t details;
static unsigned held, broken;

static void expect(const char *call, int line, mote_status_t got, mote_status_t want) {
    if (got == want && strcmp(mote_error_text(got), "no status of this library") != 0) {
        held++;
    } else {
        broken++;
        printf("line %d: %s: %" PRIi32 " (%s), not %" PRIi32 "\n", line, call, (int32_t)got, mote_error_text(got),
               (int32_t)want);
    }
}
#define EXPECT(want, call) expect(#call, __LINE__, call, want)
#define HOLDS(what) expect(#what, __LINE__, (what) ? MOTE_OK : MOTE_ERROR_OTHER, MOTE_OK)

/* --- A copy of the small file, changed, with its checksum made right again. --- */

static uint32_t u32_at(size_t at) {
    uint32_t value;
    memcpy(&value, file + at, 4);
    return value;
}

static void seal(void) {
    uint32_t crc = ~0u;
    memset(file + 16, 0, 4);
    for (size_t i = 0; i < u32_at(12); i++) {
        crc ^= file[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
        }
    }
    crc = ~crc;
    memcpy(file + 16, &crc, 4);
}

/* A fresh copy. */
static uint8_t *copy(void) {
    memcpy(file, small, SMALL_LEN);
    return file;
}

/* Where the directory has this section, from its tag on. */
static size_t entry(const char *tag) {
    size_t at = 48;
    while (memcmp(file + at, tag, 4) != 0 && at + 12 < SMALL_LEN) {
        at += 12;
    }
    return at;
}

static mote_status_t init_copy(void) {
    return mote_init(&sampler, file, SMALL_LEN, arena, sizeof arena, &details);
}

static mote_request_t small_request(uint64_t seed) {
    mote_request_t request = mote_request_default();
    request.seed = seed;
    request.class_label = (int32_t)(seed % 2);
    request.guidance_scale = 2.5f;
    request.class_embedding = embedding;
    request.class_embedding_len = 4;
    request.poll_budget = 1000;
    return request;
}

static mote_request_t digits_request(uint64_t seed) {
    mote_request_t request = mote_request_default();
    request.seed = seed;
    request.class_label = (int32_t)(seed % 10);
    return request;
}

static uint32_t finish(mote_sampler_t *of) {
    uint32_t crc = 0;
    mote_status_t status;
    while ((status = mote_poll(of, NULL)) == MOTE_PENDING) {
    }
    EXPECT(MOTE_OK, status);
    EXPECT(MOTE_OK, mote_sample_crc(of, &crc));
    return crc;
}

/* --- What is refused. --- */

/* Nothing was initialised, or it is not there any more. */
static void uninitialised(void) {
    mote_info_t info;
    uint32_t crc;
    const mote_request_t request = mote_request_default();
    static const uint8_t fills[] = {0x00, 0xff, 0xa5};
    for (unsigned i = 0; i < sizeof fills; i++) {
        memset(&sampler, fills[i], sizeof sampler);
        EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_info(&sampler, &info));
        EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_start(&sampler, &request));
        EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_poll(&sampler, NULL));
        EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_cancel(&sampler));
        EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_image_gray8(&sampler, pixels, sizeof pixels));
        EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_image_rgb888(&sampler, pixels, sizeof pixels));
        EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_image_rgb565(&sampler, words, PIXELS));
        EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_sample_crc(&sampler, &crc));
        EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_snapshot(&sampler, snapshot, sizeof snapshot));
        EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_restore(&sampler, snapshot, sizeof snapshot));
        EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_self_test(&sampler, MOTE_SELF_TEST_STEP, NULL));
    }
    EXPECT(MOTE_OK, mote_init(&sampler, small, SMALL_LEN, arena, sizeof arena, NULL));
    memcpy(&other, &sampler, sizeof sampler);
    EXPECT(MOTE_ERROR_MOVED, mote_poll(&other, NULL));
    EXPECT(MOTE_ERROR_MOVED, mote_info(&other, &info));
    EXPECT(MOTE_OK, mote_info(&sampler, &info));
    /* A failed initialisation ends the sampler that was there. */
    EXPECT(MOTE_ERROR_NOT_MOTE, mote_init(&sampler, pixels, sizeof pixels, arena, sizeof arena, NULL));
    EXPECT(MOTE_ERROR_NOT_INITIALIZED, mote_info(&sampler, &info));
}

static void nulls(void) {
    const mote_request_t request = small_request(7);
    mote_request_t lying = request;
    EXPECT(MOTE_ERROR_NULL, mote_validate(NULL, SMALL_LEN, NULL));
    HOLDS(mote_arena_len(NULL, SMALL_LEN) == 0);
    EXPECT(MOTE_ERROR_NULL, mote_init(NULL, small, SMALL_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_ERROR_NULL, mote_init(&sampler, NULL, SMALL_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_ERROR_NULL, mote_init(&sampler, small, SMALL_LEN, NULL, sizeof arena, NULL));
    EXPECT(MOTE_ERROR_NULL, mote_init_trusting_payload(&sampler, NULL, 0, NULL, 0, NULL));
    EXPECT(MOTE_OK, mote_init(&sampler, small, SMALL_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_ERROR_NULL, mote_info(NULL, NULL));
    EXPECT(MOTE_ERROR_NULL, mote_info(&sampler, NULL));
    EXPECT(MOTE_ERROR_NULL, mote_start(NULL, &request));
    EXPECT(MOTE_ERROR_NULL, mote_start(&sampler, NULL));
    lying.class_embedding = NULL;
    EXPECT(MOTE_ERROR_NULL, mote_start(&sampler, &lying));
    lying = request;
    lying.noise_len = 3;
    EXPECT(MOTE_ERROR_NULL, mote_start(&sampler, &lying));
    EXPECT(MOTE_ERROR_NULL, mote_poll(NULL, NULL));
    EXPECT(MOTE_ERROR_NULL, mote_cancel(NULL));
    EXPECT(MOTE_OK, mote_start(&sampler, &request));
    EXPECT(MOTE_ERROR_NULL, mote_image_gray8(NULL, pixels, sizeof pixels));
    EXPECT(MOTE_ERROR_NULL, mote_image_gray8(&sampler, NULL, sizeof pixels));
    EXPECT(MOTE_ERROR_NULL, mote_image_rgb888(&sampler, NULL, sizeof pixels));
    EXPECT(MOTE_ERROR_NULL, mote_image_rgb565(&sampler, NULL, PIXELS));
    EXPECT(MOTE_ERROR_NULL, mote_sample_crc(&sampler, NULL));
    EXPECT(MOTE_ERROR_NULL, mote_snapshot(&sampler, NULL, sizeof snapshot));
    EXPECT(MOTE_ERROR_NULL, mote_restore(&sampler, NULL, sizeof snapshot));
    EXPECT(MOTE_ERROR_NULL, mote_self_test(NULL, MOTE_SELF_TEST_STEP, NULL));
}

/* Pointers that are not aligned, buffers over each other, lengths that no memory has. */
static void pointers(void) {
    mote_request_t request = small_request(7);
    mote_sampler_t *const odd = (mote_sampler_t *)(void *)((uint8_t *)&other + 4);
    uint8_t *const bytes = (uint8_t *)&sampler;
    void *const odd_word = (uint8_t *)words + 1;
    void *const odd_float = (uint8_t *)words + 2;
    EXPECT(MOTE_ERROR_UNALIGNED, mote_validate(small, SMALL_LEN, odd_word));
    EXPECT(MOTE_ERROR_UNALIGNED, mote_init(odd, small, SMALL_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_ERROR_UNALIGNED, mote_init(&sampler, small, SMALL_LEN, arena, sizeof arena, odd_word));
    EXPECT(MOTE_ERROR_UNALIGNED, mote_poll(odd, NULL));
    EXPECT(MOTE_ERROR_OVERLAP, mote_init(&sampler, arena, SMALL_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_ERROR_OVERLAP, mote_init(&sampler, small, SMALL_LEN, bytes, sizeof sampler, NULL));
    EXPECT(MOTE_ERROR_OVERLAP, mote_init(&sampler, small, SMALL_LEN, arena, sizeof arena, (void *)bytes));
    EXPECT(MOTE_ERROR_LENGTH, mote_validate(small, SIZE_MAX, NULL));
    EXPECT(MOTE_ERROR_LENGTH, mote_init(&sampler, small, SMALL_LEN, arena, SIZE_MAX - 15, NULL));
    EXPECT(MOTE_OK, mote_init(&sampler, small, SMALL_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_ERROR_UNALIGNED, mote_start(&sampler, odd_word));
    request.class_embedding = odd_float;
    EXPECT((uintptr_t)odd_float % 4 == 0 ? MOTE_OK : MOTE_ERROR_UNALIGNED, mote_start(&sampler, &request));
    request.class_embedding = (const float *)(void *)arena;
    EXPECT(MOTE_ERROR_OVERLAP, mote_start(&sampler, &request));
    request.class_embedding = embedding;
    request.class_embedding_len = SIZE_MAX / 2;
    EXPECT(MOTE_ERROR_LENGTH, mote_start(&sampler, &request));
    request.class_embedding_len = 4;
    EXPECT(MOTE_OK, mote_start(&sampler, &request));
    EXPECT(MOTE_ERROR_UNALIGNED, mote_poll(&sampler, odd_word));
    EXPECT(MOTE_ERROR_OVERLAP, mote_poll(&sampler, (void *)arena));
    EXPECT(MOTE_ERROR_UNALIGNED, mote_sample_crc(&sampler, odd_word));
    EXPECT(MOTE_ERROR_OVERLAP, mote_sample_crc(&sampler, (void *)bytes));
    EXPECT(MOTE_ERROR_UNALIGNED, mote_image_rgb565(&sampler, odd_word, PIXELS));
    EXPECT(MOTE_ERROR_OVERLAP, mote_image_rgb888(&sampler, arena, sizeof pixels));
    EXPECT(MOTE_ERROR_LENGTH, mote_image_rgb565(&sampler, words, SIZE_MAX));
    EXPECT(MOTE_ERROR_OVERLAP, mote_snapshot(&sampler, bytes, sizeof sampler));
    EXPECT(MOTE_ERROR_UNALIGNED, mote_self_test(&sampler, MOTE_SELF_TEST_STEP, odd_word));
}

static void files(void) {
    EXPECT(MOTE_OK, mote_validate(small, SMALL_LEN, &details));
    memcpy(file + 2, small, SMALL_LEN);
    EXPECT(MOTE_ERROR_MODEL_UNALIGNED, mote_validate(file + 2, SMALL_LEN, NULL));
    copy()[0] = 'X';
    EXPECT(MOTE_ERROR_NOT_MOTE, init_copy());
    copy()[4] = 9;
    EXPECT(MOTE_ERROR_VERSION, init_copy());
    HOLDS(details.have == 9 && details.need == 1);
    EXPECT(MOTE_ERROR_TRUNCATED, mote_validate(small, SMALL_LEN - 1, &details));
    HOLDS(details.have == SMALL_LEN - 1 && details.need == SMALL_LEN);
    EXPECT(MOTE_ERROR_TRUNCATED, mote_validate(small, 0, NULL));
    copy()[24] ^= 1;
    EXPECT(MOTE_ERROR_META_CHECKSUM, init_copy());
    copy()[SMALL_LEN - 1] ^= 1;
    EXPECT(MOTE_ERROR_PAYLOAD_CHECKSUM, init_copy());
    EXPECT(MOTE_OK, mote_init_trusting_payload(&sampler, file, SMALL_LEN, arena, sizeof arena, NULL));
    copy()[entry("TENS")] = 'X';
    seal();
    EXPECT(MOTE_ERROR_SECTION, init_copy());
    copy()[26] = 99; /* the null class */
    seal();
    EXPECT(MOTE_ERROR_RECORD, init_copy());
    HOLDS(details.record == MOTE_RECORD_HEADER && details.fault == MOTE_FAULT_RANGE);
    const size_t need = mote_arena_len(small, SMALL_LEN);
    EXPECT(MOTE_ERROR_ARENA_TOO_SHORT, mote_init(&sampler, small, SMALL_LEN, arena, need - 1, &details));
    HOLDS(details.have == need - 1 && details.need == need);
    EXPECT(MOTE_ERROR_ARENA_UNALIGNED, mote_init(&sampler, small, SMALL_LEN, arena + 4, need, NULL));
    EXPECT(MOTE_OK, mote_init(&sampler, small, SMALL_LEN, arena, need, NULL));
}

static void requests(void) {
    mote_request_t request = small_request(7);
    float noise[2] = {0};
    EXPECT(MOTE_OK, mote_init(&sampler, small, SMALL_LEN, arena, sizeof arena, NULL));
    request.class_label = 99;
    EXPECT(MOTE_ERROR_CLASS, mote_start(&sampler, &request));
    request.class_label = -2;
    EXPECT(MOTE_ERROR_CLASS, mote_start(&sampler, &request));
    request.class_label = 65536;
    EXPECT(MOTE_ERROR_CLASS, mote_start(&sampler, &request));
    request = small_request(7);
    request.class_embedding_len = 3;
    EXPECT(MOTE_ERROR_CLASS_EMBEDDING, mote_start(&sampler, &request));
    request = small_request(7);
    request.guidance_scale = NAN;
    EXPECT(MOTE_ERROR_GUIDANCE, mote_start(&sampler, &request));
    request = small_request(7);
    request.num_inference_steps = 999;
    EXPECT(MOTE_ERROR_STEPS, mote_start(&sampler, &request));
    request = small_request(7);
    request.noise = noise;
    request.noise_len = 2;
    EXPECT(MOTE_ERROR_LENGTH, mote_start(&sampler, &request));
    EXPECT(MOTE_ERROR_NOT_STARTED, mote_poll(&sampler, NULL));
    /* Without a null class, a class is needed. */
    copy();
    memset(file + 26, 0xff, 2);
    seal();
    EXPECT(MOTE_OK, init_copy());
    request = small_request(7);
    EXPECT(MOTE_ERROR_GUIDANCE, mote_start(&sampler, &request));
    request.guidance_scale = 1;
    request.class_label = MOTE_NO_CLASS;
    EXPECT(MOTE_ERROR_CLASS_MISSING, mote_start(&sampler, &request));
}

/* Calls out of order, buffers too short. */
static void order(void) {
    const mote_request_t request = digits_request(7);
    mote_info_t info;
    mote_progress_t progress = {0, 0, false};
    uint32_t crc;
    EXPECT(MOTE_OK, mote_init(&sampler, digits, DIGITS_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_OK, mote_info(&sampler, &info));
    HOLDS(info.height == 28 && info.width == 28 && info.channels == 1 && info.classes == 11 && info.null_class == 10);
    EXPECT(MOTE_ERROR_NOT_STARTED, mote_poll(&sampler, &progress));
    EXPECT(MOTE_ERROR_NOT_STARTED, mote_image_gray8(&sampler, pixels, sizeof pixels));
    EXPECT(MOTE_ERROR_NOT_STARTED, mote_sample_crc(&sampler, &crc));
    EXPECT(MOTE_ERROR_NOT_STARTED, mote_snapshot(&sampler, snapshot, sizeof snapshot));
    EXPECT(MOTE_OK, mote_start(&sampler, &request));
    EXPECT(MOTE_ERROR_NOT_READY, mote_image_gray8(&sampler, pixels, sizeof pixels));
    EXPECT(MOTE_PENDING, mote_poll(&sampler, &progress));
    HOLDS(progress.step == 1 && progress.steps == 20 && progress.step_done);
    EXPECT(MOTE_OK, mote_image_gray8(&sampler, pixels, PIXELS));
    EXPECT(MOTE_ERROR_LENGTH, mote_image_gray8(&sampler, pixels, PIXELS - 1));
    EXPECT(MOTE_ERROR_LENGTH, mote_image_rgb888(&sampler, pixels, 3 * PIXELS - 1));
    EXPECT(MOTE_ERROR_LENGTH, mote_image_rgb565(&sampler, words, PIXELS - 1));
    EXPECT(MOTE_ERROR_LENGTH, mote_snapshot(&sampler, snapshot, info.snapshot_len - 1));
    EXPECT(MOTE_OK, mote_snapshot(&sampler, snapshot, info.snapshot_len));
    EXPECT(MOTE_OK, mote_cancel(&sampler));
    EXPECT(MOTE_ERROR_NOT_STARTED, mote_poll(&sampler, NULL));
    EXPECT(MOTE_ERROR_LENGTH, mote_restore(&sampler, snapshot, info.snapshot_len - 1));
    snapshot[60] ^= 1;
    EXPECT(MOTE_ERROR_SNAPSHOT_CHECKSUM, mote_restore(&sampler, snapshot, info.snapshot_len));
    snapshot[60] ^= 1;
    EXPECT(MOTE_ERROR_NOT_STARTED, mote_poll(&sampler, NULL));
    EXPECT(MOTE_OK, mote_init(&sampler, small, SMALL_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_ERROR_SNAPSHOT_MODEL, mote_restore(&sampler, snapshot, info.snapshot_len));
}

static void self_tests(void) {
    EXPECT(MOTE_OK, mote_init(&sampler, small, SMALL_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_ERROR_ARGUMENT, mote_self_test(&sampler, 2, NULL));
    EXPECT(MOTE_OK, mote_self_test(&sampler, MOTE_SELF_TEST_STEP, NULL));
    EXPECT(MOTE_OK, mote_self_test(&sampler, MOTE_SELF_TEST_SAMPLE, NULL));
    copy();
    file[u32_at(entry("self") + 4) + 12] ^= 1; /* the first step's checksum */
    seal();
    EXPECT(MOTE_OK, init_copy());
    EXPECT(MOTE_ERROR_SELF_TEST_ARITHMETIC, mote_self_test(&sampler, MOTE_SELF_TEST_STEP, NULL));
    copy()[entry("self")] = 's' - 1; /* an optional section with another name */
    seal();
    EXPECT(MOTE_OK, init_copy());
    EXPECT(MOTE_ERROR_SECTION, mote_self_test(&sampler, MOTE_SELF_TEST_STEP, NULL));
}

static volatile unsigned interrupts, busy;

static void tick(void) {
    interrupts++;
    busy += mote_poll(&sampler, NULL) == MOTE_ERROR_BUSY;
}

/* Interrupts call in: those within a call are refused, those between two calls do a part of the work. */
static void interrupted(uint32_t want) {
    const mote_request_t request = digits_request(7);
    EXPECT(MOTE_OK, mote_init(&sampler, digits, DIGITS_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_OK, mote_start(&sampler, &request));
    timer(1);
    while (mote_poll(&sampler, NULL) == MOTE_PENDING) {
    }
    timer(0);
    HOLDS(interrupts > 0 && busy > 0);
    HOLDS(finish(&sampler) == want);
}

/* --- What is right. --- */

static const uint64_t seeds[] = {7, 0xdeadbeef0badcafe, 2026};

/* Decimal, without the printf of 64-bit numbers, which newlib's small one lacks. */
static const char *decimal(uint64_t number) {
    static char text[21];
    char *at = text + 20;
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return at;
}

static uint32_t pictures(void) {
    uint32_t first = 0;
    for (unsigned i = 0; i < 3; i++) {
        const mote_request_t request = small_request(seeds[i]);
        EXPECT(MOTE_OK, mote_init(&sampler, small, SMALL_LEN, arena, sizeof arena, NULL));
        EXPECT(MOTE_OK, mote_start(&sampler, &request));
        printf("crc small %s %08" PRIx32 "\n", decimal(seeds[i]), finish(&sampler));
    }
    for (unsigned i = 0; i < 3; i++) {
        const mote_request_t request = digits_request(seeds[i]);
        EXPECT(MOTE_OK, mote_init(&sampler, digits, DIGITS_LEN, arena, sizeof arena, NULL));
        EXPECT(MOTE_OK, mote_start(&sampler, &request));
        const uint32_t crc = finish(&sampler);
        first = i == 0 ? crc : first;
        printf("crc digits %s %08" PRIx32 "\n", decimal(seeds[i]), crc);
    }
    /* A snapshot in the middle, continued by a sampler elsewhere. */
    const mote_request_t request = digits_request(seeds[0]);
    mote_info_t info;
    EXPECT(MOTE_OK, mote_start(&sampler, &request));
    EXPECT(MOTE_PENDING, mote_poll(&sampler, NULL));
    EXPECT(MOTE_OK, mote_info(&sampler, &info));
    EXPECT(MOTE_OK, mote_snapshot(&sampler, snapshot, info.snapshot_len));
    memset(arena, 0xa5, sizeof arena);
    EXPECT(MOTE_OK, mote_init(&other, digits, DIGITS_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_OK, mote_restore(&other, snapshot, info.snapshot_len));
    HOLDS(finish(&other) == first);
    return first;
}

/* Whether the library was built for models like the digits (MOTE_LIKE), and has no code for others. */
#ifndef LIKE_DIGITS
#define LIKE_DIGITS 0
#endif

static void like_digits(void) {
    const mote_request_t request = digits_request(7);
    EXPECT(MOTE_ERROR_NOT_LINKED, mote_init(&sampler, small, SMALL_LEN, arena, sizeof arena, &details));
    HOLDS(details.fault == MOTE_FAULT_NOT_LINKED && details.record != MOTE_RECORD_NONE);
    EXPECT(MOTE_OK, mote_init(&sampler, digits, DIGITS_LEN, arena, sizeof arena, NULL));
    EXPECT(MOTE_OK, mote_start(&sampler, &request));
    printf("crc digits 7 %08" PRIx32 "\n", finish(&sampler));
}

int main(void) {
    HOLDS(strcmp(mote_error_text(12345), "no status of this library") == 0);
    if (LIKE_DIGITS) {
        like_digits();
    } else {
        uninitialised();
        nulls();
        pointers();
        files();
        requests();
        order();
        self_tests();
        interrupted(pictures());
    }
    printf("%u held, %u did not\n", held, broken);
    return broken != 0;
}

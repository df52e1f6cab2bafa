/* Draws a digit, shows it, and prints the CRC-32 of the sample, which is the same on every core and on the host. */

#include "mote.h"

#include <inttypes.h>
#include <stdio.h>

/* The model, put into read-only memory by model.S. */
extern const uint8_t digits_mote[];
extern const uint8_t digits_mote_end[];

static mote_sampler_t sampler;
/* At least as long as `converter inspect digits.mote` says for this core; mote_init() says if it is too short. */
static uint8_t arena[ARENA_LEN] __attribute__((aligned(16)));
static uint8_t pixels[28 * 28];

static int failed(const char *what, mote_status_t status) {
    printf("%s: %s (%" PRIi32 ")\n", what, mote_error_text(status), (int32_t)status);
    return 1;
}

static void show(void) {
    static const char *const shades[] = {"  ", "..", "oo", "OO", "@@"};
    for (unsigned y = 0; y < 28; y++) {
        for (unsigned x = 0; x < 28; x++) {
            fputs(shades[pixels[28 * y + x] * 5 / 256], stdout);
        }
        puts("");
    }
}

int main(void) {
    mote_details_t details;
    mote_status_t status =
        mote_init(&sampler, digits_mote, (size_t)(digits_mote_end - digits_mote), arena, sizeof arena, &details);
    if (status == MOTE_ERROR_ARENA_TOO_SHORT) {
        printf("the arena has %" PRIu32 " bytes, %" PRIu32 " are needed\n", details.have, details.need);
    }
    if (status != MOTE_OK) {
        return failed("mote_init", status);
    }

    mote_request_t request = mote_request_default();
    request.seed = 7;
    request.class_label = 7;
    request.poll_budget = 250000; /* multiply-adds between two looks at the world */
    if ((status = mote_start(&sampler, &request)) != MOTE_OK) {
        return failed("mote_start", status);
    }

    mote_progress_t progress;
    while ((status = mote_poll(&sampler, &progress)) == MOTE_PENDING) {
        if (progress.step_done) {
            printf("step %u of %u\n", (unsigned)progress.step, (unsigned)progress.steps);
        }
    }
    if (status != MOTE_OK) {
        return failed("mote_poll", status);
    }

    if ((status = mote_image_gray8(&sampler, pixels, sizeof pixels)) != MOTE_OK) {
        return failed("mote_image_gray8", status);
    }
    show();

    uint32_t crc = 0;
    if ((status = mote_sample_crc(&sampler, &crc)) != MOTE_OK) {
        return failed("mote_sample_crc", status);
    }
    printf("crc digits 7 %08" PRIx32 "\n", crc);
    status = mote_self_test(&sampler, MOTE_SELF_TEST_STEP, NULL);
    printf("self-test: %s\n", status == MOTE_OK ? "passed" : mote_error_text(status));
    return status != MOTE_OK;
}

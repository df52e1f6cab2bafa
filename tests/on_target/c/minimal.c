/* Only the library: what it costs in flash is what this program has more than one built with -DEMPTY, less the models.
 * No text and no libc but memcpy, memset and exit; the exit code says how it went. */

#include "mote.h"

#ifndef EMPTY
extern const uint8_t digits[], digits_end[];

static mote_sampler_t sampler;
/* A host's kernels take more scratch. */
static uint8_t arena[UINTPTR_MAX > 0xffffffff ? 262144 : 131072] __attribute__((aligned(16)));
static volatile uint8_t pixels[28 * 28];

int main(void) {
    mote_request_t request = mote_request_default();
    request.seed = 7;
    request.class_label = 7;
    request.poll_budget = 250000;
    if (mote_init(&sampler, digits, (size_t)(digits_end - digits), arena, sizeof arena, NULL) != MOTE_OK ||
        mote_start(&sampler, &request) != MOTE_OK) {
        return 1;
    }
    while (mote_poll(&sampler, NULL) == MOTE_PENDING) {
    }
    return mote_image_gray8(&sampler, (uint8_t *)pixels, sizeof pixels) != MOTE_OK;
}
#else
int main(void) {
    return 0;
}
#endif

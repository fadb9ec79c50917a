/* Serves raw RGB frames from stdin under a deadline, as a camera pipeline would.
 *
 *     stream BUNDLE DEADLINE_MILLISECONDS WIDTH HEIGHT < frames.rgb
 *
 * Every frame gets a line: the rung that the governor chose, its fidelity and the latency. It is
 * compiled like classify.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "headroom.h"

static int failed(const char *what) {
    fprintf(stderr, "error: %s: %s\n", what, headroom_last_error());
    return EXIT_FAILURE;
}

/* Submits each frame and waits for its answer. */
static int stream(const HeadroomRuntime *runtime, const HeadroomClient *client, uint8_t *frame, uint32_t width,
                  uint32_t height) {
    HeadroomSizes sizes;
    if (headroom_runtime_sizes(runtime, &sizes) != HEADROOM_STATUS_OK) {
        return failed("cannot read the sizes");
    }
    float *embedding = (float *)malloc(sizes.embedding * sizeof *embedding);
    size_t bytes = (size_t)width * height * 3;
    int code = embedding == NULL ? EXIT_FAILURE : EXIT_SUCCESS;
    for (uint64_t number = 0; code == EXIT_SUCCESS && fread(frame, 1, bytes, stdin) == bytes; number++) {
        HeadroomReply reply;
        if (headroom_client_submit_rgb8(client, number, frame, bytes, width, height) != HEADROOM_STATUS_OK) {
            code = failed("a frame was not accepted");
        } else if (headroom_client_receive(client, 10000, &reply, embedding, sizes.embedding, NULL, 0) !=
                   HEADROOM_STATUS_OK) {
            code = failed("a frame was not answered");
        } else {
            printf("frame %" PRIu64 ": rung %" PRIu32 ", fidelity %.4f, %.3f ms\n", reply.request, reply.rung,
                   (double)reply.fidelity, (double)reply.latency_nanoseconds / 1e6);
        }
    }
    free(embedding);
    return code;
}

int main(int count, char **arguments) {
    if (count != 5) {
        fprintf(stderr, "usage: %s BUNDLE DEADLINE_MILLISECONDS WIDTH HEIGHT < frames.rgb\n", arguments[0]);
        return 2;
    }
    uint32_t width = (uint32_t)strtoul(arguments[3], NULL, 10);
    uint32_t height = (uint32_t)strtoul(arguments[4], NULL, 10);
    HeadroomLimits limits;
    memset(&limits, 0, sizeof limits);
    limits.set = HEADROOM_LIMIT_DEADLINE;
    limits.deadline_nanoseconds = (uint64_t)(atof(arguments[2]) * 1e6);
    limits.miss_rate = 0.01f;

    HeadroomRuntime *runtime = NULL;
    HeadroomClient *client = NULL;
    uint8_t *frame = (uint8_t *)malloc((size_t)width * height * 3 + 1);
    int code = EXIT_FAILURE;
    if (frame == NULL) {
        fprintf(stderr, "error: out of memory\n");
    } else if (headroom_runtime_start(arguments[1], &limits, NULL, &runtime) != HEADROOM_STATUS_OK) {
        code = failed("cannot serve the bundle");
    } else if (headroom_client_new(runtime, HEADROOM_WHEN_FULL_WAIT, 1, &client) != HEADROOM_STATUS_OK) {
        code = failed("cannot make a client");
    } else {
        code = stream(runtime, client, frame, width, height);
    }
    headroom_client_close(client);
    headroom_runtime_stop(runtime);
    free(frame);
    return code;
}

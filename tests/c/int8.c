/* Runs one image in int8, through a session and through a runtime, and refuses what cannot run so.
 *
 *     int8 BUNDLE BUNDLE_WITHOUT_INT8 FRAME.rgb WIDTH HEIGHT RUNG EMBEDDING.f32
 *
 * The embedding of the session at RUNG is written to EMBEDDING.f32 as native floats.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "headroom.h"

static void expect(int line, HeadroomStatus found, HeadroomStatus expected, const char *words) {
    if (found != expected || (words != NULL && strstr(headroom_last_error(), words) == NULL)) {
        fprintf(stderr, "line %d: status %d (%s), expected %d (%s)\n", line, (int)found, headroom_last_error(),
                (int)expected, words != NULL ? words : "");
        exit(EXIT_FAILURE);
    }
}

#define EXPECT(call, status, words) expect(__LINE__, call, HEADROOM_STATUS_##status, words)

int main(int count, char **arguments) {
    if (count != 8) {
        return 2;
    }
    const char *bundle = arguments[1], *without = arguments[2];
    uint32_t width = (uint32_t)atoi(arguments[4]), height = (uint32_t)atoi(arguments[5]);
    size_t rung = (size_t)atoi(arguments[6]), bytes = (size_t)width * height * 3;
    uint8_t *rgb = (uint8_t *)malloc(bytes);
    FILE *file = fopen(arguments[3], "rb");
    if (rgb == NULL || file == NULL || fread(rgb, 1, bytes, file) != bytes) {
        return EXIT_FAILURE;
    }
    fclose(file);

    HeadroomModel *model = NULL;
    EXPECT(headroom_model_open_in(bundle, 2, 0, NULL, &model), INVALID_ARGUMENT, "precision");
    EXPECT(headroom_model_open_in(without, HEADROOM_PRECISION_INT8, 0, NULL, &model), BUNDLE, "model.int8");
    EXPECT(headroom_model_open_in(without, HEADROOM_PRECISION_F32, 0, NULL, &model), OK, NULL);
    headroom_model_close(model);
    EXPECT(headroom_model_open_in(bundle, HEADROOM_PRECISION_INT8, 2, NULL, &model), OK, NULL);
    HeadroomSizes sizes;
    EXPECT(headroom_model_sizes(model, &sizes), OK, NULL);
    HeadroomSession *session = NULL;
    EXPECT(headroom_session_new(model, &session), OK, NULL);
    headroom_model_close(model);
    size_t e = sizes.embedding, c = sizes.classes;
    float *embedding = (float *)calloc(e, sizeof(float)), *other = (float *)calloc(e, sizeof(float));
    float *logits = (float *)calloc(c, sizeof(float)), *pixels = (float *)calloc(sizes.pixels, sizeof(float));
    EXPECT(headroom_session_infer_pixels(session, rung, pixels, sizes.pixels, other, e, logits, c), OK, NULL);
    EXPECT(headroom_session_infer_rgb8(session, rung, rgb, bytes, width, height, embedding, e, logits, c), OK, NULL);
    if (memcmp(embedding, other, e * sizeof(float)) == 0) {
        fprintf(stderr, "another image has the same embedding\n");
        return EXIT_FAILURE;
    }
    file = fopen(arguments[7], "wb");
    if (file == NULL || fwrite(embedding, sizeof(float), e, file) != e || fclose(file) != 0) {
        return EXIT_FAILURE;
    }

    /* Without limits, the runtime runs rung 0. */
    EXPECT(headroom_session_infer_rgb8(session, 0, rgb, bytes, width, height, embedding, e, logits, c), OK, NULL);
    headroom_session_close(session);
    HeadroomRuntime *runtime = NULL;
    EXPECT(headroom_runtime_start_in(bundle, 2, NULL, NULL, &runtime), INVALID_ARGUMENT, "precision");
    EXPECT(headroom_runtime_start_in(without, HEADROOM_PRECISION_INT8, NULL, NULL, &runtime), BUNDLE, "model.int8");
    EXPECT(headroom_runtime_start_in(bundle, HEADROOM_PRECISION_INT8, NULL, NULL, &runtime), OK, NULL);
    EXPECT(headroom_runtime_replace_bundle(runtime, without), BUNDLE, "model.int8");
    HeadroomClient *client = NULL;
    HeadroomReply reply;
    EXPECT(headroom_client_new(runtime, HEADROOM_WHEN_FULL_WAIT, 1, &client), OK, NULL);
    EXPECT(headroom_client_submit_rgb8(client, 1, rgb, bytes, width, height), OK, NULL);
    EXPECT(headroom_client_receive(client, 60000, &reply, other, e, NULL, 0), OK, NULL);
    if (reply.rung != 0 || memcmp(embedding, other, e * sizeof(float)) != 0) {
        fprintf(stderr, "the runtime computes something else than a session\n");
        return EXIT_FAILURE;
    }
    headroom_client_close(client);
    headroom_runtime_stop(runtime);
    free(pixels);
    free(logits);
    free(other);
    free(embedding);
    free(rgb);
    return EXIT_SUCCESS;
}

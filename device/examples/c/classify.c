/* Classifies one raw image with the best rung within a budget.
 *
 *     classify BUNDLE MACS_PERCENT FRAME.rgb WIDTH HEIGHT [EMBEDDING.f32]
 *
 * FRAME.rgb holds the rows of the image from top to bottom, three bytes a pixel, red first, as
 * `ffmpeg -pix_fmt rgb24 -f rawvideo` and GStreamer's `video/x-raw,format=RGB` give them. The
 * embedding is written to EMBEDDING.f32 as native floats. With the libraries in target/release:
 *
 *     cc -I device/include device/examples/c/classify.c -L target/release -lheadroom_device -o classify
 *     LD_LIBRARY_PATH=target/release ./classify bundles/mine 50 frame.rgb 640 480
 *
 * To link statically, name target/release/libheadroom_device.a instead of -L and -l, and add
 * -lpthread -ldl -lm.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "headroom.h"

static int failed(const char *what) {
    fprintf(stderr, "error: %s: %s\n", what, headroom_last_error());
    return EXIT_FAILURE;
}

/* The whole file, or NULL. */
static uint8_t *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    uint8_t *bytes = NULL;
    if (fseek(file, 0, SEEK_END) == 0) {
        long end = ftell(file);
        rewind(file);
        bytes = end > 0 ? (uint8_t *)malloc((size_t)end) : NULL;
        if (bytes != NULL) {
            *size = fread(bytes, 1, (size_t)end, file);
        }
    }
    fclose(file);
    return bytes;
}

static int write_floats(const char *path, const float *values, size_t count) {
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        return 0;
    }
    size_t written = fwrite(values, sizeof *values, count, file);
    return fclose(file) == 0 && written == count;
}

static int classify(const HeadroomModel *model, double macs_percent, const uint8_t *rgb, size_t bytes, uint32_t width,
                    uint32_t height, const char *embedding_path) {
    HeadroomSizes sizes;
    HeadroomRung dense;
    if (headroom_model_sizes(model, &sizes) != HEADROOM_STATUS_OK ||
        headroom_model_rung(model, 0, &dense) != HEADROOM_STATUS_OK) {
        return failed("cannot read the ladder");
    }
    HeadroomBudget budget;
    memset(&budget, 0, sizeof budget);
    budget.set = HEADROOM_BUDGET_MACS;
    budget.macs = (uint64_t)((double)dense.macs * macs_percent / 100.0);
    size_t rung = 0;
    HeadroomRung chosen;
    if (headroom_model_choose(model, &budget, &rung) != HEADROOM_STATUS_OK ||
        headroom_model_rung(model, rung, &chosen) != HEADROOM_STATUS_OK) {
        return failed("no rung within the budget");
    }
    printf("rung %zu: %llu MACs, fidelity %.4f, %.3f ms %s\n", rung, (unsigned long long)chosen.macs,
           (double)chosen.fidelity, (double)chosen.latency_nanoseconds / 1e6,
           chosen.latency_is_measured ? "measured" : "predicted");

    HeadroomSession *session = NULL;
    if (headroom_session_new(model, &session) != HEADROOM_STATUS_OK) {
        return failed("cannot make a session");
    }
    float *embedding = (float *)malloc(sizes.embedding * sizeof *embedding);
    float *logits = (float *)malloc((sizes.classes + 1) * sizeof *logits);
    int code = EXIT_FAILURE;
    if (embedding == NULL || logits == NULL) {
        fprintf(stderr, "error: out of memory\n");
    } else if (headroom_session_infer_rgb8(session, rung, rgb, bytes, width, height, embedding, sizes.embedding, logits,
                                           sizes.classes) != HEADROOM_STATUS_OK) {
        code = failed("inference failed");
    } else if (embedding_path != NULL && !write_floats(embedding_path, embedding, sizes.embedding)) {
        fprintf(stderr, "error: cannot write `%s`\n", embedding_path);
    } else {
        size_t best = 0;
        for (size_t class_index = 1; class_index < sizes.classes; class_index++) {
            if (logits[class_index] > logits[best]) {
                best = class_index;
            }
        }
        const char *label = NULL;
        if (sizes.classes > 0 && headroom_model_label(model, best, &label) == HEADROOM_STATUS_OK) {
            printf("class %zu: %s\n", best, label != NULL ? label : "without a name");
        }
        code = EXIT_SUCCESS;
    }
    free(logits);
    free(embedding);
    headroom_session_close(session);
    return code;
}

int main(int count, char **arguments) {
    if (count < 6 || count > 7) {
        fprintf(stderr, "usage: %s BUNDLE MACS_PERCENT FRAME.rgb WIDTH HEIGHT [EMBEDDING.f32]\n", arguments[0]);
        return 2;
    }
    if (headroom_abi_version() != HEADROOM_ABI_VERSION) {
        fprintf(stderr, "error: the library's interface is version %u, this program was made for %u\n",
                headroom_abi_version(), HEADROOM_ABI_VERSION);
        return EXIT_FAILURE;
    }
    size_t bytes = 0;
    uint8_t *rgb = read_file(arguments[3], &bytes);
    if (rgb == NULL) {
        fprintf(stderr, "error: cannot read `%s`\n", arguments[3]);
        return EXIT_FAILURE;
    }
    HeadroomModel *model = NULL;
    int code;
    if (headroom_model_open(arguments[1], 0, NULL, &model) != HEADROOM_STATUS_OK) {
        code = failed("cannot open the model");
    } else {
        code = classify(model, atof(arguments[2]), rgb, bytes, (uint32_t)strtoul(arguments[4], NULL, 10),
                        (uint32_t)strtoul(arguments[5], NULL, 10), count > 6 ? arguments[6] : NULL);
    }
    headroom_model_close(model);
    free(rgb);
    return code;
}

/* Calls every function as wrongly as can be detected, and expects a status, a text and no crash.
 *
 *     misuse BUNDLE MISSING_BUNDLE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "headroom.h"

static int failures = 0;

static void expect(int line, HeadroomStatus found, HeadroomStatus expected, const char *words) {
    if (found != expected || (words != NULL && strstr(headroom_last_error(), words) == NULL)) {
        fprintf(stderr, "line %d: status %d (%s), expected %d (%s)\n", line, (int)found, headroom_last_error(),
                (int)expected, words != NULL ? words : "");
        failures++;
    }
}

#define EXPECT(call, status, words) expect(__LINE__, call, HEADROOM_STATUS_##status, words)

int main(int count, char **arguments) {
    if (count != 3) {
        return 2;
    }
    const char *bundle = arguments[1];
    HeadroomModel *model = NULL;
    HeadroomModel *other = NULL;
    EXPECT(headroom_model_open(NULL, 0, NULL, &other), INVALID_POINTER, "bundle");
    EXPECT(headroom_model_open(bundle, 0, NULL, NULL), INVALID_POINTER, "model");
    EXPECT(headroom_model_open(arguments[2], 0, NULL, &other), BUNDLE, arguments[2]);
    EXPECT(headroom_model_open("\xff\xfe", 0, NULL, &other), INVALID_ARGUMENT, "UTF-8");
    EXPECT(headroom_model_open(bundle, 0, "/dev/zero", &other), MEASURED_PROFILE, "/dev/zero");
    EXPECT(headroom_model_open(bundle, 1000, NULL, &other), INVALID_ARGUMENT, "threads");
    if (other != NULL) {
        fprintf(stderr, "a refused model was written\n");
        failures++;
    }
    EXPECT(headroom_model_open(bundle, 0, NULL, &model), OK, NULL);

    HeadroomSizes sizes;
    EXPECT(headroom_model_sizes(NULL, &sizes), INVALID_POINTER, "model");
    EXPECT(headroom_model_sizes(model, NULL), INVALID_POINTER, "sizes");
    EXPECT(headroom_model_sizes((const HeadroomModel *)((const char *)model + 1), &sizes), INVALID_POINTER, "aligned");
    EXPECT(headroom_model_sizes(model, &sizes), OK, NULL);

    HeadroomRung rung;
    EXPECT(headroom_model_rung(model, sizes.rungs, &rung), NO_SUCH_RUNG, "0 to");
    EXPECT(headroom_model_rung(model, (size_t)-1, &rung), NO_SUCH_RUNG, NULL);
    EXPECT(headroom_model_rung(model, 0, NULL), INVALID_POINTER, "rung");
    const char *label = "unchanged";
    EXPECT(headroom_model_label(model, (size_t)-1, &label), OK, NULL);
    if (label != NULL) {
        failures++;
    }

    HeadroomBudget budget;
    memset(&budget, 0, sizeof budget);
    size_t chosen = 77;
    EXPECT(headroom_model_choose(model, NULL, &chosen), INVALID_POINTER, "budget");
    budget.set = 0x100;
    EXPECT(headroom_model_choose(model, &budget, &chosen), INVALID_ARGUMENT, "0x100");
    budget.set = HEADROOM_BUDGET_MACS;
    EXPECT(headroom_model_choose(model, &budget, &chosen), NOTHING_FITS, "smallest");
    budget.set = 0;
    EXPECT(headroom_model_choose(model, &budget, &chosen), OK, NULL);
    if (chosen != 0) {
        failures++;
    }

    HeadroomSession *session = NULL;
    EXPECT(headroom_session_new(NULL, &session), INVALID_POINTER, "model");
    EXPECT(headroom_session_new(model, &session), OK, NULL);
    float *pixels = (float *)calloc(sizes.pixels + 1, sizeof(float));
    float *embedding = (float *)calloc(sizes.embedding + 1, sizeof(float));
    float *logits = (float *)calloc(sizes.classes + 1, sizeof(float));
    uint8_t rgb[12] = {0};
    size_t p = sizes.pixels, e = sizes.embedding, c = sizes.classes;
    EXPECT(headroom_session_infer_pixels(NULL, 0, pixels, p, embedding, e, logits, c), INVALID_POINTER, "session");
    EXPECT(headroom_session_infer_pixels(session, 0, NULL, p, embedding, e, logits, c), INVALID_POINTER, "pixels");
    EXPECT(headroom_session_infer_pixels(session, 0, pixels, p - 1, embedding, e, logits, c), WRONG_SIZE, "pixels");
    EXPECT(headroom_session_infer_pixels(session, 0, pixels, (size_t)-1, embedding, e, logits, c), WRONG_SIZE, "pixels");
    EXPECT(headroom_session_infer_pixels(session, 0, pixels, p, NULL, e, logits, c), INVALID_POINTER, "embedding");
    EXPECT(headroom_session_infer_pixels(session, 0, pixels, p, embedding, e + 1, logits, c), WRONG_SIZE, "embedding");
    EXPECT(headroom_session_infer_pixels(session, 0, pixels, p, embedding, e, logits, c + 1), WRONG_SIZE, "logits");
    EXPECT(headroom_session_infer_pixels(session, 99, pixels, p, embedding, e, logits, c), NO_SUCH_RUNG, "99");
    EXPECT(headroom_session_infer_pixels(session, 0, (const float *)((char *)pixels + 1), p, embedding, e, logits, c),
           INVALID_POINTER, "aligned");
    EXPECT(headroom_session_infer_pixels(session, 0, pixels, p, NULL, 0, NULL, 0), OK, NULL);
    EXPECT(headroom_session_infer_rgb8(session, 0, NULL, 12, 2, 2, NULL, 0, NULL, 0), INVALID_POINTER, "rgb");
    EXPECT(headroom_session_infer_rgb8(session, 0, rgb, 11, 2, 2, NULL, 0, NULL, 0), WRONG_SIZE, "rgb");
    EXPECT(headroom_session_infer_rgb8(session, 0, rgb, 0, 0, 2, NULL, 0, NULL, 0), WRONG_SIZE, "0 x 2");
    EXPECT(headroom_session_infer_rgb8(session, 0, rgb, 12, 0xffffffffu, 0xffffffffu, NULL, 0, NULL, 0), WRONG_SIZE, NULL);
    EXPECT(headroom_session_infer_rgb8(session, 0, rgb, 12, 2, 2, embedding, e, NULL, 0), OK, NULL);

    HeadroomLimits limits;
    memset(&limits, 0, sizeof limits);
    HeadroomGovernor *governor = NULL;
    EXPECT(headroom_governor_new(model, NULL, &governor), INVALID_POINTER, "limits");
    limits.set = 0x80000000u;
    EXPECT(headroom_governor_new(model, &limits, &governor), INVALID_ARGUMENT, "limits.set");
    limits.set = 0;
    EXPECT(headroom_governor_new(model, &limits, &governor), OK, NULL);
    HeadroomReading reading;
    memset(&reading, 0, sizeof reading);
    HeadroomDecision decision;
    EXPECT(headroom_governor_step(NULL, &reading, 0, &decision), INVALID_POINTER, "governor");
    EXPECT(headroom_governor_step(governor, NULL, 0, &decision), INVALID_POINTER, "reading");
    reading.known = 0x100;
    EXPECT(headroom_governor_step(governor, &reading, 0, &decision), INVALID_ARGUMENT, "reading.known");
    reading.known = HEADROOM_READING_SENSORS | HEADROOM_READING_CHARGE;
    reading.charge_percent = 101;
    EXPECT(headroom_governor_step(governor, &reading, 0, &decision), INVALID_ARGUMENT, "charge_percent");
    reading.known = HEADROOM_READING_INFERENCE;
    reading.inference_rung = 1000;
    EXPECT(headroom_governor_step(governor, &reading, 0, &decision), INVALID_ARGUMENT, "inference_rung");
    reading.known = HEADROOM_READING_SENSORS | HEADROOM_READING_TEMPERATURE;
    EXPECT(headroom_governor_step(governor, &reading, 0, &decision), OK, NULL);

    HeadroomRuntime *runtime = NULL;
    HeadroomOptions options;
    memset(&options, 0, sizeof options);
    EXPECT(headroom_runtime_start(NULL, NULL, NULL, &runtime), INVALID_POINTER, "bundle");
    EXPECT(headroom_runtime_start(arguments[2], NULL, NULL, &runtime), BUNDLE, NULL);
    options.sensors = 3;
    EXPECT(headroom_runtime_start(bundle, NULL, &options, &runtime), INVALID_ARGUMENT, "sensors");
    options.sensors = HEADROOM_SENSORS_NONE;
    limits.set = HEADROOM_LIMIT_POWER;
    limits.power_milliwatts = 5000;
    EXPECT(headroom_runtime_start(bundle, &limits, &options, &runtime), LIMITS, "sensor");
    limits.set = HEADROOM_LIMIT_DEADLINE;
    limits.deadline_nanoseconds = 1000000;
    limits.miss_rate = (float)atof("nan");
    EXPECT(headroom_runtime_start(bundle, &limits, &options, &runtime), LIMITS, "miss rate");
    limits.set = 0;
    options.sensors = HEADROOM_SENSORS_OF_MACHINE;
    EXPECT(headroom_runtime_start(bundle, NULL, &options, &runtime), OK, NULL);
    EXPECT(headroom_runtime_decision(runtime, NULL), INVALID_POINTER, "decision");
    EXPECT(headroom_runtime_decision(runtime, &decision), OK, NULL);
    EXPECT(headroom_runtime_set_limits(runtime, NULL), INVALID_POINTER, "limits");
    EXPECT(headroom_runtime_set_limits(runtime, &limits), OK, NULL);
    EXPECT(headroom_runtime_replace_bundle(runtime, arguments[2]), BUNDLE, NULL);
    EXPECT(headroom_runtime_replace_bundle(runtime, bundle), OK, NULL);

    HeadroomClient *client = NULL;
    HeadroomReply reply;
    EXPECT(headroom_client_new(NULL, 0, 0, &client), INVALID_POINTER, "runtime");
    EXPECT(headroom_client_new(runtime, 9, 0, &client), INVALID_ARGUMENT, "when_full");
    EXPECT(headroom_client_new(runtime, HEADROOM_WHEN_FULL_WAIT, 4, &client), OK, NULL);
    EXPECT(headroom_client_receive(client, 0, &reply, NULL, 0, NULL, 0), TIMED_OUT, NULL);
    EXPECT(headroom_client_submit_pixels(client, 1, NULL, p), INVALID_POINTER, "pixels");
    EXPECT(headroom_client_submit_pixels(client, 1, pixels, (size_t)-1), WRONG_SIZE, "pixels");
    EXPECT(headroom_client_submit_pixels(client, 2, pixels, p - 1), OK, NULL);
    EXPECT(headroom_client_receive(client, 60000, &reply, NULL, 0, NULL, 0), INFERENCE, "pixel");
    if (reply.request != 2) {
        failures++;
    }
    EXPECT(headroom_client_submit_rgb8(client, 3, rgb, 12, 2, 2), OK, NULL);
    EXPECT(headroom_client_receive(client, 60000, NULL, embedding, e, NULL, 0), INVALID_POINTER, "reply");
    EXPECT(headroom_client_receive(client, 60000, &reply, embedding, e + 1, NULL, 0), WRONG_SIZE, "embedding");
    EXPECT(headroom_client_receive(client, 60000, &reply, embedding, e, logits, c), OK, NULL);
    if (reply.request != 3) {
        failures++;
    }
    headroom_runtime_stop(runtime);
    EXPECT(headroom_client_submit_pixels(client, 4, pixels, p), OK, NULL);
    EXPECT(headroom_client_receive(client, 60000, &reply, NULL, 0, NULL, 0), STOPPED, NULL);

    /* Sessions and governors outlive their model; null is nothing to close. */
    headroom_model_close(model);
    EXPECT(headroom_session_infer_pixels(session, 0, pixels, p, embedding, e, NULL, 0), OK, NULL);
    headroom_session_close(session);
    headroom_governor_close(governor);
    headroom_client_close(client);
    headroom_model_close(NULL);
    headroom_session_close(NULL);
    headroom_governor_close(NULL);
    headroom_client_close(NULL);
    headroom_runtime_stop(NULL);
    free(logits);
    free(embedding);
    free(pixels);
    if (failures == 0) {
        printf("every misuse was refused\n");
    }
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

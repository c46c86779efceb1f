/* A bundled model in C: raw input in, labels with scores out.
 *
 * Needs a C11 compiler, POSIX or Windows files, libm, and the shared library of ONNX Runtime or of LiteRT, whichever
 * edgekit_model.c was written for (what it uses of the library's C interface is declared there: no other header is
 * needed). Nothing is kept between calls but what edgekit_load made; one model may be used by several threads at once.
 *
 *     char why[EDGEKIT_ERROR];
 *     edgekit_model *model = edgekit_load("bundle", 1, why);
 *     edgekit_prediction best[3];
 *     int count = edgekit_predict_text(model, "a sentence", NULL, best, 3, why);
 *     edgekit_free(model);
 */
#ifndef EDGEKIT_MODEL_H
#define EDGEKIT_MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EDGEKIT_ERROR 512 /* bytes of a message, its end included */

typedef struct edgekit_model edgekit_model;

typedef struct {
    const char *label; /* belongs to the model */
    double score;
} edgekit_prediction;

/* Load the bundle in a folder, the one with bundle.json. NULL where it cannot be loaded; `why` then says so. */
edgekit_model *edgekit_load(const char *folder, int threads, char why[EDGEKIT_ERROR]);

/* Release a model; NULL is let pass. */
void edgekit_free(edgekit_model *model);

/* How many classes there are, and the name of each. */
int edgekit_label_count(const edgekit_model *model);
const char *edgekit_label(const edgekit_model *model, int index);

/* Labels with scores of a text in UTF-8, or of two (`pair`, else NULL), the best first.
 * Fills at most `most` predictions and returns how many; -1 on failure, `why` then says so. */
int edgekit_predict_text(
    const edgekit_model *model, const char *text, const char *pair, edgekit_prediction *best, int most,
    char why[EDGEKIT_ERROR]);

/* The same of an image: 8 bits a channel, row by row, 3 channels (RGB) or 1. Decoding a file is the caller's. */
int edgekit_predict_image(
    const edgekit_model *model, const uint8_t *pixels, int width, int height, int channels, edgekit_prediction *best,
    int most, char why[EDGEKIT_ERROR]);

/* Is every file of the bundle whole, and does the model answer here as it did where it was made?
 * Calls `tell` with each problem, one line; returns how many there are. */
int edgekit_self_test(const char *folder, void (*tell)(const char *line, void *user), void *user);

#ifdef __cplusplus
}
#endif

#endif

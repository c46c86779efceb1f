/* edgekit_example FOLDER TEXT...              labels of texts
 * edgekit_example FOLDER FILE WIDTH HEIGHT    labels of an image: RGB of 8 bits a channel, no header
 * edgekit_example FOLDER                      the self-test
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgekit_model.h"

static void tell(const char *line, void *user) {
    (void)user;
    puts(line);
}

static int print_best(int found, const edgekit_prediction *best, const char *why) {
    if (found < 1) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    printf("%s\t%.4f\n", best->label, best->score);
    return 0;
}

static int predict_image(const edgekit_model *model, const char *name, int width, int height) {
    char why[EDGEKIT_ERROR] = "the file has another size";
    edgekit_prediction best;
    int found = -1;
    size_t area = (size_t)width * (size_t)height, size = 0;
    unsigned char *pixels = malloc(area * 3 + 1);
    FILE *stream = fopen(name, "rb");
    if (stream != NULL && pixels != NULL) size = fread(pixels, 1, area * 3 + 1, stream);
    if (size == area || size == area * 3) {
        found = edgekit_predict_image(model, pixels, width, height, (int)(size / area), &best, 1, why);
    }
    if (stream != NULL) fclose(stream);
    free(pixels);
    return print_best(found, &best, why);
}

int main(int count, char **arguments) {
    char why[EDGEKIT_ERROR];
    if (count < 2) {
        fprintf(stderr, "usage: %s FOLDER [TEXT... | FILE WIDTH HEIGHT]\n", arguments[0]);
        return 2;
    }
    if (count == 2) {
        int problems = edgekit_self_test(arguments[1], tell, NULL);
        if (problems == 0) puts("self-test passed");
        return problems == 0 ? 0 : 1;
    }
    edgekit_model *model = edgekit_load(arguments[1], 1, why);
    if (model == NULL) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    int failed = 0, width = count == 5 ? atoi(arguments[3]) : 0, height = count == 5 ? atoi(arguments[4]) : 0;
    if (width > 0 && height > 0 && width < 65536 && height < 65536) {
        failed = predict_image(model, arguments[2], width, height);
    } else {
        for (int index = 2; index < count; index++) {
            edgekit_prediction best;
            int found = edgekit_predict_text(model, arguments[index], NULL, &best, 1, why);
            failed |= print_best(found, &best, why);
        }
    }
    edgekit_free(model);
    return failed;
}

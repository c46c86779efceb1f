/* What a .tflite's code in C answers to samples of ones, and from which entry point; then the same from several threads.
 * It is compiled with edgekit_model.c as a part of it.
 *
 *     entries FOLDER NUMBER INPUT...    samples of 1 to NUMBER ids; a line each: the length of the entry point and the answer
 */
#include "edgekit_model.c"

enum { THREADS = 4, ROUNDS = 25, MOST = 64 };

typedef struct {
    const edgekit_model *model;
    char **names;
    size_t inputs;
    float answers[MOST][MOST]; /* by length */
    size_t longest;
    int wrong;
} Asked;

static size_t make(Work *work, const Asked *asked, size_t length, Tensor *inputs) {
    Ids ids = {.at = take(work, (length + 1) * sizeof *ids.at), .count = length};
    for (size_t index = 0; index < length; index++) ids.at[index] = 1;
    for (size_t index = 0; index < asked->inputs; index++) inputs[index] = id_tensor(work, asked->names[index], &ids, 0);
    return asked->inputs;
}

static int answer_one(const Asked *asked, size_t length, float *answer, int *size, char why[EDGEKIT_ERROR]) {
    Work work = {.why = why};
    Tensor inputs[MOST_INPUTS];
    if (setjmp(work.escape) != 0) {
        release(&work);
        return 0;
    }
    size_t count = make(&work, asked, length, inputs);
    *size = choose_signature(&work, &asked->model->runtime, inputs, count)->inputs[0].type.layout.sides[1];
    memcpy(answer, output_of(&work, asked->model, inputs, count), asked->model->label_count * sizeof(float));
    release(&work);
    return 1;
}

static void *ask(void *given) {
    Asked *asked = given;
    char why[EDGEKIT_ERROR];
    float answer[MOST];
    int size;
    for (int round = 0; round < ROUNDS; round++) {
        size_t length = 1 + (size_t)round % asked->longest;
        if (!answer_one(asked, length, answer, &size, why)) asked->wrong++;
        else asked->wrong += memcmp(answer, asked->answers[length], asked->model->label_count * sizeof(float)) != 0;
    }
    return NULL;
}

int main(int count, char **arguments) {
    char why[EDGEKIT_ERROR];
    Asked asked = {.names = arguments + 3, .inputs = (size_t)count - 3, .longest = strtoul(arguments[2], NULL, 10)};
    edgekit_model *model = edgekit_load(arguments[1], 2, why);
    if (model == NULL) {
        puts(why);
        return 1;
    }
    asked.model = model;
    for (size_t length = 1; length <= asked.longest + 1; length++) {
        int size = 0;
        if (!answer_one(&asked, length, asked.answers[length], &size, why)) {
            puts(why);
            continue;
        }
        printf("%d", size);
        for (size_t index = 0; index < model->label_count; index++) printf(" %.9g", asked.answers[length][index]);
        putchar('\n');
    }
    pthread_t threads[THREADS];
    Asked each[THREADS];
    int wrong = 0;
    for (int index = 0; index < THREADS; index++) {
        each[index] = asked;
        pthread_create(&threads[index], NULL, ask, &each[index]);
    }
    for (int index = 0; index < THREADS; index++) {
        pthread_join(threads[index], NULL);
        wrong += each[index].wrong;
    }
    printf("%d of %d threads' answers differ\n", wrong, THREADS * ROUNDS);
    edgekit_free(model);
    return 0;
}

/* ---- the self-test: files first, so that a damaged one is named, and not what follows from it ---- */
typedef struct {
    const char *folder;
    void (*tell)(const char *, void *);
    void *user;
    volatile int count;
} Test;

static void told(Test *test, const char *format, ...) {
    char line[EDGEKIT_ERROR];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    test->count++;
    if (test->tell != NULL) test->tell(line, test->user);
}

static void test_file(Test *test, const char *name, const Json *record, char why[EDGEKIT_ERROR]) {
    Work work = {.why = why};
    if (setjmp(work.escape) != 0) {
        told(test, "%s: %s", name, why);
        release(&work);
        return;
    }
    char sum[65];
    Bytes content = read_file(&work, test->folder, name);
    size_t size = need_count(&work, record, "size_bytes");
    if (content.at == NULL) {
        told(test, "%s: missing", name);
    } else if (content.length != size) {
        told(test, "%s: has %zu bytes, not %zu", name, content.length, size);
    } else {
        sha256(content, sum);
        if (!is_text(find(record, "sha256"), sum)) told(test, "%s: changed (its SHA-256 is another one)", name);
    }
    release(&work);
}

static void test_labels(Test *test, Work *work, const Json *description) {
    const Json *answer = need(work, description, "answer");
    const char *name = need_text(work, answer, "labels");
    size_t count = need_count(work, answer, "count");
    Bytes text = read_file(work, test->folder, name);
    size_t found = text.at == NULL ? 0 : count_lines(text);
    if (found != count) told(test, "%s: %zu labels, and the model has %zu classes", name, found, count);
}

/* What is wrong with a sample's inputs; NULL where all is well: they then become the stored ones, so that an image that
 * is a step of a pixel away from them does not count against the model. */
static const char *wrong_input(Test *test, Work *work, Tensor *inputs, size_t count, const Json *stored, double allowed) {
    char *line = take(work, EDGEKIT_ERROR);
    for (size_t index = 0; index < stored->count; index++) {
        const char *name = stored->keys[index].at;
        const Json *tensor = &stored->items[index], *shape = need_list(work, tensor, "shape");
        Tensor *given = NULL;
        for (size_t one = 0; one < count; one++) given = strcmp(inputs[one].name, name) == 0 ? &inputs[one] : given;
        int same = given != NULL && given->rank == shape->count;
        for (size_t side = 0; same && side < shape->count; side++) same = (double)given->shape[side] == shape->items[side].number;
        size_t bytes = same ? given->count * (given->is_integer ? 8 : 4) : 0;
        Bytes expected = need_file(work, test->folder, need_text(work, tensor, "file"));
        if (!same || expected.length != bytes) {
            snprintf(line, EDGEKIT_ERROR, "%s has another shape", name);
            return line;
        }
        double most = 0;
        for (size_t place = 0; place < given->count; place++) {
            int64_t integer;
            float real;
            memcpy(&integer, expected.at + (given->is_integer ? place * 8 : 0), given->is_integer ? 8 : 0);
            memcpy(&real, expected.at + (given->is_integer ? 0 : place * 4), given->is_integer ? 0 : 4);
            double difference = given->is_integer ? (double)llabs(given->integers[place] - integer)
                : fabs((double)given->floats[place] - real);
            if (!(difference <= most)) most = difference;
            if (isnan(most)) break; /* it is no number, and stays none */
        }
        double limit = given->is_integer ? 0 : allowed;
        if (!(most <= limit)) {
            snprintf(line, EDGEKIT_ERROR, "%s differs by %.3g; allowed: %.3g", name, most, limit);
            return line;
        }
        memcpy(given->floats, expected.at, bytes);
    }
    return NULL;
}

static size_t prepare_case(Test *test, Work *work, const edgekit_model *model, const Json *sample, Tensor *inputs) {
    const Json *text = find(sample, "text");
    if (text == NULL) {
        Bytes pixels = need_file(work, test->folder, need_text(work, sample, "image"));
        int width = need_pixels(work, sample, "width"), height = need_pixels(work, sample, "height");
        int channels = width > 0 && height > 0 ? (int)(pixels.length / (size_t)width / (size_t)height) : 0;
        Image image = raw_image(work, model, (const uint8_t *)pixels.at, width, height, channels);
        inputs[0] = prepare_image(work, image, model->preprocessing);
        return 1;
    }
    const Json *pair = find(sample, "pair");
    Bytes texts[2] = {need_string(work, sample, "text"), {NULL, 0}};
    if (pair != NULL) texts[1] = need_string(work, sample, "pair");
    return prepare_text(work, model, texts, pair != NULL, inputs);
}

/* The largest absolute value of all samples' outputs. */
static double scale_of(Work *work, const Json *samples) {
    const Json *cases = need_list(work, samples, "cases");
    double scale = 0;
    for (size_t number = 0; number < cases->count; number++) {
        const Json *output = need_list(work, &cases->items[number], "output");
        for (size_t index = 0; index < output->count; index++) scale = fmax(scale, fabs(output->items[index].number));
    }
    return scale > 0 ? scale : 1;
}

static void test_case(Test *test, const edgekit_model *model, const Json *samples, size_t number, char why[EDGEKIT_ERROR]) {
    Work work = {.why = why};
    if (setjmp(work.escape) != 0) {
        told(test, "sample %zu: %s", number, why);
        release(&work);
        return;
    }
    const Json *sample = &need_list(&work, samples, "cases")->items[number], *expected = need_list(&work, sample, "output");
    if (find(sample, "text") != NULL) need_string(&work, sample, "text");
    if (find(sample, "label") != NULL) need_string(&work, sample, "label");
    Tensor inputs[MOST_INPUTS];
    size_t count = prepare_case(test, &work, model, sample, inputs);
    double allowed = need_number(&work, samples, "input_tolerance"), tolerance = need_number(&work, samples, "tolerance");
    const char *wrong = wrong_input(test, &work, inputs, count, need_kind(&work, sample, "inputs", J_OBJECT), allowed);
    if (wrong != NULL || expected->count != model->label_count) {
        told(test, "sample %zu: %s", number, wrong != NULL ? wrong : "has another number of classes");
        release(&work);
        return;
    }
    const float *output = output_of(&work, model, inputs, count);
    double most = 0, scale = scale_of(&work, samples);
    for (size_t index = 0; index < expected->count; index++) {
        double difference = fabs((double)output[index] - expected->items[index].number);
        if (!(difference <= most)) most = difference;
        if (isnan(most)) break; /* as above */
    }
    if (!(most / scale <= tolerance)) {
        told(test, "sample %zu: the output differs by %.3g of the largest answer; allowed: %.3g", number, most / scale, tolerance);
    }
    const Json *label = find(sample, "label");
    const char *best = model->labels[largest(output, model->label_count)];
    if (label != NULL && !is_text(label, best)) {
        told(test, "sample %zu: the label is \"%s\", not \"%s\"", number, best, label->text.at);
    }
    release(&work);
}

int edgekit_self_test(const char *folder, void (*tell)(const char *line, void *user), void *user) {
    Test test = {folder, tell, user, 0};
    char why[EDGEKIT_ERROR];
    Work work = {.why = why};
    edgekit_model *volatile model = NULL;
    if (setjmp(work.escape) != 0) {
        told(&test, "%s", why);
        edgekit_free(model);
        release(&work);
        return test.count;
    }
    const Json *description = read_description(&work, folder), *files = need_kind(&work, description, "files", J_OBJECT);
    for (size_t index = 0; index < files->count; index++) {
        test_file(&test, files->keys[index].at, &files->items[index], why);
    }
    test_labels(&test, &work, description);
    if (test.count == 0) {
        model = edgekit_load(folder, 1, why);
        if (model == NULL) {
            told(&test, "%s", why);
        } else {
            const Json *samples = read_json(&work, folder, need_text(&work, description, "selftest"));
            size_t count = need_list(&work, samples, "cases")->count;
            for (size_t number = 0; number < count; number++) test_case(&test, model, samples, number, why);
        }
    }
    edgekit_free(model);
    release(&work);
    return test.count;
}

/* ---- a bundle as a model ---- */
struct edgekit_model {
    Work work; /* of what is kept */
    Runtime runtime;
    const Json *description, *preprocessing, *answer;
    Tokenizer *tokenizer; /* NULL for images */
    const char **labels;
    size_t label_count;
};

typedef enum { AS_THEY_ARE, SIGMOID, SOFTMAX } Activation;

static const Json *read_json(Work *work, const char *folder, const char *name) {
    return json_parse(work, name, need_file(work, folder, name));
}

static const Json *read_description(Work *work, const char *folder) {
    const Json *description = read_json(work, folder, "bundle.json");
    if (!is_text(find(description, "schema"), "edgekit.bundle/1")) fail(work, "bundle.json is of another version");
    return description;
}

static size_t count_lines(Bytes text) {
    size_t count = 0;
    for (size_t place = 0; place < text.length; place++) count += text.at[place] == '\n';
    return count;
}

static void read_labels(Work *work, edgekit_model *model, const char *folder) {
    const char *name = need_text(work, model->answer, "labels");
    Bytes text = need_file(work, folder, name);
    size_t count = need_count(work, model->answer, "count");
    if (count < 1) fail(work, "the model has no classes");
    if (count_lines(text) != count) fail(work, "%s: %zu lines, not %zu", name, count_lines(text), count);
    char *at = take(work, text.length + 1);
    memcpy(at, text.at, text.length + 1);
    model->labels = take(work, (count + 1) * sizeof(char *));
    for (model->label_count = 0; model->label_count < count; model->label_count++) {
        char *end = strchr(at, '\n');
        if (end == NULL) fail(work, "%s: has a zero in it", name);
        *end = 0;
        model->labels[model->label_count] = at;
        at = end + 1;
    }
}

static const char *model_file(Work *work, const Json *network) {
    const Json *forms = need_list(work, network, "forms");
    for (size_t index = 0; index < forms->count; index++) {
        if (runs(need_text(work, &forms->items[index], "format"))) return need_text(work, &forms->items[index], "file");
    }
    fail(work, "bundle.json: %s, and the bundle has no such file", RUNS);
}

/* A file that was cut short is found here: not every runtime looks before it reads beyond the end. */
static void check_size(Work *work, const char *folder, const char *name, const Json *description) {
    size_t size = need_count(work, need(work, need(work, description, "files"), name), "size_bytes");
    FILE *stream = fopen(path_of(work, folder, name), "rb");
    long found = stream != NULL && fseek(stream, 0, SEEK_END) == 0 ? ftell(stream) : -1;
    if (stream != NULL) fclose(stream);
    if (found < 0) fail(work, "%s: cannot be read", name);
    if ((size_t)found != size) fail(work, "%s: has %ld bytes, not %zu", name, found, size);
}

/* Whether all went well; the model's `why` says what did not. */
static int load(edgekit_model *model, const char *folder, int threads) {
    Work *work = &model->work;
    if (setjmp(work->escape) != 0) return 0;
    model->description = read_description(work, folder);
    model->preprocessing = need(work, model->description, "preprocessing");
    model->answer = need(work, model->description, "answer");
    read_labels(work, model, folder);
    if (is_text(find(model->preprocessing, "kind"), "text")) {
        model->tokenizer = read_tokenizer(work, read_json(work, folder, need_text(work, model->preprocessing, "compiled")));
    }
    const Json *network = need(work, model->description, "model");
    const char *file = model_file(work, network);
    check_size(work, folder, file, model->description);
    open_runtime(work, &model->runtime, path_of(work, folder, file), network, threads);
    return 1;
}

edgekit_model *edgekit_load(const char *folder, int threads, char why[EDGEKIT_ERROR]) {
    edgekit_model *model = calloc(1, sizeof *model);
    if (model == NULL) {
        snprintf(why, EDGEKIT_ERROR, "out of memory");
        return NULL;
    }
    model->work.why = why;
    if (load(model, folder, threads)) return model;
    edgekit_free(model);
    return NULL;
}

void edgekit_free(edgekit_model *model) {
    if (model == NULL) return;
    close_runtime(&model->runtime);
    release(&model->work);
    free(model);
}

int edgekit_label_count(const edgekit_model *model) { return (int)model->label_count; }

const char *edgekit_label(const edgekit_model *model, int index) {
    return index >= 0 && (size_t)index < model->label_count ? model->labels[index] : NULL;
}

static Tensor id_tensor(Work *work, const char *name, const Ids *ids, int ones) {
    Tensor tensor = {.name = name, .is_integer = 1, .shape = {1, (int64_t)ids->count}, .rank = 2, .count = ids->count};
    tensor.integers = take(work, (ids->count + 1) * sizeof(int64_t));
    for (size_t index = 0; index < ids->count; index++) tensor.integers[index] = ones ? 1 : ids->at[index];
    return tensor;
}

/* What the model takes of a text; returns how many inputs. */
static size_t prepare_text(Work *work, const edgekit_model *model, const Bytes *texts, int two, Tensor *inputs) {
    static const char *const keys[] = {"ids", "segments", "mask"};
    Ids ids = {0}, segments = {0};
    size_t count = 0;
    if (model->tokenizer == NULL) fail(work, "the model takes images, and was given a text");
    tokenize(work, model->tokenizer, texts, two, &ids, &segments);
    for (int key = 0; key < 3; key++) {
        if (find(model->preprocessing, keys[key]) == NULL) continue;
        const char *name = need_text(work, model->preprocessing, keys[key]);
        inputs[count++] = id_tensor(work, name, key == 1 ? &segments : &ids, key == 2);
    }
    return count;
}

static Image raw_image(Work *work, const edgekit_model *model, const uint8_t *pixels, int width, int height, int channels) {
    if (model->tokenizer != NULL) fail(work, "the model takes texts, and was given an image");
    if (width < 1 || height < 1 || width > 65535 || height > 65535 || (channels != 1 && channels != 3)) {
        fail(work, "an image of %d x %d pixels and %d channels; allowed: 1 to 65535 pixels, 1 or 3 channels", width, height,
             channels);
    }
    return (Image){width, height, channels, (uint8_t *)pixels};
}

static const float *output_of(Work *work, const edgekit_model *model, const Tensor *inputs, size_t count) {
    return run(work, &model->runtime, inputs, count, need_text(work, model->answer, "output"), model->label_count);
}

static Activation activation_of(Work *work, const edgekit_model *model) {
    const char *name = need_text(work, model->answer, "activation");
    return strcmp(name, "softmax") == 0 ? SOFTMAX : strcmp(name, "sigmoid") == 0 ? SIGMOID : AS_THEY_ARE;
}

static size_t largest(const float *values, size_t count) {
    size_t best = 0;
    for (size_t index = 1; index < count; index++) best = values[index] > values[best] ? index : best;
    return best;
}

/* The best labels with their scores; those of equal score in the order of the output. */
static int rank(Work *work, const edgekit_model *model, const float *output, edgekit_prediction *best, int most) {
    size_t count = model->label_count;
    double *scores = take(work, count * sizeof(double)), sum = 0;
    char *taken = take(work, count);
    memset(taken, 0, count);
    Activation activation = activation_of(work, model);
    double top = output[largest(output, count)];
    for (size_t index = 0; index < count; index++) {
        double value = output[index];
        scores[index] = activation == SOFTMAX ? exp(value - top) : activation == SIGMOID ? 1 / (1 + exp(-value)) : value;
        sum += scores[index];
    }
    int found = most < (int)count ? most : (int)count;
    for (int place = 0; place < found; place++) {
        size_t next = SIZE_MAX;
        for (size_t index = 0; index < count; index++) {
            if (!taken[index] && (next == SIZE_MAX || scores[index] > scores[next])) next = index;
        }
        taken[next] = 1;
        best[place] = (edgekit_prediction){model->labels[next], activation == SOFTMAX ? scores[next] / sum : scores[next]};
    }
    return found;
}

int edgekit_predict_text(
    const edgekit_model *model, const char *text, const char *pair, edgekit_prediction *best, int most,
    char why[EDGEKIT_ERROR]) {
    Work work = {.why = why};
    Tensor inputs[MOST_INPUTS];
    if (setjmp(work.escape) != 0) {
        release(&work);
        return -1;
    }
    Bytes texts[2] = {{text, strlen(text)}, {pair, pair == NULL ? 0 : strlen(pair)}};
    size_t count = prepare_text(&work, model, texts, pair != NULL, inputs);
    int found = rank(&work, model, output_of(&work, model, inputs, count), best, most);
    release(&work);
    return found;
}

int edgekit_predict_image(
    const edgekit_model *model, const uint8_t *pixels, int width, int height, int channels, edgekit_prediction *best,
    int most, char why[EDGEKIT_ERROR]) {
    Work work = {.why = why};
    if (setjmp(work.escape) != 0) {
        release(&work);
        return -1;
    }
    Image image = raw_image(&work, model, pixels, width, height, channels);
    Tensor input = prepare_image(&work, image, model->preprocessing);
    int found = rank(&work, model, output_of(&work, model, &input, 1), best, most);
    release(&work);
    return found;
}

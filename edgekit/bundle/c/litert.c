/* ---- LiteRT ----
 * What is used here of its C interface, declared after the headers in LiteRT's folder litert/c and run against the
 * libraries of LiteRT 2.2.0 and 2.3.0. That interface is meant to stay as it is from version to version; still, 2.1 had no
 * environment in LiteRtCreateModelFromFile, and opens no file here. A status of 0 is success.
 */
#include <stdbool.h>
#ifndef _WIN32
#include <pthread.h>
#endif

typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtOpaqueOptionsT *LiteRtOpaqueOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;
typedef struct LiteRtTensorBufferRequirementsT *LiteRtTensorBufferRequirements;

enum { LITERT_FLOAT = 1, LITERT_INT32 = 2, LITERT_INT64 = 4, LITERT_CPU = 1, LITERT_READ = 0, LITERT_WRITE = 1 };
enum { LITERT_NO_MEMORY = 2, LITERT_WRONG_VERSION = 8, LITERT_RANK = 8 };
enum { LITERT_ACCELERATORS = 24, LITERT_LOG = 25, LITERT_INTEGER = 2, LITERT_LOG_ERRORS = 3 };

typedef struct {
    int element;
    struct {
        unsigned int rank : 7;
        bool has_strides : 1;
        int32_t sides[LITERT_RANK];
        uint32_t strides[LITERT_RANK];
    } layout;
} LiteRtRankedTensorType;

typedef struct {
    int tag;
    struct {
        int type;
        union {
            int64_t integer;
            double real;
            const void *pointer;
        };
    } value;
} LiteRtEnvOption;

#ifdef _WIN32
#define LITERT(type) __declspec(dllimport) type
#else
#define LITERT(type) extern type
#endif
LITERT(int) LiteRtCreateEnvironment(int count, const LiteRtEnvOption *, LiteRtEnvironment *);
LITERT(int) LiteRtCreateModelFromFile(LiteRtEnvironment, const char *path, LiteRtModel *);
LITERT(int) LiteRtGetNumModelSignatures(LiteRtModel, size_t *);
LITERT(int) LiteRtGetModelSignature(LiteRtModel, size_t, LiteRtSignature *);
LITERT(int) LiteRtGetSignatureKey(LiteRtSignature, const char **);
LITERT(int) LiteRtGetNumSignatureInputs(LiteRtSignature, size_t *);
LITERT(int) LiteRtGetNumSignatureOutputs(LiteRtSignature, size_t *);
LITERT(int) LiteRtGetSignatureInputName(LiteRtSignature, size_t, const char **);
LITERT(int) LiteRtGetSignatureOutputName(LiteRtSignature, size_t, const char **);
LITERT(int) LiteRtGetSignatureInputTensorByIndex(LiteRtSignature, size_t, LiteRtTensor *);
LITERT(int) LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature, size_t, LiteRtTensor *);
LITERT(int) LiteRtGetRankedTensorType(LiteRtTensor, LiteRtRankedTensorType *);
LITERT(int) LiteRtCreateOptions(LiteRtOptions *);
LITERT(int) LiteRtSetOptionsHardwareAccelerators(LiteRtOptions, int);
LITERT(int) LiteRtCreateOpaqueOptions(const char *name, void *text, void (*release)(void *), LiteRtOpaqueOptions *);
LITERT(int) LiteRtAddOpaqueOptions(LiteRtOptions, LiteRtOpaqueOptions);
LITERT(int) LiteRtCreateCompiledModel(LiteRtEnvironment, LiteRtModel, LiteRtOptions, LiteRtCompiledModel *);
LITERT(int) LiteRtCompiledModelResizeInputTensor(
    LiteRtCompiledModel, size_t signature, size_t input, const int *sides, size_t rank);
LITERT(int) LiteRtGetCompiledModelInputBufferRequirements(
    LiteRtCompiledModel, size_t signature, size_t input, LiteRtTensorBufferRequirements *);
LITERT(int) LiteRtGetCompiledModelOutputBufferRequirements(
    LiteRtCompiledModel, size_t signature, size_t output, LiteRtTensorBufferRequirements *);
LITERT(int) LiteRtCreateManagedTensorBufferFromRequirements(
    LiteRtEnvironment, const LiteRtRankedTensorType *, LiteRtTensorBufferRequirements, LiteRtTensorBuffer *);
LITERT(int) LiteRtGetTensorBufferPackedSize(LiteRtTensorBuffer, size_t *);
LITERT(int) LiteRtLockTensorBuffer(LiteRtTensorBuffer, void **, int mode);
LITERT(int) LiteRtUnlockTensorBuffer(LiteRtTensorBuffer);
LITERT(int) LiteRtRunCompiledModel(
    LiteRtCompiledModel, size_t signature, size_t inputs, LiteRtTensorBuffer *, size_t outputs, LiteRtTensorBuffer *);
LITERT(void) LiteRtDestroyEnvironment(LiteRtEnvironment);
LITERT(void) LiteRtDestroyModel(LiteRtModel);
LITERT(void) LiteRtDestroyOptions(LiteRtOptions);
LITERT(void) LiteRtDestroyOpaqueOptions(LiteRtOpaqueOptions);
LITERT(void) LiteRtDestroyCompiledModel(LiteRtCompiledModel);
LITERT(void) LiteRtDestroyTensorBuffer(LiteRtTensorBuffer);

/* LiteRT promises nothing of calls from several threads at once: they wait for each other. */
#ifdef _WIN32
typedef struct {
    void *pointer;
} Lock; /* SRWLOCK of Windows, which zeros make */
__declspec(dllimport) void __stdcall AcquireSRWLockExclusive(Lock *);
__declspec(dllimport) void __stdcall ReleaseSRWLockExclusive(Lock *);
static int make_lock(Lock *lock) {
    *lock = (Lock){NULL};
    return 0;
}
static void lock_it(Lock *lock) { AcquireSRWLockExclusive(lock); }
static void unlock_it(Lock *lock) { ReleaseSRWLockExclusive(lock); }
static void end_lock(Lock *lock) { (void)lock; }
#else
typedef pthread_mutex_t Lock;
static int make_lock(Lock *lock) { return pthread_mutex_init(lock, NULL); }
static void lock_it(Lock *lock) { pthread_mutex_lock(lock); }
static void unlock_it(Lock *lock) { pthread_mutex_unlock(lock); }
static void end_lock(Lock *lock) { pthread_mutex_destroy(lock); }
#endif

/* A tensor of an entry point: its name, what it is, and how many values it has. A free batch becomes one of 1. */
typedef struct {
    const char *name;
    LiteRtRankedTensorType type;
    size_t count;
    int was_free;
} Place;

/* An entry point of the file: a signature, by its number in the file. */
typedef struct {
    size_t number, input_count, output_count, size; /* size: values of all inputs */
    Place *inputs, *outputs;
} Signature;

struct Runtime {
    LiteRtEnvironment environment;
    LiteRtModel model;
    LiteRtCompiledModel compiled;
    Lock *lock;
    Signature *signatures; /* the smallest first */
    size_t count;
};

static const char *const RUNS = "LiteRT runs .tflite";

static int runs(const char *format) { return strcmp(format, "tflite") == 0; }

static void check(Work *work, const char *what, int status) {
    if (status != 0) fail(work, "LiteRT: %s failed (status %d of its litert_common.h)", what, status);
}

static void close_runtime(Runtime *runtime) {
    if (runtime->compiled != NULL) LiteRtDestroyCompiledModel(runtime->compiled);
    if (runtime->model != NULL) LiteRtDestroyModel(runtime->model);
    if (runtime->environment != NULL) LiteRtDestroyEnvironment(runtime->environment);
    if (runtime->lock != NULL) end_lock(runtime->lock);
    *runtime = (Runtime){0};
}

static Place read_place(Work *work, LiteRtSignature signature, int is_output, size_t index) {
    Place place = {.count = 1};
    LiteRtTensor tensor = NULL;
    int status = is_output ? LiteRtGetSignatureOutputName(signature, index, &place.name)
                           : LiteRtGetSignatureInputName(signature, index, &place.name);
    check(work, "naming a tensor", status);
    status = is_output ? LiteRtGetSignatureOutputTensorByIndex(signature, index, &tensor)
                       : LiteRtGetSignatureInputTensorByIndex(signature, index, &tensor);
    if (status == 0) status = LiteRtGetRankedTensorType(tensor, &place.type);
    check(work, place.name, status);
    int32_t *sides = place.type.layout.sides;
    size_t rank = place.type.layout.rank;
    place.was_free = rank > 0 && sides[0] < 0;
    if (place.was_free) sides[0] = 1;
    for (size_t side = 0; side < rank; side++) {
        if (rank > LITERT_RANK || sides[side] < 1) fail(work, "the model's %s has no fixed size", place.name);
        place.count *= (size_t)sides[side];
    }
    return place;
}

static Signature read_signature(Work *work, const Runtime *runtime, LiteRtSignature found, size_t number) {
    Signature signature = {.number = number};
    check(work, "counting inputs", LiteRtGetNumSignatureInputs(found, &signature.input_count));
    check(work, "counting outputs", LiteRtGetNumSignatureOutputs(found, &signature.output_count));
    signature.inputs = take(work, (signature.input_count + 1) * sizeof(Place));
    signature.outputs = take(work, (signature.output_count + 1) * sizeof(Place));
    for (size_t index = 0; index < signature.input_count; index++) {
        Place place = read_place(work, found, 0, index);
        signature.inputs[index] = place;
        signature.size += place.count;
        if (!place.was_free) continue;
        int sides[LITERT_RANK];
        for (size_t side = 0; side < place.type.layout.rank; side++) sides[side] = place.type.layout.sides[side];
        int status = LiteRtCompiledModelResizeInputTensor(
            runtime->compiled, number, index, sides, place.type.layout.rank);
        check(work, "taking one sample at a time", status);
    }
    for (size_t index = 0; index < signature.output_count; index++) {
        signature.outputs[index] = read_place(work, found, 1, index);
    }
    return signature;
}

/* The entry points that bundle.json names. */
static void read_signatures(Work *work, Runtime *runtime, const Json *named) {
    size_t count = 0;
    check(work, "counting entry points", LiteRtGetNumModelSignatures(runtime->model, &count));
    runtime->signatures = take(work, (count + 1) * sizeof(Signature));
    for (size_t number = 0; number < count; number++) {
        LiteRtSignature found = NULL;
        const char *key = NULL;
        check(work, "finding an entry point", LiteRtGetModelSignature(runtime->model, number, &found));
        check(work, "naming an entry point", LiteRtGetSignatureKey(found, &key));
        if (find(named, key) == NULL) continue;
        Signature signature = read_signature(work, runtime, found, number);
        size_t place = runtime->count++;
        for (; place > 0 && runtime->signatures[place - 1].size > signature.size; place--) {
            runtime->signatures[place] = runtime->signatures[place - 1];
        }
        runtime->signatures[place] = signature;
    }
    if (runtime->count == 0) fail(work, "the model has none of the entry points that bundle.json names");
}

/* Run by XNNPACK on so many threads; LiteRT reads that as TOML. */
static int choose(LiteRtOptions options, int threads) {
    LiteRtOpaqueOptions processor = NULL;
    char *text = malloc(64);
    if (text == NULL) return LITERT_NO_MEMORY;
    snprintf(text, 64, "num_threads = %d\n", threads);
    int status = LiteRtCreateOpaqueOptions("xnnpack", text, free, &processor);
    if (status != 0) {
        free(text);
        return status;
    }
    status = LiteRtAddOpaqueOptions(options, processor);
    if (status != 0) LiteRtDestroyOpaqueOptions(processor);
    return status == 0 ? LiteRtSetOptionsHardwareAccelerators(options, LITERT_CPU) : status;
}

static void open_runtime(Work *work, Runtime *runtime, const char *path, const Json *network, int threads) {
    const LiteRtEnvOption settings[] = {
        {LITERT_ACCELERATORS, {LITERT_INTEGER, {.integer = LITERT_CPU}}},
        {LITERT_LOG, {LITERT_INTEGER, {.integer = LITERT_LOG_ERRORS}}},
    };
    LiteRtOptions options = NULL;
    Lock *lock = take(work, sizeof(Lock));
    if (make_lock(lock) != 0) fail(work, "out of memory");
    runtime->lock = lock;
    check(work, "starting", LiteRtCreateEnvironment(2, settings, &runtime->environment));
    check(work, "reading the model", LiteRtCreateModelFromFile(runtime->environment, path, &runtime->model));
    check(work, "making options", LiteRtCreateOptions(&options));
    int status = choose(options, threads);
    if (status == 0) {
        status = LiteRtCreateCompiledModel(runtime->environment, runtime->model, options, &runtime->compiled);
    }
    LiteRtDestroyOptions(options);
    check(work, "preparing the model", status);
    read_signatures(work, runtime, need_kind(work, network, "signatures", J_OBJECT));
}

static const Tensor *given_as(const Tensor *inputs, size_t count, const char *name) {
    for (size_t index = 0; index < count; index++) {
        if (strcmp(inputs[index].name, name) == 0) return &inputs[index];
    }
    return NULL;
}

/* A sample of its size, or one that is shorter in the last dimension. */
static int holds(Work *work, const Signature *signature, const Tensor *inputs, size_t count) {
    if (signature->input_count != count) fail(work, "the model takes %zu inputs, not %zu", signature->input_count, count);
    for (size_t index = 0; index < count; index++) {
        const Place *place = &signature->inputs[index];
        const Tensor *given = given_as(inputs, count, place->name);
        if (given == NULL) fail(work, "nothing is known of the model's input %s", place->name);
        int element = place->type.element;
        if (given->is_integer ? element != LITERT_INT32 && element != LITERT_INT64 : element != LITERT_FLOAT) {
            fail(work, "the model's %s is of a type that this code does not feed", place->name);
        }
        if (given->rank != place->type.layout.rank) return 0;
        for (size_t side = 0; side < given->rank; side++) {
            int64_t most = place->type.layout.sides[side];
            if (side + 1 < given->rank ? given->shape[side] != most : given->shape[side] > most) return 0;
        }
    }
    return 1;
}

static const Signature *choose_signature(Work *work, const Runtime *runtime, const Tensor *inputs, size_t count) {
    for (size_t index = 0; index < runtime->count; index++) {
        if (holds(work, &runtime->signatures[index], inputs, count)) return &runtime->signatures[index];
    }
    fail(work, "the sample is larger than every entry point of the model");
}

static size_t find_output(Work *work, const Signature *signature, const char *name, size_t count) {
    size_t index = 0;
    while (index < signature->output_count && strcmp(signature->outputs[index].name, name) != 0) index++;
    if (index == signature->output_count) fail(work, "the model has no output %s", name);
    const Place *place = &signature->outputs[index];
    if (place->count != count) fail(work, "the model gives %zu values, not %zu", place->count, count);
    if (place->type.element != LITERT_FLOAT) fail(work, "the model's %s is not of float32", name);
    return index;
}

/* Values in the type of a place, with zeros behind each row that is shorter than the place's. */
static void fill(void *memory, size_t bytes, const Place *place, const Tensor *given) {
    memset(memory, 0, bytes);
    size_t row = (size_t)given->shape[given->rank - 1], room = (size_t)place->type.layout.sides[given->rank - 1];
    for (size_t index = 0; index < given->count; index++) {
        size_t at = index / row * room + index % row;
        if (place->type.element == LITERT_FLOAT) ((float *)memory)[at] = given->floats[index];
        if (place->type.element == LITERT_INT32) ((int32_t *)memory)[at] = (int32_t)given->integers[index];
        if (place->type.element == LITERT_INT64) ((int64_t *)memory)[at] = given->integers[index];
    }
}

/* Of what follows each gives a status; nothing jumps away while the lock is held. */
static int make_buffer(
    const Runtime *runtime, size_t number, int is_output, size_t index, const Place *place, LiteRtTensorBuffer *buffer) {
    LiteRtTensorBufferRequirements asked = NULL;
    int status = is_output ? LiteRtGetCompiledModelOutputBufferRequirements(runtime->compiled, number, index, &asked)
                           : LiteRtGetCompiledModelInputBufferRequirements(runtime->compiled, number, index, &asked);
    if (status != 0) return status;
    return LiteRtCreateManagedTensorBufferFromRequirements(runtime->environment, &place->type, asked, buffer);
}

static int write_buffer(LiteRtTensorBuffer buffer, const Place *place, const Tensor *given) {
    size_t bytes = 0, expected = place->count * (place->type.element == LITERT_INT64 ? 8 : 4);
    void *memory = NULL;
    int status = LiteRtGetTensorBufferPackedSize(buffer, &bytes);
    if (status == 0 && bytes != expected) status = LITERT_WRONG_VERSION;
    if (status == 0) status = LiteRtLockTensorBuffer(buffer, &memory, LITERT_WRITE);
    if (status != 0) return status;
    fill(memory, bytes, place, given);
    return LiteRtUnlockTensorBuffer(buffer);
}

static int read_buffer(LiteRtTensorBuffer buffer, float *values, size_t count) {
    size_t bytes = 0;
    void *memory = NULL;
    int status = LiteRtGetTensorBufferPackedSize(buffer, &bytes);
    if (status == 0 && bytes != count * sizeof(float)) status = LITERT_WRONG_VERSION;
    if (status == 0) status = LiteRtLockTensorBuffer(buffer, &memory, LITERT_READ);
    if (status != 0) return status;
    memcpy(values, memory, bytes);
    return LiteRtUnlockTensorBuffer(buffer);
}

/* `buffers`: room for those of the inputs and, behind them, of the outputs. */
static int compute(
    const Runtime *runtime, const Signature *signature, const Tensor *const *given, LiteRtTensorBuffer *buffers) {
    size_t inputs = signature->input_count, outputs = signature->output_count;
    int status = 0;
    for (size_t index = 0; status == 0 && index < inputs; index++) {
        status = make_buffer(runtime, signature->number, 0, index, &signature->inputs[index], &buffers[index]);
        if (status == 0) status = write_buffer(buffers[index], &signature->inputs[index], given[index]);
    }
    for (size_t index = 0; status == 0 && index < outputs; index++) {
        status = make_buffer(runtime, signature->number, 1, index, &signature->outputs[index], &buffers[inputs + index]);
    }
    if (status != 0) return status;
    return LiteRtRunCompiledModel(runtime->compiled, signature->number, inputs, buffers, outputs, buffers + inputs);
}

static const float *run(
    Work *work, const Runtime *runtime, const Tensor *inputs, size_t input_count, const char *wanted, size_t count) {
    const Signature *signature = choose_signature(work, runtime, inputs, input_count);
    size_t output = find_output(work, signature, wanted, count), all = input_count + signature->output_count;
    float *values = take(work, count * sizeof(float));
    LiteRtTensorBuffer *buffers = take(work, all * sizeof *buffers);
    const Tensor *given[MOST_INPUTS];
    for (size_t index = 0; index < all; index++) buffers[index] = NULL;
    for (size_t index = 0; index < input_count; index++) {
        given[index] = given_as(inputs, input_count, signature->inputs[index].name);
    }
    lock_it(runtime->lock);
    int status = compute(runtime, signature, given, buffers);
    if (status == 0) status = read_buffer(buffers[input_count + output], values, count);
    for (size_t index = 0; index < all; index++) {
        if (buffers[index] != NULL) LiteRtDestroyTensorBuffer(buffers[index]);
    }
    unlock_it(runtime->lock);
    check(work, "running the model", status);
    return values;
}

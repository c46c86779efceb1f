/* ---- ONNX Runtime ----
 * Its C interface is a table of functions whose places never change: new ones come behind. These are the ones used here,
 * by their places in the table of version 1 (onnxruntime_c_api.h, struct OrtApi); the others are padding.
 */
typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtShape OrtShape; /* OrtTensorTypeAndShapeInfo */
typedef void (*OrtOther)(void);

enum { ORT_FLOAT = 1, ORT_INT32 = 6, ORT_INT64 = 7, ORT_LOG_ERRORS = 3, ORT_ARENA = 1, ORT_DEFAULT_MEMORY = 0 };

#ifdef _WIN32
#define ORT_CALL __stdcall
typedef wchar_t OrtPath;
#else
#define ORT_CALL
typedef char OrtPath;
#endif

typedef struct {
    OrtOther to_2[2];
    const char *(ORT_CALL *GetErrorMessage)(const OrtStatus *);
    OrtStatus *(ORT_CALL *CreateEnv)(int level, const char *name, OrtEnv **);
    OrtOther to_7[3];
    OrtStatus *(ORT_CALL *CreateSession)(const OrtEnv *, const OrtPath *, const OrtSessionOptions *, OrtSession **);
    OrtOther to_9[1];
    OrtStatus *(ORT_CALL *Run)(
        OrtSession *, const void *options, const char *const *names, const OrtValue *const *values, size_t count,
        const char *const *wanted, size_t wanted_count, OrtValue **found);
    OrtStatus *(ORT_CALL *CreateSessionOptions)(OrtSessionOptions **);
    OrtOther to_24[13];
    OrtStatus *(ORT_CALL *SetIntraOpNumThreads)(OrtSessionOptions *, int);
    OrtOther to_49[24];
    OrtStatus *(ORT_CALL *CreateTensorWithDataAsOrtValue)(
        const OrtMemoryInfo *, void *data, size_t bytes, const int64_t *shape, size_t rank, int type, OrtValue **);
    OrtOther to_51[1];
    OrtStatus *(ORT_CALL *GetTensorMutableData)(OrtValue *, void **);
    OrtOther to_60[8];
    OrtStatus *(ORT_CALL *GetTensorElementType)(const OrtShape *, int *);
    OrtOther to_64[3];
    OrtStatus *(ORT_CALL *GetTensorShapeElementCount)(const OrtShape *, size_t *);
    OrtStatus *(ORT_CALL *GetTensorTypeAndShape)(const OrtValue *, OrtShape **);
    OrtOther to_69[3];
    OrtStatus *(ORT_CALL *CreateCpuMemoryInfo)(int allocator, int memory, OrtMemoryInfo **);
    OrtOther to_92[22];
    void (ORT_CALL *ReleaseEnv)(OrtEnv *);
    void (ORT_CALL *ReleaseStatus)(OrtStatus *);
    void (ORT_CALL *ReleaseMemoryInfo)(OrtMemoryInfo *);
    void (ORT_CALL *ReleaseSession)(OrtSession *);
    void (ORT_CALL *ReleaseValue)(OrtValue *);
    OrtOther to_99[2];
    void (ORT_CALL *ReleaseTensorTypeAndShapeInfo)(OrtShape *);
    void (ORT_CALL *ReleaseSessionOptions)(OrtSessionOptions *);
} OrtApi;

typedef struct {
    const OrtApi *(ORT_CALL *GetApi)(uint32_t version);
    const char *(ORT_CALL *GetVersionString)(void);
} OrtApiBase;

extern const OrtApiBase *ORT_CALL OrtGetApiBase(void);

struct Runtime {
    const OrtApi *api;
    OrtEnv *env;
    OrtSession *session;
    OrtMemoryInfo *memory;
};

static const char *const RUNS = "ONNX Runtime runs .onnx and .ort";

static int runs(const char *format) { return strcmp(format, "onnx") == 0 || strcmp(format, "ort") == 0; }

static void check(Work *work, const OrtApi *api, OrtStatus *status) {
    if (status == NULL) return;
    char said[EDGEKIT_ERROR / 2];
    snprintf(said, sizeof said, "%s", api->GetErrorMessage(status));
    api->ReleaseStatus(status);
    fail(work, "ONNX Runtime: %s", said);
}

static void close_runtime(Runtime *runtime) {
    if (runtime->memory != NULL) runtime->api->ReleaseMemoryInfo(runtime->memory);
    if (runtime->session != NULL) runtime->api->ReleaseSession(runtime->session);
    if (runtime->env != NULL) runtime->api->ReleaseEnv(runtime->env);
    *runtime = (Runtime){0};
}

static const OrtPath *runtime_path(Work *work, const char *path) {
#ifdef _WIN32
    Codes codes = decode(work, (Bytes){path, strlen(path)});
    OrtPath *wide = take(work, (codes.count * 2 + 1) * sizeof(OrtPath));
    size_t count = 0;
    for (size_t place = 0; place < codes.count; place++) {
        uint32_t code = codes.at[place];
        if (code >= 0x10000) wide[count++] = (OrtPath)(0xD7C0 + (code >> 10));
        wide[count++] = (OrtPath)(code >= 0x10000 ? 0xDC00 + (code & 0x3FF) : code);
    }
    wide[count] = 0;
    return wide;
#else
    (void)work;
    return path;
#endif
}

static void open_runtime(Work *work, Runtime *runtime, const char *path, const Json *network, int threads) {
    (void)network; /* the file says it all */
    OrtSessionOptions *options = NULL;
    const OrtApi *api = runtime->api = OrtGetApiBase()->GetApi(1);
    if (api == NULL) fail(work, "ONNX Runtime does not give its C interface");
    check(work, api, api->CreateEnv(ORT_LOG_ERRORS, "edgekit", &runtime->env));
    check(work, api, api->CreateCpuMemoryInfo(ORT_ARENA, ORT_DEFAULT_MEMORY, &runtime->memory));
    check(work, api, api->CreateSessionOptions(&options));
    OrtStatus *status = api->SetIntraOpNumThreads(options, threads);
    if (status == NULL) {
        status = api->CreateSession(runtime->env, runtime_path(work, path), options, &runtime->session);
    }
    api->ReleaseSessionOptions(options);
    check(work, api, status);
}

/* The values of one output as float32; `count` of them have to come. */
static const float *answer(Work *work, const Runtime *runtime, OrtValue *value, size_t count) {
    OrtShape *shape = NULL;
    const OrtApi *api = runtime->api;
    size_t found = 0;
    int type = 0;
    void *data = NULL;
    OrtStatus *status = api->GetTensorTypeAndShape(value, &shape);
    if (status == NULL) status = api->GetTensorShapeElementCount(shape, &found);
    if (status == NULL) status = api->GetTensorElementType(shape, &type);
    if (shape != NULL) api->ReleaseTensorTypeAndShapeInfo(shape);
    if (status == NULL) status = api->GetTensorMutableData(value, &data);
    float *kept = take(work, count * sizeof(float));
    if (status == NULL && found == count && type == ORT_FLOAT) memcpy(kept, data, count * sizeof(float));
    api->ReleaseValue(value);
    check(work, api, status);
    if (found != count || type != ORT_FLOAT) fail(work, "the model gave %zu values, not %zu", found, count);
    return kept;
}

static const float *run(
    Work *work, const Runtime *runtime, const Tensor *inputs, size_t input_count, const char *wanted, size_t count) {
    const OrtApi *api = runtime->api;
    const char *names[MOST_INPUTS] = {0};
    OrtValue *values[MOST_INPUTS] = {0}, *found = NULL;
    OrtStatus *status = NULL;
    for (size_t index = 0; status == NULL && index < input_count; index++) {
        const Tensor *tensor = &inputs[index];
        size_t bytes = tensor->count * (tensor->is_integer ? sizeof(int64_t) : sizeof(float));
        names[index] = tensor->name;
        status = api->CreateTensorWithDataAsOrtValue(
            runtime->memory, tensor->floats, bytes, tensor->shape, tensor->rank,
            tensor->is_integer ? ORT_INT64 : ORT_FLOAT, &values[index]);
    }
    if (status == NULL) {
        status = api->Run(
            runtime->session, NULL, names, (const OrtValue *const *)values, input_count, &wanted, 1, &found);
    }
    for (size_t index = 0; index < input_count; index++) {
        if (values[index] != NULL) api->ReleaseValue(values[index]);
    }
    check(work, api, status);
    return answer(work, runtime, found, count);
}

/* ---- what runs the network ----
 * Below stands the code for one runtime, ONNX Runtime or LiteRT: the one that runs the file of this bundle. This is all
 * that the rest knows of it.
 */
enum { MOST_INPUTS = 3 };

typedef struct Runtime Runtime; /* zeros where nothing is open */

/* Whether it runs files of a format; its name with those formats, for messages. */
static int runs(const char *format);
static const char *const RUNS;

/* Open a file; `network` is what bundle.json says of it. What was opened is closed by close_runtime, after a failure too. */
static void open_runtime(Work *work, Runtime *runtime, const char *path, const Json *network, int threads);
static void close_runtime(Runtime *runtime);

/* The output of that name for one sample, of which `count` values have to come. Several threads may ask at once. */
static const float *run(
    Work *work, const Runtime *runtime, const Tensor *inputs, size_t input_count, const char *wanted, size_t count);

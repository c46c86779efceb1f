/* What the tests ask of the C code beside its interface. It is compiled with edgekit_model.c as a part of it.
 *
 *     driver ids compiled.json MOST     texts on standard input, each behind its length in bytes and a line feed; cut to
 *                                       MOST tokens, or not where it is 0; ids of a text on a line
 *     driver pairs compiled.json MOST   the same of two texts each; ids, a semicolon and segments on a line
 *     driver image step.json W H C      pixels on standard input; writes the prepared values, float32
 */
#include "edgekit_model.c"

static int read_text(Work *work, Bytes *text) {
    size_t length;
    if (scanf("%zu", &length) != 1 || getchar() != '\n') return 0;
    char *bytes = take(work, length + 1);
    *text = (Bytes){bytes, length};
    return fread(bytes, 1, length, stdin) == length;
}

static int print_ids(Work *keep, const char *name, int two, size_t most) {
    Tokenizer *tokenizer = read_tokenizer(keep, json_parse(keep, name, need_file(keep, ".", name)));
    tokenizer->max_length = most > 0 ? most : SIZE_MAX;
    for (;;) {
        Work work = {.why = keep->why};
        Ids ids = {0}, segments = {0};
        Bytes texts[2] = {{NULL, 0}, {NULL, 0}};
        if (setjmp(work.escape) != 0) return 1;
        if (!read_text(&work, &texts[0])) break;
        if (two && !read_text(&work, &texts[1])) return 2;
        tokenize(&work, tokenizer, texts, two, &ids, &segments);
        for (size_t index = 0; index < ids.count; index++) printf("%lld ", (long long)ids.at[index]);
        if (two) putchar(';');
        for (size_t index = 0; two && index < segments.count; index++) printf("%lld ", (long long)segments.at[index]);
        putchar('\n');
        release(&work);
    }
    return 0;
}

static int write_image(Work *keep, const char *name, int width, int height, int channels) {
    const Json *described = json_parse(keep, name, need_file(keep, ".", name));
    size_t size = (size_t)width * (size_t)height * (size_t)channels;
    uint8_t *pixels = take(keep, size);
    if (fread(pixels, 1, size, stdin) != size) return 2;
    Tensor tensor = prepare_image(keep, (Image){width, height, channels, pixels}, described);
    return fwrite(tensor.floats, sizeof(float), tensor.count, stdout) == tensor.count ? 0 : 2;
}

int main(int count, char **arguments) {
    char why[EDGEKIT_ERROR];
    Work keep = {.why = why};
    volatile int code = 1;
    if (setjmp(keep.escape) != 0) fprintf(stderr, "%s\n", why);
    else if (count == 4) code = print_ids(&keep, arguments[2], arguments[1][0] == 'p', strtoul(arguments[3], NULL, 10));
    else if (count == 6) code = write_image(&keep, arguments[2], atoi(arguments[3]), atoi(arguments[4]), atoi(arguments[5]));
    release(&keep);
    return code;
}

/* ---- images to a model's input; resizing is Pillow's, in integers of 8 bits: the same pixels ---- */
typedef struct {
    int width, height, channels;
    uint8_t *at;
} Image;

typedef struct {
    double support;
    double (*weight)(double);
} Filter;

enum { PRECISION_BITS = 22 }; /* 32 - 8 - 2, of Pillow's Resample.c */
static const double PI = 3.14159265358979323846;

static double sinc(double x) { return x == 0 ? 1 : sin(x * PI) / (x * PI); }
static double weight_box(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }
static double weight_bilinear(double x) { return fabs(x) < 1 ? 1 - fabs(x) : 0; }
static double weight_lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

static double weight_hamming(double x) {
    x = fabs(x);
    return x == 0 ? 1 : x >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * cos(x * PI));
}

static double weight_bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

enum { MOST_PIXELS = 1 << 28 }; /* a quarter of a gigabyte, or three */

static Image new_image(Work *work, int width, int height, int channels) {
    if (width < 1 || height < 1 || width > 65535 || height > 65535 || (int64_t)width * height > MOST_PIXELS) {
        fail(work, "an image has no or too many pixels");
    }
    Image image = {width, height, channels, take(work, (size_t)width * (size_t)height * (size_t)channels)};
    memset(image.at, 0, (size_t)width * (size_t)height * (size_t)channels);
    return image;
}

static uint8_t *pixel(const Image *image, int x, int y) {
    return image->at + ((size_t)y * (size_t)image->width + (size_t)x) * (size_t)image->channels;
}

/* RGB or grey, as the model takes it; grey as Pillow makes it. */
static Image with_channels(Work *work, Image raw, int channels) {
    if (raw.channels == channels) return raw;
    Image image = new_image(work, raw.width, raw.height, channels);
    size_t count = (size_t)raw.width * (size_t)raw.height;
    for (size_t index = 0; index < count; index++) {
        const uint8_t *from = raw.at + index * (size_t)raw.channels;
        if (channels == 3) memset(image.at + index * 3, from[0], 3);
        else image.at[index] = (uint8_t)((19595u * from[0] + 38470u * from[1] + 7471u * from[2] + 0x8000u) >> 16);
    }
    return image;
}

/* One line of new pixels from one of old ones: `precompute_coeffs` and the passes of Pillow's Resample.c. The lines lie
 * `step` bytes from pixel to pixel. */
typedef struct {
    int *firsts, *counts, *weights;
    int size, most;
} Kernel;

static Kernel make_kernel(Work *work, Filter filter, int size, int wanted) {
    double scale = (double)size / wanted, stretch = scale < 1 ? 1 : scale, support = filter.support * stretch;
    int most = (int)ceil(support) * 2 + 1;
    Kernel kernel = {
        take(work, (size_t)wanted * sizeof(int)), take(work, (size_t)wanted * sizeof(int)),
        take(work, (size_t)wanted * (size_t)most * sizeof(int)), wanted, most};
    double *exact = take(work, (size_t)most * sizeof(double));
    for (int place = 0; place < wanted; place++) {
        double center = (place + 0.5) * scale, sum = 0, inverse = 1 / stretch;
        int first = (int)(center - support + 0.5), last = (int)(center + support + 0.5);
        first = first < 0 ? 0 : first;
        last = last > size ? size : last;
        for (int x = 0; x < last - first; x++) {
            exact[x] = filter.weight((x + first - center + 0.5) * inverse);
            sum += exact[x];
        }
        for (int x = 0; x < last - first; x++) {
            double share = (sum == 0 ? exact[x] : exact[x] / sum) * (1 << PRECISION_BITS);
            kernel.weights[place * most + x] = (int)(share < 0 ? share - 0.5 : share + 0.5);
        }
        kernel.firsts[place] = first;
        kernel.counts[place] = last - first;
    }
    return kernel;
}

static uint8_t weighted(const Kernel *kernel, int place, const uint8_t *line, size_t step) {
    int sum = 1 << (PRECISION_BITS - 1);
    const uint8_t *from = line + (size_t)kernel->firsts[place] * step;
    for (int x = 0; x < kernel->counts[place]; x++, from += step) sum += *from * kernel->weights[place * kernel->most + x];
    int value = sum >> PRECISION_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static Image resize_across(Work *work, Image image, int width, Filter filter) {
    Kernel kernel = make_kernel(work, filter, image.width, width);
    Image found = new_image(work, width, image.height, image.channels);
    for (int y = 0; y < found.height; y++) {
        for (int x = 0; x < width; x++) {
            for (int c = 0; c < image.channels; c++) {
                pixel(&found, x, y)[c] = weighted(&kernel, x, pixel(&image, 0, y) + c, (size_t)image.channels);
            }
        }
    }
    return found;
}

static Image resize_down(Work *work, Image image, int height, Filter filter) {
    Kernel kernel = make_kernel(work, filter, image.height, height);
    Image found = new_image(work, image.width, height, image.channels);
    size_t step = (size_t)image.width * (size_t)image.channels;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < found.width; x++) {
            for (int c = 0; c < image.channels; c++) {
                pixel(&found, x, y)[c] = weighted(&kernel, y, pixel(&image, x, 0) + c, step);
            }
        }
    }
    return found;
}

/* Places are added up, not multiplied, as Pillow does it. */
static int *nearest(Work *work, int size, int wanted) {
    int *places = take(work, (size_t)wanted * sizeof(int));
    double scale = (double)size / wanted, place = scale * 0.5;
    for (int index = 0; index < wanted; index++, place += scale) {
        places[index] = (int)place < size ? (int)place : size - 1;
    }
    return places;
}

static Image resize(Work *work, Image image, int width, int height, const char *resample) {
    static const struct {
        const char *name;
        Filter filter;
    } filters[] = {
        {"bilinear", {1, weight_bilinear}}, {"bicubic", {2, weight_bicubic}}, {"lanczos", {3, weight_lanczos}},
        {"box", {0.5, weight_box}}, {"hamming", {1, weight_hamming}}};
    if (width < 1 || height < 1) fail(work, "an image has no pixels");
    if (image.width == width && image.height == height) return image;
    if (strcmp(resample, "nearest") == 0) {
        Image found = new_image(work, width, height, image.channels);
        int *columns = nearest(work, image.width, width), *rows = nearest(work, image.height, height);
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                memcpy(pixel(&found, x, y), pixel(&image, columns[x], rows[y]), (size_t)image.channels);
            }
        }
        return found;
    }
    for (size_t index = 0; index < sizeof filters / sizeof *filters; index++) {
        if (strcmp(resample, filters[index].name) != 0) continue;
        Filter filter = filters[index].filter;
        int less = image.height - height, down_first = less > 0 && less > 2 * (image.width - width); /* Pillow 13 */
        if (down_first) image = resize_down(work, image, height, filter);
        if (image.width != width) image = resize_across(work, image, width, filter);
        return image.height == height ? image : resize_down(work, image, height, filter);
    }
    fail(work, "the filter \"%s\" is unknown", resample);
}

static Image resize_shorter(Work *work, Image image, const Json *step) {
    int64_t size = need_pixels(work, step, "size"), small = image.width < image.height ? image.width : image.height;
    int64_t wide = size * image.width / small, high = size * image.height / small;
    if (wide > 65535 || high > 65535) fail(work, "an image has too many pixels");
    int width = (int)wide, height = (int)high;
    int least_width = need_pixels(work, step, "least_width"), least_height = need_pixels(work, step, "least_height");
    width = width < least_width ? least_width : width;
    height = height < least_height ? least_height : height;
    return resize(work, image, width, height, need_text(work, step, "resample"));
}

/* Half of what is left over, rounded down, or to the nearest, halves to even. */
static int half(int rest, int down) {
    int found = rest >= 0 ? rest / 2 : -((1 - rest) / 2);
    return !down && rest % 2 != 0 && found % 2 != 0 ? found + 1 : found;
}

/* The centre; what lies outside of the image is black. */
static Image crop(Work *work, Image image, const Json *step) {
    int width = need_pixels(work, step, "width"), height = need_pixels(work, step, "height");
    int down = strcmp(need_text(work, step, "rounding"), "down") == 0;
    int left = half(image.width - width, down), top = half(image.height - height, down);
    Image found = new_image(work, width, height, image.channels);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            int from_x = x + left, from_y = y + top;
            if (from_x < 0 || from_y < 0 || from_x >= image.width || from_y >= image.height) continue;
            memcpy(pixel(&found, x, y), pixel(&image, from_x, from_y), (size_t)image.channels);
        }
    }
    return found;
}

typedef struct {
    const char *name;
    int is_integer;
    union {
        float *floats;
        int64_t *integers;
    };
    int64_t shape[4];
    size_t rank, count;
} Tensor;

static void normalize(Work *work, float *values, size_t count, int channels, const Json *step) {
    const Json *mean = need_list(work, step, "mean"), *std = need_list(work, step, "std");
    if (mean->count != std->count || (mean->count != 1 && mean->count != (size_t)channels)) {
        fail(work, "mean and std do not fit the channels");
    }
    for (size_t index = 0; index < count; index++) {
        size_t channel = mean->count == 1 ? 0 : index % (size_t)channels;
        values[index] = (values[index] - (float)mean->items[channel].number) / (float)std->items[channel].number;
    }
}

/* The input of one image, with a batch of one. */
static Tensor prepare_image(Work *work, Image image, const Json *described) {
    int channels = need_pixels(work, described, "channels");
    if (channels != 1 && channels != 3) fail(work, "an image has 1 or 3 channels, not %d", channels);
    const Json *steps = need_list(work, described, "steps");
    float *values = NULL;
    size_t count = 0;
    Tensor tensor = {.name = need_text(work, described, "input"), .rank = 4};
    image = with_channels(work, image, channels);
    for (size_t index = 0; index < steps->count; index++) {
        const Json *step = &steps->items[index];
        const char *kind = need_text(work, step, "op");
        if (strcmp(kind, "resize") == 0) {
            int width = need_pixels(work, step, "width"), height = need_pixels(work, step, "height");
            image = resize(work, image, width, height, need_text(work, step, "resample"));
            continue;
        }
        if (strcmp(kind, "resize_shorter") == 0 || strcmp(kind, "crop") == 0) {
            image = kind[0] == 'c' ? crop(work, image, step) : resize_shorter(work, image, step);
            continue;
        }
        if (values == NULL) {
            count = (size_t)image.width * (size_t)image.height * (size_t)channels;
            values = take(work, count * sizeof(float));
            for (size_t place = 0; place < count; place++) values[place] = image.at[place];
        }
        if (strcmp(kind, "scale") == 0) {
            float factor = (float)need_number(work, step, "factor");
            for (size_t place = 0; place < count; place++) values[place] *= factor;
        } else if (strcmp(kind, "normalize") == 0) {
            normalize(work, values, count, channels, step);
        } else if (strcmp(kind, "layout") == 0) {
            int first = strcmp(need_text(work, step, "order"), "NCHW") == 0;
            size_t area = count / (size_t)channels;
            int64_t shapes[2][4] = {{1, image.height, image.width, channels}, {1, channels, image.height, image.width}};
            memcpy(tensor.shape, shapes[first], sizeof tensor.shape);
            tensor.floats = first ? take(work, count * sizeof(float)) : values;
            for (size_t place = 0; first && place < count; place++) {
                tensor.floats[place % (size_t)channels * area + place / (size_t)channels] = values[place];
            }
        } else {
            fail(work, "the step \"%s\" is unknown", kind);
        }
    }
    if (tensor.floats == NULL) fail(work, "the steps of the image do not end in a layout");
    tensor.count = count;
    return tensor;
}

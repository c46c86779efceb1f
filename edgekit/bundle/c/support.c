/* ---- memory and errors ----
 * A Work is the memory of one call: everything is released at once. What fails jumps back to where the call began.
 */
typedef struct Block {
    struct Block *next;
    size_t used, size;
    max_align_t bytes[];
} Block;

typedef struct {
    Block *volatile blocks; /* a jump back must not lose them */
    jmp_buf escape;
    char *why;
} Work;

static _Noreturn void fail(Work *work, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(work->why, EDGEKIT_ERROR, format, values);
    va_end(values);
    longjmp(work->escape, 1);
}

static void *take(Work *work, size_t size) {
    if (size > SIZE_MAX / 4) fail(work, "out of memory");
    size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    Block *block = work->blocks;
    if (block == NULL || block->size - block->used < size) {
        size_t room = size > 65536 ? size : 65536;
        block = malloc(sizeof(Block) + room);
        if (block == NULL) fail(work, "out of memory");
        *block = (Block){.next = work->blocks, .used = 0, .size = room};
        work->blocks = block;
    }
    void *found = (char *)block->bytes + block->used;
    block->used += size;
    return found;
}

static void release(Work *work) {
    while (work->blocks != NULL) {
        Block *next = work->blocks->next;
        free(work->blocks);
        work->blocks = next;
    }
}

/* Room for one more entry of `size` bytes behind `count`. */
static void *grown(Work *work, void *entries, size_t count, size_t *room, size_t size) {
    if (count < *room) return entries;
    size_t more = *room == 0 ? 16 : *room * 2;
    void *found = take(work, more * size);
    if (count > 0) memcpy(found, entries, count * size);
    *room = more;
    return found;
}

/* ---- text: code points, read from UTF-8 and written to it ---- */
typedef struct {
    uint32_t *at;
    size_t count, room;
} Codes;

typedef struct {
    const char *at;
    size_t length;
} Bytes;

static void push(Work *work, Codes *codes, uint32_t code) {
    codes->at = grown(work, codes->at, codes->count, &codes->room, sizeof(uint32_t));
    codes->at[codes->count++] = code;
}

static void push_all(Work *work, Codes *codes, const uint32_t *more, size_t count) {
    for (size_t index = 0; index < count; index++) push(work, codes, more[index]);
}

static size_t utf8_length(unsigned char lead) {
    return lead < 0x80 ? 1 : lead >= 0xC2 && lead < 0xE0 ? 2 : (lead & 0xF0) == 0xE0 ? 3 : lead >= 0xF0 && lead < 0xF5 ? 4 : 0;
}

/* What is no UTF-8 becomes U+FFFD, a byte at a time. */
static Codes decode(Work *work, Bytes text) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    Codes codes = {0};
    for (size_t place = 0; place < text.length;) {
        unsigned char lead = (unsigned char)text.at[place];
        size_t length = utf8_length(lead);
        uint32_t code = length == 1 ? lead : lead & (0x7Fu >> length);
        int whole = length > 0 && place + length <= text.length;
        for (size_t more = 1; whole && more < length; more++) {
            unsigned char next = (unsigned char)text.at[place + more];
            whole = (next & 0xC0) == 0x80;
            code = code << 6 | (next & 0x3F);
        }
        whole = whole && (length == 1 || code >= least[length]) && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
        push(work, &codes, whole ? code : 0xFFFD);
        place += whole ? length : 1;
    }
    return codes;
}

static size_t encode_one(uint32_t code, char *into) {
    if (code < 0x80) {
        into[0] = (char)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t place = length - 1; place > 0; place--) {
        into[place] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    into[0] = (char)(leads[length] | code);
    return length;
}

static Bytes encode(Work *work, const uint32_t *codes, size_t count) {
    char *found = take(work, count * 4 + 1);
    size_t length = 0;
    for (size_t index = 0; index < count; index++) length += encode_one(codes[index], found + length);
    found[length] = 0;
    return (Bytes){found, length};
}

/* ---- numbers by strings ---- */
typedef struct {
    Bytes key;
    int32_t value;
} Entry;

typedef struct {
    Entry *entries;
    size_t mask, longest; /* longest: code points of the longest key */
} Map;

/* FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint64_t hash_of(Bytes key) {
    uint64_t hash = 14695981039346656037u;
    for (size_t place = 0; place < key.length; place++) hash = (hash ^ (unsigned char)key.at[place]) * 1099511628211u;
    return hash ^ hash >> 29;
}

static Entry *slot(const Map *map, Bytes key) {
    size_t place = (size_t)hash_of(key) & map->mask;
    for (;; place = (place + 1) & map->mask) {
        Entry *entry = &map->entries[place];
        if (entry->key.at == NULL) return entry;
        if (entry->key.length == key.length && memcmp(entry->key.at, key.at, key.length) == 0) return entry;
    }
}

static Map make_map(Work *work, size_t count) {
    size_t size = 16;
    while (size < count * 2) size *= 2;
    Map map = {take(work, size * sizeof(Entry)), size - 1, 0};
    memset(map.entries, 0, size * sizeof(Entry));
    return map;
}

static void put(Map *map, Bytes key, int32_t value) {
    size_t codes = 0;
    for (size_t place = 0; place < key.length; place++) codes += ((unsigned char)key.at[place] & 0xC0) != 0x80;
    if (codes > map->longest) map->longest = codes;
    *slot(map, key) = (Entry){key, value};
}

/* -1 where there is none. */
static int32_t get(const Map *map, Bytes key) {
    const Entry *entry = slot(map, key);
    return entry->key.at == NULL ? -1 : entry->value;
}

/* ---- files ---- */
static const char *path_of(Work *work, const char *folder, const char *name) {
    char *path = take(work, strlen(folder) + strlen(name) + 2);
    sprintf(path, "%s/%s", folder, name);
    return path;
}

/* The bytes of a file, with a zero behind them; NULL where it cannot be read. */
static Bytes read_file(Work *work, const char *folder, const char *name) {
    FILE *stream = fopen(path_of(work, folder, name), "rb");
    if (stream == NULL) return (Bytes){NULL, 0};
    char *found = NULL;
    long size = fseek(stream, 0, SEEK_END) == 0 ? ftell(stream) : -1;
    /* of a folder some systems give the largest size there is */
    if (size >= 0 && (uint64_t)size < SIZE_MAX / 4 && fseek(stream, 0, SEEK_SET) == 0) {
        found = malloc((size_t)size + 1);
        if (found != NULL && fread(found, 1, (size_t)size, stream) != (size_t)size) {
            free(found);
            found = NULL;
        }
    }
    fclose(stream);
    if (found == NULL) return (Bytes){NULL, 0};
    char *kept = take(work, (size_t)size + 1);
    memcpy(kept, found, (size_t)size);
    kept[size] = 0;
    free(found);
    return (Bytes){kept, (size_t)size};
}

static Bytes need_file(Work *work, const char *folder, const char *name) {
    Bytes found = read_file(work, folder, name);
    if (found.at == NULL) fail(work, "%s: cannot be read", name);
    return found;
}

/* ---- SHA-256, FIPS 180-4 ---- */
static uint32_t rotated(uint32_t value, int count) { return value >> count | value << (32 - count); }

static void sha256_block(uint32_t state[8], const unsigned char *block) {
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
        0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
        0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
        0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
        0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
        0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
        0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2};
    uint32_t w[64], s[8];
    for (int t = 0; t < 16; t++) {
        const unsigned char *four = block + 4 * t;
        w[t] = (uint32_t)four[0] << 24 | (uint32_t)four[1] << 16 | (uint32_t)four[2] << 8 | four[3];
    }
    for (int t = 16; t < 64; t++) {
        uint32_t a = rotated(w[t - 15], 7) ^ rotated(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t b = rotated(w[t - 2], 17) ^ rotated(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16] + a + w[t - 7] + b;
    }
    memcpy(s, state, sizeof s);
    for (int t = 0; t < 64; t++) {
        uint32_t a = rotated(s[4], 6) ^ rotated(s[4], 11) ^ rotated(s[4], 25);
        uint32_t one = s[7] + a + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[t] + w[t];
        uint32_t b = rotated(s[0], 2) ^ rotated(s[0], 13) ^ rotated(s[0], 22);
        uint32_t two = b + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + two;
    }
    for (int index = 0; index < 8; index++) state[index] += s[index];
}

static void sha256(Bytes content, char hexadecimal[65]) {
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const unsigned char *at = (const unsigned char *)content.at;
    size_t left = content.length;
    for (; left >= 64; left -= 64, at += 64) sha256_block(state, at);
    unsigned char last[128] = {0};
    memcpy(last, at, left);
    last[left] = 0x80;
    size_t size = left < 56 ? 64 : 128;
    uint64_t bits = (uint64_t)content.length * 8;
    for (size_t place = 0; place < 8; place++) last[size - 1 - place] = (unsigned char)(bits >> 8 * place);
    for (size_t place = 0; place < size; place += 64) sha256_block(state, last + place);
    for (int index = 0; index < 8; index++) sprintf(hexadecimal + 8 * index, "%08x", (unsigned)state[index]);
}

/* ---- text as a tokenizer wants it, by the steps of compiled.json; every Unicode fact is in its tables ---- */
typedef struct {
    uint32_t first, last;
    Codes text;     /* of a replacement */
    int32_t number; /* of a class */
} Range;

typedef struct {
    Range *entries;
    size_t count;
} Table;

/* Hangul syllables by arithmetic: the Unicode Standard, section 3.12. */
enum {
    SYLLABLES = 0xAC00, LEADING = 0x1100, VOWELS = 0x1161, TRAILING = 0x11A7,
    VOWEL_COUNT = 21, TRAILING_COUNT = 28, SYLLABLE_COUNT = 11172, LEADING_COUNT = 19,
    CLUSTER_BYTES = 6 /* SentencePiece's map is asked for whole clusters that are shorter than this */
};

typedef struct Step {
    const char *kind;
    Table first, second, third; /* map: replace, surround; reorder, compose: classes; charsmap: extend, prepend, control */
    Map strings;                /* compose: pairs; charsmap: keys */
    Codes *values;              /* charsmap: what stands for each key */
    Codes old, new;
    size_t least;
    int hangul, left, right;
} Step;

static uint32_t code_of(Work *work, const Json *value) { return (uint32_t)whole(work, value, 0, 0x10FFFF); }

static Table make_table(Work *work, const Json *runs) {
    Table table = {take(work, (runs->count + 1) * sizeof(Range)), runs->count};
    for (size_t index = 0; index < runs->count; index++) {
        const Json *run = &runs->items[index];
        if (run->kind != J_ARRAY || run->count < 2) fail(work, "a table of characters is damaged");
        Range range = {code_of(work, &run->items[0]), code_of(work, &run->items[1]), {0}, 0};
        if (run->count > 2 && run->items[2].kind == J_STRING) range.text = decode(work, run->items[2].text);
        else if (run->count > 2) range.number = (int32_t)whole(work, &run->items[2], 0, 255); /* a class of marks */
        table.entries[index] = range;
    }
    return table;
}

static const Range *look_up(const Table *table, uint32_t code) {
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (table->entries[middle].first <= code) low = middle + 1;
        else high = middle;
    }
    return low > 0 && code <= table->entries[low - 1].last ? &table->entries[low - 1] : NULL;
}

static Bytes pair_key(char key[16], uint32_t one, uint32_t other) {
    memcpy(key, &one, 4);
    memcpy(key + 4, &other, 4);
    return (Bytes){key, 8};
}

static void make_pairs(Work *work, Step *step, const Json *pairs) {
    step->strings = make_map(work, pairs->count);
    for (size_t index = 0; index < pairs->count; index++) {
        const Json *pair = &pairs->items[index];
        if (pair->kind != J_ARRAY || pair->count != 3) fail(work, "a table of characters is damaged");
        char *key = take(work, 16);
        Bytes bytes = pair_key(key, code_of(work, &pair->items[0]), code_of(work, &pair->items[1]));
        put(&step->strings, bytes, (int32_t)code_of(work, &pair->items[2]));
    }
}

static void make_strings(Work *work, Step *step, const Json *map) {
    step->strings = make_map(work, map->count);
    step->values = take(work, (map->count + 1) * sizeof(Codes));
    for (size_t index = 0; index < map->count; index++) {
        const Json *pair = &map->items[index];
        if (pair->kind != J_ARRAY || pair->count != 2 || pair->items[0].kind != J_STRING || pair->items[1].kind != J_STRING) {
            fail(work, "a table of strings is damaged");
        }
        put(&step->strings, pair->items[0].text, (int32_t)index);
        step->values[index] = decode(work, pair->items[1].text);
    }
}

static Step make_step(Work *work, const Json *described) {
    Step step = {.kind = need_text(work, described, "op")};
    if (strcmp(step.kind, "map") == 0) {
        step.first = make_table(work, need(work, described, "replace"));
        step.second = make_table(work, need(work, described, "surround"));
        step.hangul = is_true(described, "hangul");
    } else if (strcmp(step.kind, "reorder") == 0) {
        step.first = make_table(work, need(work, described, "classes"));
    } else if (strcmp(step.kind, "compose") == 0) {
        step.first = make_table(work, need(work, described, "classes"));
        make_pairs(work, &step, need_list(work, described, "pairs"));
    } else if (strcmp(step.kind, "charsmap") == 0) {
        step.first = make_table(work, need(work, described, "extend"));
        step.second = make_table(work, need(work, described, "prepend"));
        step.third = make_table(work, need(work, described, "control"));
        make_strings(work, &step, need_list(work, described, "map"));
    } else if (strcmp(step.kind, "replace") == 0) {
        step.old = decode(work, need_string(work, described, "old"));
        step.new = decode(work, need_string(work, described, "new"));
    } else if (strcmp(step.kind, "squeeze") == 0) {
        step.least = need_count(work, described, "least");
        step.new = decode(work, need_string(work, described, "new"));
    } else if (strcmp(step.kind, "strip") == 0) {
        step.first = make_table(work, need(work, described, "space"));
        step.left = is_true(described, "left");
        step.right = is_true(described, "right");
    } else if (strcmp(step.kind, "prepend") == 0) {
        step.new = decode(work, need_string(work, described, "text"));
    } else {
        fail(work, "the tokenizer has the step \"%s\", which is unknown", step.kind);
    }
    return step;
}

/* Each character by itself: replaced, surrounded by spaces, a Hangul syllable taken apart, or kept. */
static Codes run_map(Work *work, const Step *step, Codes text) {
    Codes found = {0};
    for (size_t place = 0; place < text.count; place++) {
        uint32_t code = text.at[place];
        const Range *replaced = look_up(&step->first, code);
        if (replaced != NULL) {
            push_all(work, &found, replaced->text.at, replaced->text.count);
        } else if (look_up(&step->second, code) != NULL) {
            push(work, &found, ' ');
            push(work, &found, code);
            push(work, &found, ' ');
        } else if (step->hangul && code >= SYLLABLES && code < SYLLABLES + SYLLABLE_COUNT) {
            uint32_t syllable = code - SYLLABLES, rest = syllable / TRAILING_COUNT;
            push(work, &found, LEADING + rest / VOWEL_COUNT);
            push(work, &found, VOWELS + rest % VOWEL_COUNT);
            if (syllable % TRAILING_COUNT > 0) push(work, &found, TRAILING + syllable % TRAILING_COUNT);
        } else {
            push(work, &found, code);
        }
    }
    return found;
}

static int32_t class_of(const Table *classes, uint32_t code) {
    const Range *range = look_up(classes, code);
    return range == NULL ? 0 : range->number;
}

/* Marks by their combining classes, those of one class as they were. */
static void sort_marks(Work *work, const Step *step, uint32_t *marks, size_t count) {
    size_t places[257] = {0}; /* of the first mark of each class, later of the next one */
    uint32_t *sorted = take(work, count * sizeof(uint32_t));
    for (size_t index = 0; index < count; index++) places[class_of(&step->first, marks[index]) + 1]++;
    for (size_t kind = 1; kind < 257; kind++) places[kind] += places[kind - 1];
    for (size_t index = 0; index < count; index++) sorted[places[class_of(&step->first, marks[index])]++] = marks[index];
    memcpy(marks, sorted, count * sizeof(uint32_t));
}

/* The marks behind each letter in order. */
static Codes run_reorder(Work *work, const Step *step, Codes text) {
    Codes found = {0};
    push_all(work, &found, text.at, text.count);
    for (size_t start = 0, stop; start < found.count; start = stop) {
        for (stop = start; stop < found.count && class_of(&step->first, found.at[stop]) > 0;) stop++;
        if (stop - start > 1) sort_marks(work, step, found.at + start, stop - start);
        if (stop == start) stop++;
    }
    return found;
}

static uint32_t joined(const Step *step, uint32_t one, uint32_t other) {
    uint32_t leading = one - LEADING, vowel = other - VOWELS, syllable = one - SYLLABLES, trailing = other - TRAILING;
    if (leading < LEADING_COUNT && vowel < VOWEL_COUNT) {
        return SYLLABLES + (leading * VOWEL_COUNT + vowel) * TRAILING_COUNT;
    }
    if (syllable < SYLLABLE_COUNT && syllable % TRAILING_COUNT == 0 && trailing > 0 && trailing < TRAILING_COUNT) {
        return one + trailing;
    }
    char key[16];
    int32_t whole = get(&step->strings, pair_key(key, one, other));
    return whole < 0 ? 0 : (uint32_t)whole;
}

/* Letters and the marks behind them joined where there is a character for both; Hangul, too. */
static Codes run_compose(Work *work, const Step *step, Codes text) {
    Codes found = {0};
    size_t starter = SIZE_MAX; /* place of the letter that marks are joined to */
    int32_t last = -1;         /* class of the character before this one; -1 where that is the letter */
    for (size_t place = 0; place < text.count; place++) {
        int32_t kind = class_of(&step->first, text.at[place]);
        if (starter != SIZE_MAX && (last < 0 || last < kind)) {
            uint32_t whole = joined(step, found.at[starter], text.at[place]);
            if (whole != 0) {
                found.at[starter] = whole;
                continue;
            }
        }
        if (kind == 0) starter = found.count;
        last = kind == 0 ? -1 : kind;
        push(work, &found, text.at[place]);
    }
    return found;
}

static int jamo_kind(uint32_t code) { /* 1 L, 2 V, 3 T, 4 LV, 5 LVT */
    static const uint32_t jamo[][3] = {{1, 0x1100, 0x115F}, {2, 0x1160, 0x11A7}, {3, 0x11A8, 0x11FF},
                                       {1, 0xA960, 0xA97C}, {2, 0xD7B0, 0xD7C6}, {3, 0xD7CB, 0xD7FB}};
    if (code - SYLLABLES < SYLLABLE_COUNT) return (code - SYLLABLES) % TRAILING_COUNT == 0 ? 4 : 5;
    for (size_t index = 0; index < 6; index++) {
        if (code >= jamo[index][1] && code <= jamo[index][2]) return (int)jamo[index][0];
    }
    return 0;
}

/* Whether a cluster ends between two characters: the rules of Unicode's annex 29 that reach short clusters. */
static int breaks(const Step *step, uint32_t before, uint32_t after) {
    static const char joins[6][6] = {
        {0, 0, 0, 0, 0, 0}, {0, 1, 1, 0, 1, 1}, {0, 0, 1, 1, 0, 0}, {0, 0, 0, 1, 0, 0}, {0, 0, 1, 1, 0, 0}, {0, 0, 0, 1, 0, 0}};
    if (before == 0x0D && after == 0x0A) return 0;
    if (look_up(&step->third, before) != NULL || look_up(&step->third, after) != NULL) return 1;
    if (look_up(&step->first, after) != NULL || look_up(&step->second, before) != NULL) return 0;
    return !joins[jamo_kind(before)][jamo_kind(after)];
}

/* What the map has for the shortest entry that characters begin with; NULL for none. */
static const Codes *mapped(const Step *step, const uint32_t *codes, size_t count) {
    char key[64];
    size_t length = 0;
    for (size_t place = 0; place < count && place < step->strings.longest && length + 4 <= sizeof key; place++) {
        length += encode_one(codes[place], key + length);
        int32_t found = get(&step->strings, (Bytes){key, length});
        if (found >= 0) return &step->values[found];
    }
    return NULL;
}

/* SentencePiece's map of strings, asked for each short cluster of characters, then for each character. */
static Codes run_charsmap(Work *work, const Step *step, Codes text) {
    Codes found = {0};
    size_t start = 0, bytes = 0;
    for (size_t stop = 1; stop <= text.count; stop++) {
        char scratch[4];
        bytes += encode_one(text.at[stop - 1], scratch);
        if (stop < text.count && !breaks(step, text.at[stop - 1], text.at[stop])) continue;
        const Codes *whole = bytes < CLUSTER_BYTES ? mapped(step, text.at + start, stop - start) : NULL;
        if (whole != NULL) push_all(work, &found, whole->at, whole->count);
        for (size_t place = start; whole == NULL && place < stop; place++) {
            const Codes *one = mapped(step, text.at + place, 1);
            if (one != NULL) push_all(work, &found, one->at, one->count);
            else push(work, &found, text.at[place]);
        }
        start = stop;
        bytes = 0;
    }
    return found;
}

static int starts_with(Codes text, size_t place, Codes with) {
    return text.count - place >= with.count && memcmp(text.at + place, with.at, with.count * sizeof(uint32_t)) == 0;
}

static Codes run_replace(Work *work, const Step *step, Codes text) {
    Codes found = {0};
    for (size_t place = 0; place < text.count;) {
        if (step->old.count > 0 && starts_with(text, place, step->old)) {
            push_all(work, &found, step->new.at, step->new.count);
            place += step->old.count;
        } else {
            push(work, &found, text.at[place++]);
        }
    }
    return found;
}

static Codes run_squeeze(Work *work, const Step *step, Codes text) {
    Codes found = {0};
    for (size_t place = 0, stop; place < text.count; place = stop) {
        for (stop = place; stop < text.count && text.at[stop] == ' ';) stop++;
        if (stop == place) push(work, &found, text.at[stop++]);
        else if (stop - place >= step->least) push_all(work, &found, step->new.at, step->new.count);
        else push_all(work, &found, text.at + place, stop - place);
    }
    return found;
}

static Codes run_strip(const Step *step, Codes text) {
    size_t start = 0, stop = text.count;
    while (step->left && start < stop && look_up(&step->first, text.at[start]) != NULL) start++;
    while (step->right && stop > start && look_up(&step->first, text.at[stop - 1]) != NULL) stop--;
    return (Codes){text.at + start, stop - start, 0};
}

static Codes run_step(Work *work, const Step *step, Codes text) {
    if (strcmp(step->kind, "map") == 0) return run_map(work, step, text);
    if (strcmp(step->kind, "reorder") == 0) return run_reorder(work, step, text);
    if (strcmp(step->kind, "compose") == 0) return run_compose(work, step, text);
    if (strcmp(step->kind, "charsmap") == 0) return run_charsmap(work, step, text);
    if (strcmp(step->kind, "replace") == 0) return run_replace(work, step, text);
    if (strcmp(step->kind, "squeeze") == 0) return run_squeeze(work, step, text);
    if (strcmp(step->kind, "strip") == 0) return run_strip(step, text);
    if (text.count == 0) return text; /* prepend */
    Codes found = {0};
    push_all(work, &found, step->new.at, step->new.count);
    push_all(work, &found, text.at, text.count);
    return found;
}

/* ---- texts to token ids ----
 * text -> parts between added tokens -> normalize -> split into words -> pieces of each word -> frame -> truncate
 */
typedef struct {
    Codes content;
    int64_t id;
    int normalized, single_word, lstrip, rstrip;
} Added;

typedef struct {
    const char *kind, *prepend;
    const Table *alone; /* of "isolate" */
    Codes mark;
    int prefix_space, pattern, split;
} Split;

typedef struct {
    const Json *ids; /* NULL for a text */
    size_t text;
    int64_t segment;
} Part;

typedef struct {
    Added *added;
    Step *steps;
    Split *splits;
    Part *frames[2]; /* of one text and of two */
    size_t added_count, step_count, split_count, frame_counts[2], max_length;
    Table space, punctuation, letter, number, word, numeric;
    Pieces pieces;
    uint32_t bytes[256]; /* GPT-2's printable character of each byte */
} Tokenizer;

typedef struct {
    Codes *at;
    size_t count, room;
} Words;

static Table class_table(Work *work, const Json *classes, const char *name) {
    const Json *runs = find(classes, name);
    return runs == NULL ? (Table){NULL, 0} : make_table(work, runs);
}

static int in(const Table *table, uint32_t code) { return look_up(table, code) != NULL; }

static Split read_split(Work *work, const Tokenizer *tokenizer, const Json *described) {
    Split split = {.kind = need_text(work, described, "op")};
    if (strcmp(split.kind, "isolate") == 0) {
        int numeric = strcmp(need_text(work, described, "class"), "numeric") == 0;
        split.alone = numeric ? &tokenizer->numeric : &tokenizer->punctuation;
    } else if (strcmp(split.kind, "metaspace") == 0) {
        split.mark = decode(work, need_string(work, described, "mark"));
        split.prepend = need_text(work, described, "prepend");
        split.split = is_true(described, "split");
    } else if (strcmp(split.kind, "gpt2") == 0) {
        split.prefix_space = is_true(described, "prefix_space");
        split.pattern = is_true(described, "pattern");
    } else if (strcmp(split.kind, "space") != 0 && strcmp(split.kind, "runs") != 0) {
        fail(work, "the tokenizer splits by \"%s\", which is unknown", split.kind);
    }
    return split;
}

static void read_frame(Work *work, Tokenizer *tokenizer, int side, const Json *parts) {
    tokenizer->frames[side] = take(work, (parts->count + 1) * sizeof(Part));
    tokenizer->frame_counts[side] = parts->count;
    for (size_t index = 0; index < parts->count; index++) {
        const Json *part = &parts->items[index];
        Part read = {.ids = find(part, "ids"), .segment = whole(work, need(work, part, "segment"), 0, INT32_MAX)};
        if (read.ids == NULL) read.text = need_count(work, part, "text");
        else need_list(work, part, "ids");
        tokenizer->frames[side][index] = read;
    }
}

static Tokenizer *read_tokenizer(Work *work, const Json *program) {
    Tokenizer *tokenizer = take(work, sizeof(Tokenizer));
    memset(tokenizer, 0, sizeof *tokenizer);
    if (!is_text(find(program, "schema"), "edgekit.tokenizer/1")) fail(work, "the tokenizer is of another version");
    const Json *classes = need(work, program, "classes"), *added = need_list(work, program, "added");
    const Json *steps = need_list(work, program, "normalize"), *splits = need_list(work, program, "split");
    tokenizer->max_length = need_count(work, program, "max_length");
    tokenizer->space = class_table(work, classes, "space");
    tokenizer->punctuation = class_table(work, classes, "punctuation");
    tokenizer->letter = class_table(work, classes, "letter");
    tokenizer->number = class_table(work, classes, "number");
    tokenizer->word = class_table(work, classes, "word");
    tokenizer->numeric = class_table(work, classes, "numeric");
    tokenizer->added = take(work, (added->count + 1) * sizeof(Added));
    for (size_t index = 0; index < added->count; index++) {
        const Json *token = &added->items[index];
        Codes content = decode(work, need_string(work, token, "content"));
        if (content.count == 0) continue;
        tokenizer->added[tokenizer->added_count++] = (Added){
            content, whole(work, need(work, token, "id"), 0, INT32_MAX), is_true(token, "normalized"),
            is_true(token, "single_word"), is_true(token, "lstrip"), is_true(token, "rstrip")};
    }
    tokenizer->steps = take(work, (steps->count + 1) * sizeof(Step));
    tokenizer->step_count = steps->count;
    for (size_t index = 0; index < steps->count; index++) tokenizer->steps[index] = make_step(work, &steps->items[index]);
    tokenizer->splits = take(work, (splits->count + 1) * sizeof(Split));
    tokenizer->split_count = splits->count;
    for (size_t index = 0; index < splits->count; index++) {
        tokenizer->splits[index] = read_split(work, tokenizer, &splits->items[index]);
    }
    tokenizer->pieces = read_pieces(work, need(work, program, "model"));
    const Json *frame = need(work, program, "frame");
    read_frame(work, tokenizer, 0, need_list(work, frame, "single"));
    read_frame(work, tokenizer, 1, need_list(work, frame, "pair"));
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; byte++) {
        int printable = (byte >= 0x21 && byte < 0x7F) || (byte >= 0xA1 && byte < 0xAD) || byte >= 0xAE;
        tokenizer->bytes[byte] = printable ? byte : next++;
    }
    return tokenizer;
}

static void add_words(Work *work, Words *words, const uint32_t *at, size_t count) {
    if (count == 0) return;
    words->at = grown(work, words->at, words->count, &words->room, sizeof(Codes));
    words->at[words->count++] = (Codes){(uint32_t *)at, count, 0};
}

/* Runs of characters: `drop` parts them and goes, `alone` stands alone, `group` is a run of its own. */
static void split_runs(
    Work *work, Codes text, const Table *drop, const Table *alone, const Table *group, Words *words) {
    size_t start = 0;
    int last = -1;
    for (size_t place = 0; place <= text.count; place++) {
        int kind = -1;
        if (place < text.count && !(drop != NULL && in(drop, text.at[place]))) {
            kind = alone != NULL && in(alone, text.at[place]) ? 2 : 1;
            if (group != NULL && in(group, text.at[place])) kind = 0;
        }
        if (kind == last && kind != 2) continue;
        if (last >= 0) add_words(work, words, text.at + start, place - start);
        start = place;
        last = kind;
    }
}

/* Spaces become a visible mark, which begins a word. */
static void split_metaspace(Work *work, const Split *split, Codes text, int first, Words *words) {
    Codes marked = {0};
    int wanted = strcmp(split->prepend, "always") == 0 || (strcmp(split->prepend, "first") == 0 && first);
    int begins = text.count > 0 && (text.at[0] == ' ' || starts_with(text, 0, split->mark));
    if (wanted && !begins) push_all(work, &marked, split->mark.at, split->mark.count);
    for (size_t place = 0; place < text.count; place++) {
        if (text.at[place] == ' ') push_all(work, &marked, split->mark.at, split->mark.count);
        else push(work, &marked, text.at[place]);
    }
    size_t start = 0;
    for (size_t place = 1; split->split && place < marked.count; place++) {
        if (!starts_with(marked, place, split->mark)) continue;
        add_words(work, words, marked.at + start, place - start);
        start = place;
    }
    add_words(work, words, marked.at + start, marked.count - start);
}

static int gpt2_kind(const Tokenizer *tokenizer, uint32_t code) {
    return in(&tokenizer->space, code) ? 0 : in(&tokenizer->letter, code) ? 1 : in(&tokenizer->number, code) ? 2 : 3;
}

/* GPT-2's pattern: contractions, then letters, numbers or others with one space before, then spaces. */
static size_t gpt2_end(const Tokenizer *tokenizer, Codes text, size_t start) {
    static const char *const contractions[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    for (size_t index = 0; text.at[start] == '\'' && index < 7; index++) {
        size_t length = strlen(contractions[index]), same = 0;
        while (same < length && start + 1 + same < text.count &&
               text.at[start + 1 + same] == (unsigned char)contractions[index][same]) same++;
        if (same == length) return start + 1 + length;
    }
    size_t begin = start + (text.at[start] == ' ' ? 1 : 0), stop = start;
    if (begin < text.count && gpt2_kind(tokenizer, text.at[begin]) != 0) {
        int kind = gpt2_kind(tokenizer, text.at[begin]);
        for (stop = begin; stop < text.count && gpt2_kind(tokenizer, text.at[stop]) == kind;) stop++;
        return stop;
    }
    while (stop < text.count && gpt2_kind(tokenizer, text.at[stop]) == 0) stop++;
    return stop < text.count && stop - 1 > start ? stop - 1 : stop;
}

static void split_gpt2(Work *work, const Tokenizer *tokenizer, const Split *split, Codes text, Words *words) {
    Codes whole = {0};
    if (split->prefix_space && text.count > 0 && text.at[0] != ' ') push(work, &whole, ' ');
    push_all(work, &whole, text.at, text.count);
    for (size_t start = 0, stop; start < whole.count; start = stop) {
        stop = split->pattern ? gpt2_end(tokenizer, whole, start) : whole.count;
        Bytes bytes = encode(work, whole.at + start, stop - start);
        Codes printable = {0};
        for (size_t place = 0; place < bytes.length; place++) {
            push(work, &printable, tokenizer->bytes[(unsigned char)bytes.at[place]]);
        }
        add_words(work, words, printable.at, printable.count);
    }
}

static Words split_words(Work *work, const Tokenizer *tokenizer, Codes text, int first) {
    Words words = {0};
    add_words(work, &words, text.at, text.count);
    for (size_t index = 0; index < tokenizer->split_count; index++) {
        const Split *split = &tokenizer->splits[index];
        Words found = {0};
        for (size_t place = 0; place < words.count; place++) {
            Codes word = words.at[place];
            if (strcmp(split->kind, "space") == 0) split_runs(work, word, &tokenizer->space, NULL, NULL, &found);
            else if (strcmp(split->kind, "isolate") == 0) split_runs(work, word, NULL, split->alone, NULL, &found);
            else if (strcmp(split->kind, "runs") == 0) {
                split_runs(work, word, &tokenizer->space, NULL, &tokenizer->word, &found);
            } else if (strcmp(split->kind, "metaspace") == 0) split_metaspace(work, split, word, first, &found);
            else split_gpt2(work, tokenizer, split, word, &found);
        }
        words = found;
    }
    return words;
}

static const Added *added_at(const Tokenizer *tokenizer, Codes text, size_t place, int normalized) {
    const Added *found = NULL;
    for (size_t index = 0; index < tokenizer->added_count; index++) {
        const Added *token = &tokenizer->added[index];
        if (token->normalized != normalized || !starts_with(text, place, token->content)) continue;
        if (found == NULL || token->content.count > found->content.count) found = token;
    }
    return found;
}

static void add_text(Work *work, const Tokenizer *tokenizer, Codes text, int normalized, int first, Ids *ids);

static void add_plain(Work *work, const Tokenizer *tokenizer, Codes text, int normalized, int first, Ids *ids) {
    if (text.count == 0) return;
    if (!normalized) {
        for (size_t index = 0; index < tokenizer->step_count; index++) {
            text = run_step(work, &tokenizer->steps[index], text);
        }
        add_text(work, tokenizer, text, 1, first, ids);
        return;
    }
    Words words = split_words(work, tokenizer, text, first);
    for (size_t index = 0; index < words.count; index++) add_word(work, &tokenizer->pieces, words.at[index], ids);
}

/* Texts between added tokens and the ids of these: everywhere the longest, from left to right. */
static void add_text(Work *work, const Tokenizer *tokenizer, Codes text, int normalized, int first, Ids *ids) {
    size_t done = 0, start = 0;
    while (start < text.count) {
        const Added *token = added_at(tokenizer, text, start, normalized);
        if (token == NULL) {
            start++;
            continue;
        }
        size_t stop = start + token->content.count, begin = start;
        if (token->single_word && ((start > 0 && in(&tokenizer->word, text.at[start - 1])) ||
                                   (stop < text.count && in(&tokenizer->word, text.at[stop])))) {
            start = stop;
            continue;
        }
        while (token->lstrip && begin > done && in(&tokenizer->space, text.at[begin - 1])) begin--;
        while (token->rstrip && stop < text.count && in(&tokenizer->space, text.at[stop])) stop++;
        Codes before = {text.at + done, begin - done, 0};
        add_plain(work, tokenizer, before, normalized, first && done == 0, ids);
        add(work, ids, token->id);
        done = start = stop;
    }
    Codes rest = {text.at + done, text.count - done, 0};
    add_plain(work, tokenizer, rest, normalized, first && done == 0, ids);
}

/* How many tokens of each text stay, the longer one cut first: as the library tokenizers cuts them. */
static void share(size_t counts[2], int two, size_t room) {
    if (!two) {
        if (counts[0] > room) counts[0] = room;
        return;
    }
    if (counts[0] + counts[1] <= room) return;
    int swapped = counts[0] > counts[1];
    size_t small = counts[swapped ? 1 : 0], large = small;
    if (small <= room && room - small > small) large = room - small;
    if (small + large > room) {
        small = room / 2;
        large = small + room % 2;
    }
    counts[swapped ? 1 : 0] = small;
    counts[swapped ? 0 : 1] = large;
}

/* Ids and segments of a text or of two, framed and cut to the longest length. */
static void tokenize(Work *work, const Tokenizer *tokenizer, const Bytes *texts, int two, Ids *ids, Ids *segments) {
    Ids found[2] = {0};
    size_t counts[2] = {0}, around = 0;
    for (int side = 0; side <= two; side++) {
        add_text(work, tokenizer, decode(work, texts[side]), 0, 1, &found[side]);
        counts[side] = found[side].count;
    }
    const Part *frame = tokenizer->frames[two];
    for (size_t index = 0; index < tokenizer->frame_counts[two]; index++) {
        around += frame[index].ids == NULL ? 0 : frame[index].ids->count;
    }
    share(counts, two, tokenizer->max_length > around ? tokenizer->max_length - around : 0);
    for (size_t index = 0; index < tokenizer->frame_counts[two]; index++) {
        const Json *special = frame[index].ids;
        size_t text = frame[index].text > 1 ? 1 : frame[index].text;
        size_t count = special != NULL ? special->count : counts[text];
        for (size_t place = 0; place < count; place++) {
            add(work, ids, special != NULL ? whole(work, &special->items[place], 0, INT32_MAX) : found[text].at[place]);
            add(work, segments, frame[index].segment);
        }
    }
}

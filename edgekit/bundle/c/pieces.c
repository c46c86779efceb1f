/* ---- words to pieces: WordPiece, whole words, BPE, Unigram ---- */
typedef struct {
    int64_t *at;
    size_t count, room;
} Ids;

typedef enum { WORDPIECE, WORDLEVEL, BPE, UNIGRAM } Family;

typedef struct {
    Family family;
    Map vocabulary;
    int32_t unknown; /* -1 where there is none */
    Bytes prefix, suffix;
    size_t longest_word;
    Map ranks; /* BPE: of pairs, by `pair_of` */
    int fuse_unknown, byte_fallback, ignore_merges;
    const double *scores; /* Unigram: by number */
    double unknown_score;
} Pieces;

static const double UNKNOWN_PENALTY = 10.0; /* K_UNK_PENALTY of SentencePiece */

static void add(Work *work, Ids *ids, int64_t id) {
    ids->at = grown(work, ids->at, ids->count, &ids->room, sizeof(int64_t));
    ids->at[ids->count++] = id;
}

/* Two strings as one key: the length of the first, then both. `key` has room for four bytes more than they have. */
static Bytes pair_of(char *key, Bytes one, Bytes other) {
    uint32_t length = (uint32_t)one.length;
    memcpy(key, &length, 4);
    memcpy(key + 4, one.at, one.length);
    memcpy(key + 4 + one.length, other.at, other.length);
    return (Bytes){key, 4 + one.length + other.length};
}

static void read_ranks(Work *work, Pieces *pieces, const Json *merges) {
    pieces->ranks = make_map(work, merges->count);
    for (size_t rank = 0; rank < merges->count; rank++) {
        const Json *pair = &merges->items[rank];
        if (pair->kind != J_ARRAY || pair->count != 2 || pair->items[0].kind != J_STRING || pair->items[1].kind != J_STRING) {
            fail(work, "the tokenizer's merges are damaged");
        }
        Bytes one = pair->items[0].text, other = pair->items[1].text;
        put(&pieces->ranks, pair_of(take(work, 4 + one.length + other.length), one, other), (int32_t)rank);
    }
}

static void read_scores(Work *work, Pieces *pieces, const Json *scores, size_t count) {
    double *found = take(work, (scores->count + 1) * sizeof(double)), least = INFINITY;
    if (scores->count != count) fail(work, "the tokenizer has another number of scores than of pieces");
    for (size_t index = 0; index < scores->count; index++) {
        found[index] = scores->items[index].number;
        if (found[index] < least) least = found[index];
    }
    pieces->scores = found;
    pieces->unknown_score = least - UNKNOWN_PENALTY;
}

static Pieces read_pieces(Work *work, const Json *model) {
    static const char *const families[] = {"wordpiece", "wordlevel", "bpe", "unigram"};
    const char *type = need_text(work, model, "type");
    Pieces pieces = {.family = UNIGRAM + 1};
    for (int family = 0; family < 4; family++) {
        if (strcmp(type, families[family]) == 0) pieces.family = (Family)family;
    }
    if (pieces.family > UNIGRAM) fail(work, "the tokenizer is of the kind \"%s\", which is unknown", type);
    const Json *vocabulary = need_list(work, model, "vocab"), *unknown = find(model, "unknown");
    pieces.vocabulary = make_map(work, vocabulary->count);
    for (size_t number = 0; number < vocabulary->count; number++) {
        const Json *piece = &vocabulary->items[number];
        if (piece->kind == J_STRING) put(&pieces.vocabulary, piece->text, (int32_t)number);
    }
    pieces.unknown = unknown == NULL ? -1 : (int32_t)whole(work, unknown, 0, INT32_MAX);
    if (pieces.family == WORDPIECE) pieces.longest_word = need_count(work, model, "longest_word");
    if (pieces.family == WORDPIECE || pieces.family == BPE) pieces.prefix = need_string(work, model, "prefix");
    if (pieces.family == BPE) {
        pieces.suffix = need_string(work, model, "suffix");
        pieces.ignore_merges = is_true(model, "ignore_merges");
        pieces.fuse_unknown = is_true(model, "fuse_unknown");
        read_ranks(work, &pieces, need_list(work, model, "merges"));
    }
    pieces.byte_fallback = is_true(model, "byte_fallback");
    if (pieces.family == UNIGRAM) read_scores(work, &pieces, need_list(work, model, "scores"), vocabulary->count);
    return pieces;
}

/* The longest piece that a word begins with, then the longest of the rest; one unknown where that fails. */
static void wordpiece(Work *work, const Pieces *pieces, Codes word, Ids *ids) {
    if (word.count > pieces->longest_word) {
        add(work, ids, pieces->unknown);
        return;
    }
    char *key = take(work, pieces->prefix.length + word.count * 4);
    size_t *ends = take(work, (word.count + 1) * sizeof(size_t));
    size_t before = ids->count;
    for (size_t start = 0, stop; start < word.count; start = stop) {
        size_t length = start > 0 ? pieces->prefix.length : 0;
        if (length > 0) memcpy(key, pieces->prefix.at, length);
        for (size_t place = start; place < word.count; place++) {
            length += encode_one(word.at[place], key + length);
            ends[place + 1] = length;
        }
        int32_t number = -1;
        for (stop = word.count; stop > start; stop--) {
            number = get(&pieces->vocabulary, (Bytes){key, ends[stop]});
            if (number >= 0) break;
        }
        if (number < 0) {
            ids->count = before;
            add(work, ids, pieces->unknown);
            return;
        }
        add(work, ids, number);
    }
}

/* The numbers of a piece's bytes, as <0xE2>; 0 where one of them has none. */
static int add_bytes(Work *work, const Pieces *pieces, Bytes piece, Ids *ids) {
    size_t before = ids->count;
    for (size_t place = 0; place < piece.length; place++) {
        char name[8];
        int length = snprintf(name, sizeof name, "<0x%02X>", (unsigned char)piece.at[place]);
        int32_t number = get(&pieces->vocabulary, (Bytes){name, (size_t)length});
        if (number < 0) {
            ids->count = before;
            return 0;
        }
        add(work, ids, number);
    }
    return 1;
}

/* The characters of a word, with the marks of its middle and its end; unknown ones side by side may be one. */
static size_t bpe_characters(Work *work, const Pieces *pieces, Codes word, Bytes *parts) {
    size_t count = 0;
    int unknown = 0;
    for (size_t place = 0; place < word.count; place++) {
        char *piece = take(work, pieces->prefix.length + pieces->suffix.length + 5);
        size_t length = 0;
        if (place > 0 && pieces->prefix.length > 0) {
            memcpy(piece, pieces->prefix.at, pieces->prefix.length);
            length = pieces->prefix.length;
        }
        length += encode_one(word.at[place], piece + length);
        if (place + 1 == word.count && pieces->suffix.length > 0) {
            memcpy(piece + length, pieces->suffix.at, pieces->suffix.length);
            length += pieces->suffix.length;
        }
        Bytes part = {piece, length};
        int known = get(&pieces->vocabulary, part) >= 0;
        Ids coded = {0};
        if (!known && pieces->byte_fallback && add_bytes(work, pieces, part, &coded)) {
            for (size_t index = 0; index < length; index++) {
                char *name = take(work, 8);
                snprintf(name, 8, "<0x%02X>", (unsigned char)piece[index]);
                parts[count++] = (Bytes){name, 6};
            }
            unknown = 0;
            continue;
        }
        /* Without an unknown token such a character leaves nothing, so that its neighbours may merge. */
        if (known || (pieces->unknown >= 0 && !(unknown && pieces->fuse_unknown))) parts[count++] = part;
        unknown = !known;
    }
    return count;
}

/* Characters, merged pair by pair: the pair that was learned first, and the leftmost of those. */
static void bpe(Work *work, const Pieces *pieces, Codes word, Ids *ids) {
    Bytes whole = encode(work, word.at, word.count);
    int32_t number = get(&pieces->vocabulary, whole);
    if (pieces->ignore_merges && number >= 0) {
        add(work, ids, number);
        return;
    }
    size_t most = pieces->prefix.length + pieces->suffix.length + 4;
    Bytes *parts = take(work, (word.count * most + 1) * sizeof(Bytes));
    size_t count = bpe_characters(work, pieces, word, parts);
    size_t length = 4;
    for (size_t place = 0; place < count; place++) length += parts[place].length; /* merging makes them no longer */
    char *key = take(work, length);
    int32_t *ranks = take(work, (count + 1) * sizeof(int32_t)); /* of each part and the next one */
    for (size_t place = 0; place + 1 < count; place++) {
        ranks[place] = get(&pieces->ranks, pair_of(key, parts[place], parts[place + 1]));
    }
    for (;;) {
        size_t best = SIZE_MAX;
        for (size_t place = 0; place + 1 < count; place++) {
            if (ranks[place] >= 0 && (best == SIZE_MAX || ranks[place] < ranks[best])) best = place;
        }
        if (best == SIZE_MAX) break;
        Bytes one = parts[best], other = parts[best + 1];
        size_t cut = pieces->prefix.length;
        cut = cut > 0 && other.length >= cut && memcmp(other.at, pieces->prefix.at, cut) == 0 ? cut : 0;
        char *merged = take(work, one.length + other.length);
        memcpy(merged, one.at, one.length);
        memcpy(merged + one.length, other.at + cut, other.length - cut);
        parts[best] = (Bytes){merged, one.length + other.length - cut};
        memmove(parts + best + 1, parts + best + 2, (count - best - 2) * sizeof(Bytes));
        memmove(ranks + best, ranks + best + 1, (count - best - 1) * sizeof(int32_t));
        count--;
        if (best > 0) ranks[best - 1] = get(&pieces->ranks, pair_of(key, parts[best - 1], parts[best]));
        if (best + 1 < count) ranks[best] = get(&pieces->ranks, pair_of(key, parts[best], parts[best + 1]));
    }
    for (size_t place = 0; place < count; place++) {
        number = get(&pieces->vocabulary, parts[place]);
        number = number < 0 ? pieces->unknown : number;
        if (number >= 0) add(work, ids, number);
    }
}

typedef struct {
    double score;
    size_t start;
    int32_t number;
    int reached;
} Best;

static void offer(Best *best, double score, size_t start, int32_t number) {
    if (!best->reached || score > best->score) *best = (Best){score, start, number, 1};
}

static void add_piece(Work *work, const Pieces *pieces, Codes piece, Ids *ids) {
    Bytes bytes = encode(work, piece.at, piece.count);
    int32_t number = get(&pieces->vocabulary, bytes);
    if (number >= 0) add(work, ids, number);
    else if (!pieces->byte_fallback || !add_bytes(work, pieces, bytes, ids)) add(work, ids, pieces->unknown);
}

/* The most likely division into pieces (Viterbi); unknown characters side by side are one unknown token. */
static void unigram(Work *work, const Pieces *pieces, Codes word, Ids *ids) {
    Best *best = take(work, (word.count + 1) * sizeof(Best));
    char *key = take(work, pieces->vocabulary.longest * 4 + 4);
    memset(best, 0, (word.count + 1) * sizeof(Best));
    best[0].reached = 1;
    for (size_t start = 0; start < word.count; start++) {
        int single = 0;
        size_t length = 0;
        for (size_t stop = start + 1; stop <= word.count && stop - start <= pieces->vocabulary.longest; stop++) {
            length += encode_one(word.at[stop - 1], key + length);
            int32_t number = get(&pieces->vocabulary, (Bytes){key, length});
            if (number < 0) continue;
            offer(&best[stop], best[start].score + pieces->scores[number], start, number);
            single = single || stop == start + 1;
        }
        if (!single) offer(&best[start + 1], best[start].score + pieces->unknown_score, start, pieces->unknown);
    }
    Codes *found = take(work, (word.count + 1) * sizeof(Codes));
    size_t count = 0;
    int fused = 0;
    for (size_t stop = word.count; stop > 0; stop = best[stop].start) {
        size_t start = best[stop].start;
        int unknown = best[stop].number == pieces->unknown;
        if (unknown && fused) {
            found[count - 1].count += found[count - 1].at - (word.at + start);
            found[count - 1].at = word.at + start;
        } else {
            found[count++] = (Codes){word.at + start, stop - start, 0};
        }
        fused = unknown;
    }
    while (count > 0) add_piece(work, pieces, found[--count], ids);
}

static void add_word(Work *work, const Pieces *pieces, Codes word, Ids *ids) {
    if (pieces->family == WORDPIECE) {
        wordpiece(work, pieces, word, ids);
    } else if (pieces->family == BPE) {
        bpe(work, pieces, word, ids);
    } else if (pieces->family == UNIGRAM) {
        unigram(work, pieces, word, ids);
    } else {
        int32_t number = get(&pieces->vocabulary, encode(work, word.at, word.count));
        add(work, ids, number < 0 ? pieces->unknown : number);
    }
}

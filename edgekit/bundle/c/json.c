/* ---- JSON, RFC 8259 ---- */
typedef enum { J_NULL, J_FALSE, J_TRUE, J_NUMBER, J_STRING, J_ARRAY, J_OBJECT } Kind;

typedef struct Json {
    Kind kind;
    double number;
    Bytes text;
    struct Json *items; /* of an array or an object */
    Bytes *keys;        /* of an object */
    size_t count;
} Json;

typedef struct {
    Work *work;
    const char *name; /* of the file, for messages */
    const char *at, *end;
    int depth;
} Reader;

static Json json_value(Reader *reader);

static _Noreturn void json_fail(Reader *reader) { fail(reader->work, "%s: is not valid JSON", reader->name); }

static void json_space(Reader *reader) {
    while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) != NULL && *reader->at != 0) reader->at++;
}

static int json_takes(Reader *reader, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0) return 0;
    reader->at += length;
    return 1;
}

static uint32_t json_hexadecimal(Reader *reader) {
    uint32_t code = 0;
    if (reader->end - reader->at < 4) json_fail(reader);
    for (int digit = 0; digit < 4; digit++) {
        char one = *reader->at++;
        int value = one >= '0' && one <= '9' ? one - '0' : one >= 'a' && one <= 'f' ? one - 'a' + 10
            : one >= 'A' && one <= 'F' ? one - 'A' + 10 : -1;
        if (value < 0) json_fail(reader);
        code = code << 4 | (uint32_t)value;
    }
    return code;
}

static size_t json_escape(Reader *reader, char *into) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (reader->at >= reader->end) json_fail(reader);
    char kind = *reader->at++;
    if (kind == 'u') {
        uint32_t code = json_hexadecimal(reader);
        if (code >= 0xD800 && code < 0xDC00 && json_takes(reader, "\\u")) {
            code = 0x10000 + ((code - 0xD800) << 10) + (json_hexadecimal(reader) - 0xDC00);
        }
        return encode_one(code, into);
    }
    const char *found = kind == 0 ? NULL : strchr(names, kind);
    if (found == NULL) json_fail(reader);
    *into = values[found - names];
    return 1;
}

static Bytes json_string(Reader *reader) {
    if (!json_takes(reader, "\"")) json_fail(reader);
    const char *stop = reader->at;
    while (stop < reader->end && *stop != '"') stop += *stop == '\\' ? 2 : 1;
    if (stop >= reader->end) json_fail(reader);
    char *found = take(reader->work, (size_t)(stop - reader->at) + 1);
    size_t length = 0;
    while (reader->at < stop) {
        char one = *reader->at++;
        if (one == '\\') length += json_escape(reader, found + length);
        else found[length++] = one;
    }
    reader->at++;
    found[length] = 0;
    return (Bytes){found, length};
}

/* strtod takes the decimal point of the program's locale. */
static double json_number(Reader *reader) {
    char digits[64];
    size_t length = 0;
    while (reader->at < reader->end && length + 1 < sizeof digits && *reader->at != 0 &&
           strchr("+-.0123456789eE", *reader->at) != NULL) {
        digits[length++] = *reader->at == '.' ? *localeconv()->decimal_point : *reader->at;
        reader->at++;
    }
    digits[length] = 0;
    char *end;
    double value = strtod(digits, &end);
    if (length == 0 || *end != 0) json_fail(reader);
    return value;
}

static Json json_list(Reader *reader, Kind kind) {
    Json list = {.kind = kind};
    size_t room = 0, key_room = 0;
    const char *close = kind == J_OBJECT ? "}" : "]";
    if (++reader->depth > 64) json_fail(reader);
    json_space(reader);
    if (!json_takes(reader, close)) {
        do {
            json_space(reader);
            if (kind == J_OBJECT) {
                list.keys = grown(reader->work, list.keys, list.count, &key_room, sizeof(Bytes));
                list.keys[list.count] = json_string(reader);
                json_space(reader);
                if (!json_takes(reader, ":")) json_fail(reader);
            }
            Json value = json_value(reader);
            list.items = grown(reader->work, list.items, list.count, &room, sizeof(Json));
            list.items[list.count++] = value;
            json_space(reader);
        } while (json_takes(reader, ","));
        if (!json_takes(reader, close)) json_fail(reader);
    }
    reader->depth--;
    return list;
}

static Json json_value(Reader *reader) {
    json_space(reader);
    if (reader->at >= reader->end) json_fail(reader);
    if (*reader->at == '"') return (Json){.kind = J_STRING, .text = json_string(reader)};
    if (json_takes(reader, "{")) return json_list(reader, J_OBJECT);
    if (json_takes(reader, "[")) return json_list(reader, J_ARRAY);
    if (json_takes(reader, "null")) return (Json){.kind = J_NULL};
    if (json_takes(reader, "true")) return (Json){.kind = J_TRUE};
    if (json_takes(reader, "false")) return (Json){.kind = J_FALSE};
    return (Json){.kind = J_NUMBER, .number = json_number(reader)};
}

static Json *json_parse(Work *work, const char *name, Bytes content) {
    Reader reader = {work, name, content.at, content.at + content.length, 0};
    Json *found = take(work, sizeof(Json));
    *found = json_value(&reader);
    json_space(&reader);
    if (reader.at != reader.end) json_fail(&reader);
    return found;
}

/* A member of an object; NULL where there is none, or null. */
static const Json *find(const Json *object, const char *key) {
    for (size_t index = 0; object->kind == J_OBJECT && index < object->count; index++) {
        Bytes name = object->keys[index];
        if (name.length == strlen(key) && memcmp(name.at, key, name.length) == 0) {
            return object->items[index].kind == J_NULL ? NULL : &object->items[index];
        }
    }
    return NULL;
}

static const Json *need(Work *work, const Json *object, const char *key) {
    const Json *found = find(object, key);
    if (found == NULL) fail(work, "the key \"%s\" is missing", key);
    return found;
}

static const Json *need_kind(Work *work, const Json *object, const char *key, Kind kind) {
    static const char *const names[] = {[J_NUMBER] = "number", [J_STRING] = "string", [J_ARRAY] = "list", [J_OBJECT] = "object"};
    const Json *found = need(work, object, key);
    if (found->kind != kind) fail(work, "the key \"%s\" is no %s", key, names[kind]);
    return found;
}

static Bytes need_string(Work *work, const Json *object, const char *key) {
    return need_kind(work, object, key, J_STRING)->text;
}

static const char *need_text(Work *work, const Json *object, const char *key) { return need_string(work, object, key).at; }

static const Json *need_list(Work *work, const Json *object, const char *key) {
    return need_kind(work, object, key, J_ARRAY);
}

static double need_number(Work *work, const Json *object, const char *key) {
    return need_kind(work, object, key, J_NUMBER)->number;
}

/* A whole number: one that a double holds exactly, and no larger than `most`. */
static int64_t whole(Work *work, const Json *value, double least, double most) {
    if (value->kind != J_NUMBER || !(value->number >= least && value->number <= most) || value->number != floor(value->number)) {
        fail(work, "a number from %.0f to %.0f is missing", least, most);
    }
    return (int64_t)value->number;
}

static const double MOST_WHOLE = 9007199254740992.0; /* 2 to the 53rd */

static size_t need_count(Work *work, const Json *object, const char *key) {
    return (size_t)whole(work, need(work, object, key), 0, sizeof(size_t) > 4 ? MOST_WHOLE : 4294967295.0);
}

/* A number of pixels: whole, and small enough for an int and for the squares that are made of it. */
static int need_pixels(Work *work, const Json *object, const char *key) {
    double found = need_number(work, object, key);
    if (!(found >= 0 && found <= 65535) || found != floor(found)) fail(work, "the key \"%s\" is no number of pixels", key);
    return (int)found;
}

static int is_true(const Json *object, const char *key) {
    const Json *found = find(object, key);
    return found != NULL && found->kind == J_TRUE;
}

static int is_text(const Json *value, const char *text) {
    return value != NULL && value->kind == J_STRING && strcmp(value->text.at, text) == 0;
}

/* Counts what a guest of qemu's user mode executes between two marks: instructions, and those of some kernel classes.
 *
 *   -plugin plugin.so,syscall=155,begin=0x5eed01,end=0x5eed02,class=sdot:0xbfe0fc00:0x0e809400,class=...
 *
 * A mark is the system call of that number with that first argument. A class is a name, a mask and a value: an
 * instruction belongs to it when its first four bytes, little-endian, are the value under the mask; several rows may
 * share a name. For each region one line goes to qemu's log: `edgekit-region TOTAL NAME:COUNT ...`, decimal.
 *
 * Each block adds to its counters inline when it is entered, without a call. One thread is counted; a block that an
 * exception leaves early counts as a whole.
 *
 * qemu ships no header for plugins in its package: what is used of version 1 of the interface is declared here.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { INLINE_ADD_U64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                             uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
void qemu_plugin_outs(const char *);

enum { MOST_ROWS = 64, MOST_NAME = 16, TOTAL = 0 };

struct row {
    uint32_t mask, value;
    int class;
};

int qemu_plugin_version __attribute__((visibility("default"))) = 1;

static struct row rows[MOST_ROWS];
static int row_count, class_count = 1; /* class 0 is the total */
static char names[MOST_ROWS + 1][MOST_NAME];
static uint64_t counts[MOST_ROWS + 1], at_begin[MOST_ROWS + 1];
static uint64_t syscall_number, begin_mark, end_mark;

/* strtoull of a newer C library than the emulator's would ask for a symbol that is not there. */
static uint64_t number(const char **text)
{
    uint64_t value = 0;
    const char *at = *text;
    int base = at[0] == '0' && at[1] == 'x' ? 16 : 10;
    for (at += base == 16 ? 2 : 0;; at++) {
        int digit = *at >= '0' && *at <= '9' ? *at - '0' : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10 : 99;
        if (digit >= base) break;
        value = value * base + digit;
    }
    *text = at;
    return value;
}

static int class_of(const char *name, size_t length)
{
    for (int index = 1; index < class_count; index++)
        if (strlen(names[index]) == length && !memcmp(names[index], name, length)) return index;
    memcpy(names[class_count], name, length);
    return class_count++;
}

static int add_row(const char *text)
{
    size_t length = strcspn(text, ":");
    if (row_count == MOST_ROWS || length == 0 || length >= MOST_NAME || text[length] != ':') return 0;
    struct row *row = &rows[row_count++];
    row->class = class_of(text, length);
    text += length + 1;
    row->mask = (uint32_t)number(&text);
    if (*text++ != ':') return 0;
    row->value = (uint32_t)number(&text);
    return *text == 0;
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    uint64_t found[MOST_ROWS + 1] = {0};
    size_t length = qemu_plugin_tb_n_insns(block);
    (void)id;
    for (size_t index = 0; index < length; index++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, index);
        size_t size = qemu_plugin_insn_size(instruction);
        const uint8_t *bytes = qemu_plugin_insn_data(instruction);
        uint32_t word = 0;
        for (size_t byte = 0; byte < size && byte < 4; byte++) word |= (uint32_t)bytes[byte] << (8 * byte);
        for (int row = 0; row < row_count; row++)
            if ((word & rows[row].mask) == rows[row].value) {
                found[rows[row].class]++;
                break;
            }
    }
    found[TOTAL] = length;
    for (int class = 0; class < class_count; class++)
        if (found[class])
            qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, &counts[class], found[class]);
}

static void called(plugin_id id, unsigned cpu, int64_t call, uint64_t argument, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    static char line[(MOST_ROWS + 1) * (MOST_NAME + 24)];
    (void)id, (void)cpu, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if ((uint64_t)call != syscall_number) return;
    if (argument == begin_mark) memcpy(at_begin, counts, sizeof counts);
    if (argument != end_mark) return;
    size_t used = (size_t)snprintf(line, sizeof line, "edgekit-region %llu",
                                   (unsigned long long)(counts[TOTAL] - at_begin[TOTAL]));
    for (int class = 1; class < class_count; class++)
        used += (size_t)snprintf(line + used, sizeof line - used, " %s:%llu", names[class],
                                 (unsigned long long)(counts[class] - at_begin[class]));
    snprintf(line + used, sizeof line - used, "\n");
    qemu_plugin_outs(line);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int index = 0; index < argc; index++) {
        const char *value = strchr(argv[index], '=');
        size_t length = value ? (size_t)(value++ - argv[index]) : 0;
        if (length == 5 && !memcmp(argv[index], "class", 5)) {
            if (!add_row(value)) return -1;
        } else if (length == 7 && !memcmp(argv[index], "syscall", 7)) {
            syscall_number = number(&value);
        } else if (length == 5 && !memcmp(argv[index], "begin", 5)) {
            begin_mark = number(&value);
        } else if (length == 3 && !memcmp(argv[index], "end", 3)) {
            end_mark = number(&value);
        } else {
            return -1;
        }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}

/* QEMU TCG plugin: counts executed instructions between a start and a stop marker, by address.
 *
 *   qemu-system-arm -plugin ./count.so,out=FILE ...
 *
 * The markers do nothing on the core: `mov r10, r10` starts and `mov r11, r11` stops, on RISC-V `slti x0, x0, 266` and
 * `slti x0, x0, 267`. FILE gets, for each stop, a line `interval`, then lines `ADDRESS BYTES TIMES LEFT INSTRUCTION` (the
 * address in hexadecimal): how often the instruction ran between the two, and how often another than the next one in
 * memory followed it. Repeatable to the instruction.
 *
 * Distributions ship no header for plugins, so the functions are declared here, as in version 1 of the interface (QEMU 4.2
 * to 8.1). Instructions are told apart by their disassembly, because the function that gives their bytes was changed later.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
extern char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum kind { PLAIN, START, STOP };

struct insn {
    uint64_t address, times, left;
    uint32_t bytes;
    enum kind kind;
    char *text;
    struct insn *next; /* of the same bucket */
};

#define BUCKETS 65536u
static struct insn *buckets[BUCKETS];
static struct insn *previous; /* NULL outside of an interval */
static FILE *out;

static enum kind kind_of(const char *text)
{
    char flat[64];
    size_t n = 0;
    for (const char *c = text; *c && n + 1 < sizeof flat; c++)
        if (*c != ' ' && *c != '\t' && *c != '\n') flat[n++] = *c;
    flat[n] = 0;
    /* RISC-V comes as bytes where QEMU was built without its disassembler. */
    if (!strcmp(flat, "movsl,sl") || !strcmp(flat, "movr10,r10") || strstr(flat, "10a02013")) return START;
    if (!strcmp(flat, "movfp,fp") || !strcmp(flat, "movr11,r11") || strstr(flat, "10b02013")) return STOP;
    return PLAIN;
}

static void write_interval(void)
{
    fputs("interval\n", out);
    for (unsigned b = 0; b < BUCKETS; b++)
        for (struct insn *i = buckets[b]; i; i = i->next) {
            if (i->times)
                fprintf(out, "%llx %u %llu %llu %s\n", (unsigned long long)i->address, i->bytes,
                        (unsigned long long)i->times, (unsigned long long)i->left, i->text);
            i->times = i->left = 0;
        }
}

static void executed(unsigned vcpu, void *data)
{
    struct insn *this = data;
    (void)vcpu;
    if (this->kind == START) {
        previous = this;
    } else if (previous) {
        if (previous->address + previous->bytes != this->address) previous->left++;
        if (this->kind == STOP) {
            previous = NULL;
            write_interval();
        } else {
            this->times++;
            previous = this;
        }
    }
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t address = qemu_plugin_insn_vaddr(insn);
        struct insn **at = &buckets[(address >> 1) % BUCKETS];
        while (*at && (*at)->address != address) at = &(*at)->next;
        if (!*at) {
            *at = calloc(1, sizeof **at);
            if (!*at) exit(1);
            (*at)->address = address;
            (*at)->bytes = qemu_plugin_insn_size(insn);
            (*at)->text = qemu_plugin_insn_disas(insn);
            (*at)->kind = kind_of((*at)->text);
        }
        qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, 0, *at);
    }
}

static void ended(plugin_id id, void *data)
{
    (void)id, (void)data;
    fclose(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) || !(out = fopen(argv[0] + 4, "w"))) {
        fputs("count.so: out=FILE, which can be written, is the one argument\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}

// Answers `cpuid` as a processor with AVX2 and no more would, in libraries whose `cpuid` is now `ud2` (`narrow.py`). Loaded before them
// (`LD_PRELOAD`): the trap asks the real processor and takes AVX-512, AVX-VNNI and AMX out of the answer.
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

static struct sigaction before;

static void trap(int number, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *at = (const unsigned char *)regs[REG_RIP];
    if (at[0] != 0x0f || at[1] != 0x0b) {
        // No `cpuid`: whatever was to happen happens when the instruction is run again.
        sigaction(SIGILL, &before, 0);
        return;
    }
    unsigned leaf = regs[REG_RAX], sub = regs[REG_RCX], a, b, c, d;
    __cpuid_count(leaf, sub, a, b, c, d);
    if (leaf == 7 && sub == 0) {
        a = 0;                                         // no further parts: AVX-VNNI, AVX512_BF16, AVX-IFMA
        b &= ~(1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31); // AVX-512
        c &= ~(1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14);                                    // its VBMI, VNNI and so on
        d &= ~(1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25);               // 4VNNIW, FP16, AMX
    } else if (leaf == 7 || leaf == 0x24) {
        a = b = c = d = 0;
    }
    regs[REG_RAX] = a;
    regs[REG_RBX] = b;
    regs[REG_RCX] = c;
    regs[REG_RDX] = d;
    regs[REG_RIP] += 2;
}

__attribute__((constructor)) static void install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = trap;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGILL, &action, &before);
}

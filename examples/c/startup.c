/* Start-up of a Cortex-M, for newlib with semihosting (printf and the exit code go to the emulator or debugger).
 *
 * The vector table, the floating-point unit, initialised data, zeroed data; then main. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern uint32_t stack_top[], data_start[], data_end[], data_load[], bss_start[], bss_end[];
extern void initialise_monitor_handles(void);
int main(void);

__attribute__((noreturn)) void reset_handler(void);
void fault_handler(void);
/* A program that uses the timer defines this. */
__attribute__((weak)) void systick_handler(void);

void reset_handler(void) {
#ifdef __ARM_FP
    /* CPACR: full access to CP10 and CP11, before the first floating-point instruction. */
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;
    __asm volatile("dsb\n isb");
#endif
    memcpy(data_start, data_load, (size_t)((char *)data_end - (char *)data_start));
    memset(bss_start, 0, (size_t)((char *)bss_end - (char *)bss_start));
    initialise_monitor_handles();
    exit(main());
}

/* Without this, a fault would be a silent loop. */
void fault_handler(void) { _Exit(102); }

void systick_handler(void) {}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    [0] = stack_top,
    [1] = (void *)(uintptr_t)reset_handler,
    [2] = (void *)(uintptr_t)fault_handler,
    [3] = (void *)(uintptr_t)fault_handler,
    [4] = (void *)(uintptr_t)fault_handler,
    [5] = (void *)(uintptr_t)fault_handler,
    [6] = (void *)(uintptr_t)fault_handler,
    [15] = (void *)(uintptr_t)systick_handler,
};

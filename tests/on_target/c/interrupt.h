/* A timer that calls `tick` again and again, out of whatever runs: SysTick, or on a host a signal. */

#ifndef INTERRUPT_H
#define INTERRUPT_H

#ifdef __arm__
static void tick(void);

void systick_handler(void);
void systick_handler(void) { tick(); }

static void timer(int on) {
    volatile uint32_t *const systick = (volatile uint32_t *)0xE000E010; /* control, reload, current */
    systick[1] = 9999;
    systick[2] = 0;
    systick[0] = on ? 7 : 0; /* the core's clock, interrupt, enable */
}
#else
#include <signal.h>
#include <sys/time.h>

static void tick(void);

static void on_signal(int number) {
    (void)number;
    tick();
}

static void timer(int on) {
    const struct itimerval every = {{0, on ? 500 : 0}, {0, on ? 500 : 0}};
    signal(SIGALRM, on_signal);
    setitimer(ITIMER_REAL, &every, NULL);
}
#endif

#endif

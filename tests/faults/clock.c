/* The wall clock of a process, as many seconds off as the file CLOCK_OFF says; its monotonic clock stays right.

   Loaded before the C library (LD_PRELOAD), it also reaches what the JVM calls System.currentTimeMillis. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long seconds_off(void) {
    static __thread long known;
    static __thread time_t known_at;
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    if (now.tv_sec != known_at) {
        char digits[32] = {0};
        int file = open(getenv("CLOCK_OFF"), O_RDONLY);
        known_at = now.tv_sec;
        known = file >= 0 && read(file, digits, sizeof digits - 1) > 0 ? atol(digits) : 0;
        if (file >= 0) close(file);
    }
    return known;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = syscall(SYS_clock_gettime, clock, time);
    if (!failed && clock == CLOCK_REALTIME) time->tv_sec += seconds_off();
    return failed;
}

int gettimeofday(struct timeval *time, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds) *seconds = now.tv_sec;
    return now.tv_sec;
}

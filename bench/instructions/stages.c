/* Lets a program that runs under callgrind say which of its instructions are counted, and as what. */
#include <valgrind/callgrind.h>

void stage_begin(void) { CALLGRIND_START_INSTRUMENTATION; }

void stage_end(const char *name) {
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
}

/* For many short stages: code is translated anew after each stop, which takes longer than they do. */
void stage_mark(void) {
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

void stage_dump(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }

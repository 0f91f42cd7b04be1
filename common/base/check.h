// ESPALIER_CHECK aborts with a message: for programmer errors only, never reachable from bytes,
// files or flags.
#pragma once

#include <cstdio>
#include <cstdlib>

#define ESPALIER_CHECK(condition, message)                                                  \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      std::fprintf(stderr, "%s:%d: check failed: %s: %s\n", __FILE__, __LINE__, #condition, \
                   message);                                                                \
      std::abort();                                                                         \
    }                                                                                       \
  } while (false)

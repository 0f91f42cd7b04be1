// ESPALIER_MULTIVERSION compiles an elementwise function for several instruction sets and binds the
// best one at load time. Floating-point contraction is off, so all versions give the same bits.
// Sanitizers run before such bindings can be resolved, so their builds have the base version only.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define ESPALIER_MULTIVERSION \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ESPALIER_MULTIVERSION
#endif

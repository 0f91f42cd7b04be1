#include "common/sparsity/pruning/parallel_rows.h"

#include <gtest/gtest.h>

#include <atomic>
#include <new>

namespace espalier::sparsity {
namespace {

TEST(ParallelRowsTest, EveryRowIsWorkedOnOnce) {
  for (const int64_t rows : {0, 1, 5, 100}) {
    std::atomic<int64_t> seen = 0;
    ParallelRows(rows, 3, [&seen](int64_t begin, int64_t end) { seen += end - begin; });
    EXPECT_EQ(seen, rows);
  }
}

// Memory may run out on any of the threads; the others still end, and the caller is told.
TEST(ParallelRowsTest, WhatAThreadThrowsReachesTheCaller) {
  for (const int64_t bad : {0, 50, 99}) {
    std::atomic<int> parts = 0;
    const auto work = [&](int64_t begin, int64_t end) {
      ++parts;
      if (begin <= bad && bad < end) throw std::bad_alloc();
    };
    EXPECT_THROW(ParallelRows(100, 4, work), std::bad_alloc);
    EXPECT_EQ(parts, 4);
  }
}

}  // namespace
}  // namespace espalier::sparsity

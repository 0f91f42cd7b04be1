#include "worker/engine/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <new>

namespace espalier::worker::engine {
namespace {

TEST(ParallelTest, AnExceptionReachesTheCallerAfterAllOthersAreDone) {
  for (const int threads : {1, 2, 5}) {
    std::atomic<int> done = 0;
    const auto run = [&] {
      ParallelParts(threads, [&](int part) {
        if (part == threads / 2) throw std::bad_alloc();
        ++done;
      });
    };
    EXPECT_THROW(run(), std::bad_alloc);
    EXPECT_EQ(done, threads - 1);
    EXPECT_THROW(ParallelRows(threads, 100, [](RowRange) { throw std::bad_alloc(); }),
                 std::bad_alloc);
  }
}

}  // namespace
}  // namespace espalier::worker::engine

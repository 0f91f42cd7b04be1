#include "common/sparsity/pruning/parallel_rows.h"

#include <algorithm>
#include <thread>
#include <vector>

namespace espalier::sparsity {

void ParallelRows(int64_t rows, int threads, const std::function<void(int64_t, int64_t)>& work) {
  const int64_t parts = std::clamp<int64_t>(threads, 1, std::max<int64_t>(1, rows));
  std::vector<std::jthread> others;
  for (int64_t part = 1; part < parts; ++part) {
    others.emplace_back(
        [&work, rows, part, parts] { work(rows * part / parts, rows * (part + 1) / parts); });
  }
  work(0, rows / parts);
}

}  // namespace espalier::sparsity

#include "common/sparsity/pruning/parallel_rows.h"

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

#include "common/base/mutex.h"

namespace espalier::sparsity {

void ParallelRows(int64_t rows, int threads, const std::function<void(int64_t, int64_t)>& work) {
  const int64_t parts = std::clamp<int64_t>(threads, 1, std::max<int64_t>(1, rows));
  base::Mutex mutex;
  std::exception_ptr thrown;
  const auto run = [&](int64_t part) {
    try {
      work(rows * part / parts, rows * (part + 1) / parts);
    } catch (...) {
      const base::MutexLock lock(mutex);
      thrown = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> others;
    for (int64_t part = 1; part < parts; ++part) others.emplace_back([&run, part] { run(part); });
    run(0);
  }
  if (thrown != nullptr) std::rethrow_exception(thrown);
}

}  // namespace espalier::sparsity

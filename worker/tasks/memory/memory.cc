#include "worker/tasks/memory/memory.h"

#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <new>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/io/host_memory.h"
#include "common/wire/model_spec/cost.h"
#include "common/wire/model_spec/model_spec.h"

namespace espalier::worker::tasks {
namespace {

constexpr char kOutOfMemory[] = "OUT_OF_MEMORY";
constexpr char kControlGroup[] = "the control group";
// What the estimate allows for the process and its libraries, which may need none of it.
constexpr int64_t kEstimateSlack = 64'000'000;

void Lower(int64_t bytes, std::string_view source, MemoryLimit& limit) {
  if (bytes > 0 && bytes < limit.bytes) limit = {bytes, std::string(source)};
}

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t all = 0;
  int64_t resident = 0;
  file >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// The number behind `word` in /proc/self/status, in bytes.
int64_t StatusBytes(const std::string& word) {
  std::ifstream file("/proc/self/status");
  std::string found;
  int64_t kilobytes = 0;
  while (file >> found) {
    if (found == word && file >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

// Beyond the limit of its control group the kernel kills a process without a word. With this an
// allocation fails before, of which a task can tell. What is reserved but never touched, most of
// the stacks of threads, does not count there but does here.
void FailBeyond(const MemoryLimit& limit) {
  const int64_t untouched = std::max<int64_t>(0, StatusBytes("VmData:") - StatusBytes("RssAnon:"));
  rlimit data{};
  getrlimit(RLIMIT_DATA, &data);
  // The rest is for pages of the kernel and of the program.
  data.rlim_cur = static_cast<rlim_t>(limit.bytes - limit.bytes / 16 + untouched);
  data.rlim_cur = std::min(data.rlim_cur, data.rlim_max);
  setrlimit(RLIMIT_DATA, &data);
}

double BytesOfValue(v1::SectionType type) {
  if (type == v1::SECTION_TYPE_INT8) return 1;
  return type == v1::SECTION_TYPE_BF16 ? 2 : sizeof(float);
}

// Memory of the task's model and a batch of it, beside the data set, about: as if all tensors had
// the density of the whole. 0 when the model's kind has no estimate.
int64_t EstimateOf(const v1::Task& task) {
  const v1::ModelSpec& spec = task.model().spec();
  if (task.model().has_language() || spec.has_recommender()) return 0;
  const auto layout = wire::LayoutOf(spec);
  const auto cost = wire::ModelCost::Create(spec);
  if (!layout.ok() || !cost.ok()) return 0;
  double total = 0;
  for (const auto& tensor : **layout) total += static_cast<double>(tensor.rows * tensor.cols);
  const double stored = static_cast<double>(task.model().values().size_bytes()) /
                        BytesOfValue(task.model().values_type());
  const double density = total > 0 ? std::min(1.0, stored / total) : 0;
  std::vector<int64_t> counts;
  for (const auto& tensor : **layout) {
    const auto size = static_cast<double>(tensor.rows * tensor.cols);
    counts.push_back(static_cast<int64_t>(density * size));
  }
  return cost->WorkerBytes(counts, task.train().training());
}

std::string Megabytes(int64_t bytes) { return fmt::format("{:.1f} MB", 1e-6 * bytes); }

absl::Status OutOfMemory(const v1::Task& task, const MemoryLimit& limit, int64_t estimate,
                         const std::string& cause) {
  const int batch = task.train().training().batch_size();
  return base::MakeError(
      absl::StatusCode::kResourceExhausted, kOutOfMemory,
      fmt::format(
          "expected memory for a model of {} of values{}{} and the data set '{}', found at most {} "
          "({}), of which {} are in use{}; use a smaller model, batch, density or data set, or a "
          "worker with more memory",
          Megabytes(static_cast<int64_t>(task.model().values().size_bytes())),
          batch > 0 ? fmt::format(", batches of {}", batch) : "",
          estimate > 0 ? fmt::format(" (about {} in all)", Megabytes(estimate)) : "",
          task.data().dataset(), Megabytes(limit.bytes), limit.source, Megabytes(ResidentBytes()),
          cause.empty() ? "" : " (" + cause + ")"));
}

}  // namespace

MemoryLimit FindMemoryLimit(const std::string& root) {
  MemoryLimit limit = {int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE), "this machine"};
  const uint64_t group = std::min<uint64_t>(io::ControlGroupMemoryBytes(root), INT64_MAX);
  Lower(static_cast<int64_t>(group), kControlGroup, limit);
  for (const auto& [resource, name] :
       {std::pair(RLIMIT_AS, "RLIMIT_AS"), std::pair(RLIMIT_DATA, "RLIMIT_DATA")}) {
    rlimit found{};
    if (getrlimit(resource, &found) != 0 || found.rlim_cur == RLIM_INFINITY) continue;
    Lower(static_cast<int64_t>(std::min<rlim_t>(found.rlim_cur, INT64_MAX)), name, limit);
  }
  return limit;
}

absl::StatusOr<Partial> WithinMemory(const v1::Task& task, const MemoryLimit& limit,
                                     const std::function<absl::StatusOr<Partial>()>& run,
                                     const std::function<void()>& forget) {
  const int64_t estimate = EstimateOf(task);
  if (estimate - kEstimateSlack > limit.bytes)
    return OutOfMemory(task, limit, estimate, "not begun");
  if (limit.source == kControlGroup) FailBeyond(limit);
  std::string cause;
  try {
    absl::StatusOr<Partial> partial = run();
    if (base::ReasonOf(partial.status()) != kOutOfMemory) return partial;
    cause = base::MessageOf(partial.status());
  } catch (const std::bad_alloc&) {
  } catch (const std::length_error&) {  // of a size that no memory could hold
  }
  forget();
  malloc_trim(0);
  return OutOfMemory(task, limit, estimate, cause);
}

}  // namespace espalier::worker::tasks

#include "worker/engine/onednn/guard.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <string_view>
#include <utility>

#include "common/base/mutex.h"

namespace espalier::worker::engine {
namespace {

// Calls of the library that are to fail, see FailOneDnnFrom(); 0: none.
struct FaultPlan {
  std::array<std::atomic<int64_t>, 2> first = {0, 0};
  std::array<std::atomic<int64_t>, 2> calls = {0, 0};

  void Set(OneDnnStep step, int64_t call) {
    calls[static_cast<size_t>(step)] = 0;
    first[static_cast<size_t>(step)] = call;
  }
  bool Fails(OneDnnStep step) {
    const int64_t from = first[static_cast<size_t>(step)];
    return from > 0 && ++calls[static_cast<size_t>(step)] >= from;
  }
};

// ESPALIER_FAULT_ONEDNN is "create:N" or "execute:N".
void ReadFaultVariable(FaultPlan& plan) {
  const char* text = std::getenv("ESPALIER_FAULT_ONEDNN");
  if (text == nullptr) return;
  const std::string_view given = text;
  for (const auto& [word, step] :
       {std::pair<std::string_view, OneDnnStep>{"create:", OneDnnStep::kCreate},
        {"execute:", OneDnnStep::kExecute}}) {
    if (given.starts_with(word)) plan.Set(step, std::atoll(text + word.size()));
  }
}

FaultPlan& Faults() {
  static FaultPlan& plan = *[] {
    auto* made = new FaultPlan;
    ReadFaultVariable(*made);
    return made;
  }();
  return plan;
}

base::Mutex observer_mutex;
std::function<void(const std::string&)>& Observer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(observer_mutex) {
  static auto& observer = *new std::function<void(const std::string&)>;
  return observer;
}

}  // namespace

void ObserveOneDnnFailures(std::function<void(const std::string& message)> observer) {
  const base::MutexLock lock(observer_mutex);
  Observer() = std::move(observer);
}

void FailOneDnnFrom(OneDnnStep step, int64_t call) { Faults().Set(step, call); }

namespace onednn {

bool FailsForTest(OneDnnStep step) { return Faults().Fails(step); }

void Report(const absl::Status& failure) {
  const base::MutexLock lock(observer_mutex);
  if (Observer()) Observer()(base::MessageOf(failure));
}

}  // namespace onednn
}  // namespace espalier::worker::engine

#include "common/wire/model_spec/train_additions.h"

#include <algorithm>
#include <set>
#include <string>

#include "common/base/status.h"
#include "common/base/version.h"

namespace espalier::wire {
namespace {

// Its name in worker.proto; "" for one that this version does not know.
std::string NameOf(v1::TrainAddition::KindCase kind) {
  const auto* field = v1::TrainAddition::descriptor()->FindFieldByNumber(static_cast<int>(kind));
  return field == nullptr ? "" : field->name();
}

}  // namespace

const v1::TrainAddition& AdditionOf(const v1::TrainTask& task, v1::TrainAddition::KindCase kind) {
  for (const v1::TrainAddition& addition : task.additions()) {
    if (addition.kind_case() == kind) return addition;
  }
  return v1::TrainAddition::default_instance();
}

bool HasAddition(const v1::TrainTask& task, v1::TrainAddition::KindCase kind) {
  return AdditionOf(task, kind).kind_case() == kind;
}

v1::TrainAddition& MutableAddition(v1::TrainTask& task, v1::TrainAddition::KindCase kind) {
  for (v1::TrainAddition& addition : *task.mutable_additions()) {
    if (addition.kind_case() == kind) return addition;
  }
  return *task.add_additions();
}

absl::Status CheckAdditions(const v1::TrainTask& task,
                            std::initializer_list<v1::TrainAddition::KindCase> known,
                            std::string_view family) {
  std::set<v1::TrainAddition::KindCase> seen;
  for (const v1::TrainAddition& addition : task.additions()) {
    const v1::TrainAddition::KindCase kind = addition.kind_case();
    if (std::ranges::find(known, kind) == known.end()) {
      const std::string name = NameOf(kind);
      return base::MakeError(
          absl::StatusCode::kUnimplemented, "TASK_ADDITION_UNKNOWN",
          "expected training of " + std::string(family) + " as this worker (version " +
              std::string(base::Version()) + ") can do it, found that the method also asks for " +
              (name.empty() ? "something that it does not know; upgrade the worker"
                            : "\"" + name + "\"; use another method"));
    }
    if (!seen.insert(kind).second) {
      return base::InvalidArgument("TASK_INVALID",
                                   "expected each addition to training once, found "
                                   "\"" +
                                       NameOf(kind) + "\" twice");
    }
  }
  return absl::OkStatus();
}

}  // namespace espalier::wire

#include "server/scheduler/worker_words.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "common/base/names.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/config/access/worker_policy.h"

namespace espalier::server::scheduler {
namespace {

constexpr size_t kMaxVersionBytes = 64;
constexpr size_t kMaxTaskNameBytes = 128;  // of a job or participant
constexpr int kMaxDatasets = 1000;
constexpr size_t kMaxDatasetNameBytes = 255;
constexpr size_t kMaxFormatBytes = 64;
constexpr size_t kMaxProblemBytes = 4096;
constexpr size_t kMaxNameBytes = 1024;  // of a column, class or word
constexpr int64_t kMaxImageSide = 100'000;
constexpr size_t kMaxRegistrationBytes = size_t{1} << 20;
// Whole numbers up to here are exact as float64.
constexpr int64_t kMaxCount = int64_t{1} << 53;
constexpr uint32_t kMaxThreads = 1024;
constexpr size_t kMaxReasonBytes = 64;
constexpr size_t kMaxMessageBytes = 4096;

// Which message is looked at, and what its errors are called.
struct Door {
  const char* reason;

  absl::Status Refuse(const std::string& field, const std::string& expected,
                      const std::string& found) const {
    return base::InvalidArgument(
        reason, fmt::format("{}: expected {}, found {}; a worker of the coordinator's version does "
                            "not send this",
                            field, expected, found));
  }
  absl::Status CheckLength(const std::string& field, const std::string& text, size_t most) const {
    if (text.size() <= most) return absl::OkStatus();
    return Refuse(field, fmt::format("at most {} bytes", most), std::to_string(text.size()));
  }
  absl::Status CheckCount(const std::string& field, int64_t count, int64_t most) const {
    if (count >= 0 && count <= most) return absl::OkStatus();
    return Refuse(field, fmt::format("counts from 0 to {}", most), std::to_string(count));
  }
};
constexpr Door kRegistration = {"INVALID_REGISTRATION"};
constexpr Door kDescription = {"INVALID_DESCRIPTION"};

absl::Status CheckColumn(const Door& door, const v1::DatasetInfo::Column& column) {
  ESPALIER_RETURN_IF_ERROR(door.CheckLength("datasets.columns.name", column.name(), kMaxNameBytes));
  for (const int64_t count : {column.values(), column.missing()}) {
    ESPALIER_RETURN_IF_ERROR(door.CheckCount("datasets.columns", count, kMaxCount));
  }
  if (!std::isfinite(column.sum())) {
    return door.Refuse("datasets.columns.sum", "a finite number", fmt::format("{}", column.sum()));
  }
  for (const std::string& word : column.words()) {
    ESPALIER_RETURN_IF_ERROR(door.CheckLength("datasets.columns.words", word, kMaxNameBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckDataset(const Door& door, const v1::DatasetInfo& info) {
  const std::pair<const char*, std::pair<const std::string&, size_t>> texts[] = {
      {"datasets.name", {info.name(), kMaxDatasetNameBytes}},
      {"datasets.format", {info.format(), kMaxFormatBytes}},
      {"datasets.problem", {info.problem(), kMaxProblemBytes}},
      {"datasets.digest", {info.digest(), kMaxFormatBytes}},
      {"datasets.label_column", {info.label_column(), kMaxNameBytes}},
      {"datasets.delimiter", {info.delimiter(), kMaxFormatBytes}}};
  for (const auto& [field, text] : texts) {
    ESPALIER_RETURN_IF_ERROR(door.CheckLength(field, text.first, text.second));
  }
  for (const int64_t count :
       {info.features(), info.classes(), info.train_examples(), info.test_examples(), info.users(),
        info.items(), info.interactions(), info.train_bytes(), info.test_bytes()}) {
    ESPALIER_RETURN_IF_ERROR(door.CheckCount("datasets", count, kMaxCount));
  }
  for (const int64_t side : {info.image_channels(), info.image_height(), info.image_width()}) {
    ESPALIER_RETURN_IF_ERROR(door.CheckCount("datasets.image", side, kMaxImageSide));
  }
  for (const auto& column : info.columns()) {
    ESPALIER_RETURN_IF_ERROR(CheckColumn(door, column));
  }
  for (const std::string& name : info.class_names()) {
    ESPALIER_RETURN_IF_ERROR(door.CheckLength("datasets.class_names", name, kMaxNameBytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckRegistration(const v1::Register& hello) {
  if (!base::IsValidId(hello.worker_id())) {
    return base::InvalidArgument(
        "INVALID_WORKER_ID",
        "expected a worker id of 1 to 63 lower-case letters, digits and '-', "
        "beginning with a letter; found '" +
            hello.worker_id().substr(0, kMaxReasonBytes) + "'; start the worker with another --id");
  }
  if (hello.ByteSizeLong() > kMaxRegistrationBytes) {
    return kRegistration.Refuse("registration",
                                fmt::format("at most {} bytes", kMaxRegistrationBytes),
                                std::to_string(hello.ByteSizeLong()));
  }
  ESPALIER_RETURN_IF_ERROR(kRegistration.CheckLength("version", hello.version(), kMaxVersionBytes));
  if (hello.datasets_size() > kMaxDatasets) {
    return kRegistration.Refuse("datasets", fmt::format("at most {}", kMaxDatasets),
                                std::to_string(hello.datasets_size()));
  }
  for (const v1::DatasetInfo& info : hello.datasets()) {
    ESPALIER_RETURN_IF_ERROR(CheckDataset(kRegistration, info));
  }
  if (const std::string problem = config::ProblemOf(hello.policy()); !problem.empty()) {
    return base::InvalidArgument(
        kRegistration.reason, "policy." + problem + "; correct the file at the worker's --policy");
  }
  ESPALIER_RETURN_IF_ERROR(
      kRegistration.CheckLength("last_job", hello.last_job(), kMaxTaskNameBytes));
  ESPALIER_RETURN_IF_ERROR(
      kRegistration.CheckLength("last_participant", hello.last_participant(), kMaxTaskNameBytes));
  if (hello.threads() > kMaxThreads) {
    return kRegistration.Refuse("threads", fmt::format("at most {}", kMaxThreads),
                                std::to_string(hello.threads()));
  }
  if (hello.memory_budget_bytes() < 0) {
    return kRegistration.Refuse("memory_budget_bytes", "0 or more",
                                std::to_string(hello.memory_budget_bytes()));
  }
  if (!(hello.flops_budget() >= 0) || !std::isfinite(hello.flops_budget())) {
    return kRegistration.Refuse("flops_budget", "a finite number, 0 or more",
                                std::to_string(hello.flops_budget()));
  }
  return absl::OkStatus();
}

absl::Status CheckDescription(const v1::DatasetInfo& info) {
  return CheckDataset(kDescription, info);
}

std::string CleanReason(const std::string& reason) {
  const auto allowed = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  const bool clean = !reason.empty() && reason.size() <= kMaxReasonBytes &&
                     std::all_of(reason.begin(), reason.end(), allowed);
  return clean ? reason : "WORKER_FAILED";
}

bool IsUnfit(const std::string& reason) {
  return reason == "OUT_OF_MEMORY" || reason == "DATASET_TOO_LARGE" || reason == "TASK_NOT_ALLOWED";
}

std::string CutMessage(const std::string& message) {
  const std::string_view kept = base::Utf8Prefix(message, kMaxMessageBytes);
  return std::string(kept) + (kept.size() < message.size() ? "…" : "");
}

}  // namespace espalier::server::scheduler

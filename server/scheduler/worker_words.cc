#include "server/scheduler/worker_words.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/config/validate.h"

namespace espalier::server::scheduler {
namespace {

constexpr size_t kMaxVersionBytes = 64;
constexpr int kMaxDatasets = 1000;
constexpr size_t kMaxDatasetNameBytes = 255;
constexpr size_t kMaxFormatBytes = 64;
constexpr size_t kMaxRegistrationBytes = size_t{256} * 1024;
// Whole numbers up to here are exact as float64.
constexpr int64_t kMaxCount = int64_t{1} << 53;
constexpr uint32_t kMaxThreads = 1024;
constexpr size_t kMaxReasonBytes = 64;
constexpr size_t kMaxMessageBytes = 4096;

absl::Status Refuse(const std::string& field, const std::string& expected,
                    const std::string& found) {
  return base::InvalidArgument("INVALID_REGISTRATION",
                               fmt::format("{}: expected {}, found {}; a worker of the "
                                           "coordinator's version does not send this",
                                           field, expected, found));
}

absl::Status CheckLength(const std::string& field, const std::string& text, size_t most) {
  if (text.size() <= most) return absl::OkStatus();
  return Refuse(field, fmt::format("at most {} bytes", most), std::to_string(text.size()));
}

absl::Status CheckDataset(const v1::DatasetInfo& info) {
  ESPALIER_RETURN_IF_ERROR(CheckLength("datasets.name", info.name(), kMaxDatasetNameBytes));
  ESPALIER_RETURN_IF_ERROR(CheckLength("datasets.format", info.format(), kMaxFormatBytes));
  for (const int64_t count :
       {info.features(), info.classes(), info.train_examples(), info.test_examples(), info.users(),
        info.items(), info.interactions()}) {
    if (count < 0 || count > kMaxCount) {
      return Refuse("datasets", fmt::format("counts from 0 to {}", kMaxCount),
                    std::to_string(count));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckRegistration(const v1::Register& hello) {
  if (!config::IsValidId(hello.worker_id())) {
    return base::InvalidArgument(
        "INVALID_WORKER_ID",
        "expected a worker id of 1 to 63 lower-case letters, digits and '-', "
        "beginning with a letter; found '" +
            hello.worker_id().substr(0, kMaxReasonBytes) + "'; start the worker with another --id");
  }
  if (hello.ByteSizeLong() > kMaxRegistrationBytes) {
    return Refuse("registration", fmt::format("at most {} bytes", kMaxRegistrationBytes),
                  std::to_string(hello.ByteSizeLong()));
  }
  ESPALIER_RETURN_IF_ERROR(CheckLength("version", hello.version(), kMaxVersionBytes));
  if (hello.datasets_size() > kMaxDatasets) {
    return Refuse("datasets", fmt::format("at most {}", kMaxDatasets),
                  std::to_string(hello.datasets_size()));
  }
  for (const v1::DatasetInfo& info : hello.datasets()) {
    ESPALIER_RETURN_IF_ERROR(CheckDataset(info));
  }
  if (hello.threads() > kMaxThreads) {
    return Refuse("threads", fmt::format("at most {}", kMaxThreads),
                  std::to_string(hello.threads()));
  }
  if (hello.memory_budget_bytes() < 0) {
    return Refuse("memory_budget_bytes", "0 or more", std::to_string(hello.memory_budget_bytes()));
  }
  if (!(hello.flops_budget() >= 0) || !std::isfinite(hello.flops_budget())) {
    return Refuse("flops_budget", "a finite number, 0 or more",
                  std::to_string(hello.flops_budget()));
  }
  return absl::OkStatus();
}

std::string CleanReason(const std::string& reason) {
  const auto allowed = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  const bool clean = !reason.empty() && reason.size() <= kMaxReasonBytes &&
                     std::all_of(reason.begin(), reason.end(), allowed);
  return clean ? reason : "WORKER_FAILED";
}

bool IsTooSmall(const std::string& reason) {
  return reason == "OUT_OF_MEMORY" || reason == "DATASET_TOO_LARGE";
}

std::string CutMessage(const std::string& message) {
  const std::string_view kept = base::Utf8Prefix(message, kMaxMessageBytes);
  return std::string(kept) + (kept.size() < message.size() ? "…" : "");
}

}  // namespace espalier::server::scheduler

#include "client/cli/format.h"

#include <array>
#include <cmath>

#include "common/base/printable.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

std::string HumanBytes(int64_t bytes) {
  constexpr std::array<const char*, 6> kUnits = {"B", "kB", "MB", "GB", "TB", "PB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (std::abs(value) >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes);
  const char* name = kUnits[unit];
  return std::abs(value) < 9.95 ? fmt::format("{:.1f} {}", value, name)
                                : fmt::format("{:.0f} {}", value, name);
}

std::string HumanDuration(absl::Duration duration) {
  const double seconds = absl::ToDoubleSeconds(duration);
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 10) return fmt::format("{:.1f} s", seconds);
  const auto whole = std::llround(seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  return fmt::format("{}h {:02}m", whole / 3600, whole % 3600 / 60);
}

std::string Percent(double ratio) {
  // Without the sign of a "-0.0".
  const double shown = std::abs(ratio) < 0.0005 ? 0 : ratio;
  return fmt::format("{:.1f} %", shown * 100);
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

std::string AbsoluteTime(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0) return "-";
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", ToTime(time), absl::UTCTimeZone());
}

std::string RelativeTime(const google::protobuf::Timestamp& time, absl::Time now) {
  if (time.seconds() == 0) return "-";
  const auto seconds = absl::ToInt64Seconds(now - ToTime(time));
  if (seconds < 1) return "now";
  if (seconds < 120) return fmt::format("{}s ago", seconds);
  if (seconds < 2 * 3600) return fmt::format("{}m ago", seconds / 60);
  if (seconds < 2 * 86400) return fmt::format("{}h ago", seconds / 3600);
  return fmt::format("{}d ago", seconds / 86400);
}

std::string StateWord(v1::Job::State state) {
  constexpr std::string_view kPrefix = "STATE_";
  const std::string& name = v1::Job::State_Name(state);
  return name.size() > kPrefix.size() ? name.substr(kPrefix.size()) : "UNKNOWN";
}

bool HasEnded(v1::Job::State state) {
  return state == v1::Job::STATE_SUCCEEDED || state == v1::Job::STATE_FAILED ||
         state == v1::Job::STATE_CANCELLED;
}

std::string ScoreName(const v1::JobSpec& spec) {
  return base::Printable(spec.evaluation().main_metric());
}

std::string ScoreText(const v1::JobSpec& spec, double value) {
  return MetricText(spec.evaluation().main_metric(), value);
}

std::string MetricText(std::string_view name, double value) {
  return name.ends_with("accuracy") ? Percent(value) : fmt::format("{:.4f}", value);
}

std::optional<double> AccuracyOf(const v1::RoundSummary& summary) {
  if (summary.has_test_accuracy()) return summary.test_accuracy();
  if (summary.has_federated_test_accuracy()) return summary.federated_test_accuracy();
  return std::nullopt;
}

std::optional<Judgement> JudgementOf(const v1::JobSpec& spec, const v1::RoundSummary& summary) {
  if (!summary.has_main_metric()) return std::nullopt;
  return Judgement{ScoreName(spec), ScoreText(spec, summary.main_metric())};
}

bool HasBest(const v1::Job& job) { return job.best_round() > 0; }

bool TrainsSparse(const v1::RoundSummary& summary) {
  return summary.has_train_loss() && summary.dense_bytes() > 0 && summary.density() < 1;
}

int TotalRounds(const v1::Job& job) {
  // Coordinators of version 0.1 do not say it; their jobs have one run.
  return job.total_rounds() > 0 ? job.total_rounds() : job.spec().federation().rounds();
}

int Columns(const std::string& text) {
  int columns = 0;
  for (const char c : text) columns += IsContinuation(c) ? 0 : 1;
  return columns;
}

std::string FitTo(const std::string& text, int columns) {
  if (Columns(text) <= columns) return text;
  std::string fitted;
  int used = 0;
  for (const char c : text) {
    if (!IsContinuation(c) && ++used >= columns) break;
    fitted += c;
  }
  return fitted + "…";
}

}  // namespace espalier::cli

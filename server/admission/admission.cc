#include "server/admission/admission.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/config/text.h"

namespace espalier::server::admission {
namespace {

// The program, buffers of connections (common/rpc/server) and transfers in work.
constexpr double kProgramBytes = double{64 << 20};
// Parts of a price below this share are not worth a word.
constexpr double kSmallShare = 0.03;

std::string Amount(double bytes) {
  if (bytes < 1e6) return fmt::format("{:.1f} kB", bytes / 1e3);
  if (bytes < 1e9) return fmt::format("{:.1f} MB", bytes / 1e6);
  return fmt::format("{:.1f} GB", bytes / 1e9);
}

// Two digits of `value`, rounded down.
double RoundedDown(double value) {
  if (!(value > 0)) return 0;
  const double digit = std::pow(10.0, std::floor(std::log10(value)) - 1);
  return std::floor(value / digit) * digit;
}

std::string PartsOf(const Price& price) {
  std::vector<Part> parts = price.parts;
  std::ranges::sort(parts, [](const Part& a, const Part& b) { return a.bytes > b.bytes; });
  std::string text;
  for (const Part& part : parts) {
    if (part.bytes < kSmallShare * price.bytes) break;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", part.what, Amount(part.bytes));
  }
  return text;
}

// By how much what `is_scaled` says must shrink for the rest to fit; 0 when that does not suffice.
template <typename Predicate>
double FittingShare(const Price& price, double room, const Predicate& is_scaled) {
  double scaled = 0;
  for (const Part& part : price.parts) scaled += is_scaled(part) ? part.bytes : 0;
  if (scaled == 0) return 0;
  return std::clamp((room - (price.bytes - scaled)) / scaled, 0.0, 1.0);
}

// What would fit; "" when nothing of the kind would.
std::string Remedies(const v1::JobSpec& spec, const Price& price, double room) {
  std::vector<std::string> remedies;
  const double weights = price.stored_weights * FittingShare(price, room, [](const Part& part) {
                           return part.by_weights;
                         });
  const auto density = spec.method().parameters().find("density");
  const double dense = price.stored_weights - price.sparse_weights;
  if (density != spec.method().parameters().end() && density->second.double_value() > 0 &&
      weights > dense && price.sparse_weights > 0) {
    remedies.push_back(fmt::format(
        "method.parameters.density {:.2g}",
        RoundedDown(density->second.double_value() * (weights - dense) / price.sparse_weights)));
  } else if (weights >= 1) {
    remedies.push_back(fmt::format("{} stored weights",
                                   config::Grouped(static_cast<int64_t>(RoundedDown(weights)))));
  }
  const double shards =
      static_cast<double>(price.participants) *
      FittingShare(price, room, [](const Part& part) { return part.by_participants; });
  if (spec.data().partition().shards() > 1 && shards >= 1) {
    remedies.push_back(fmt::format("data.partition.shards {}",
                                   static_cast<int64_t>(std::max(1.0, RoundedDown(shards)))));
  }
  return config::Joined(remedies, " or ");
}

// What a job takes while it runs, beside its record.
double RunningBytes(const Price& price) {
  return price.bytes - price.record_bytes - price.history_bytes;
}

// Where to look first: at what takes most.
std::string FieldOf(const Price& price) {
  double weights = 0;
  double participants = 0;
  for (const Part& part : price.parts) {
    if (part.by_participants) participants += part.bytes;
    if (part.by_weights && !part.by_participants) weights += part.bytes;
  }
  if (participants > weights && participants > price.bytes / 2) return "data.partition.shards";
  return weights > price.bytes / 2 ? "model" : "federation.rounds";
}

}  // namespace

double Admission::Room() const { return budget_ - kProgramBytes - records_; }

std::optional<config::Violation> Admission::Refusal(const v1::JobSpec& spec,
                                                    const Price& price) const {
  const double room = Room();
  if (budget_ == 0 || price.bytes <= room) return std::nullopt;
  const std::string remedies = Remedies(spec, price, room);
  return config::Violation{
      FieldOf(price),
      fmt::format(
          "the job needs about {} of the coordinator's memory ({}), and {} of its budget of {} "
          "are left for jobs; {}start the coordinator with a larger --memory-budget",
          Amount(price.bytes), PartsOf(price), Amount(std::max(0.0, room)), Amount(budget_),
          remedies.empty() ? "use a smaller job, or " : "about " + remedies + " would fit; or ")};
}

void Admission::Enter(const std::string& job, const Price& price) {
  jobs_[job] = {.order = next_order_++, .price = price};
  records_ += price.record_bytes;
}

absl::StatusOr<std::string> Admission::MayBegin(const std::string& job, bool ready) {
  const auto it = jobs_.find(job);
  ESPALIER_CHECK(it != jobs_.end(), "a job enters before it asks");
  Entry& entry = it->second;
  if (!ready) {
    waiting_.erase(entry.order);
    return "";
  }
  const bool first = waiting_.empty() || *waiting_.begin() >= entry.order;
  const double needed = RunningBytes(entry.price);
  if (budget_ == 0 || (first && running_ + needed <= Room())) {
    waiting_.erase(entry.order);
    entry.running = true;
    running_ += needed;
    return "";
  }
  if (needed > Room()) {
    waiting_.erase(entry.order);
    return base::FailedPrecondition(
        "MEMORY_BUDGET_EXCEEDED",
        fmt::format(
            "the job fitted when it was submitted and waited for memory; it needs about {}, "
            "and what is kept of other jobs has grown to {} and leaves {} of the budget of "
            "{}, also when no job runs. Submit it again to a coordinator that has a larger "
            "--memory-budget",
            Amount(needed), Amount(records_), Amount(std::max(0.0, Room())), Amount(budget_)));
  }
  waiting_.insert(entry.order);
  if (!first) {
    return fmt::format("waiting for jobs before this one that wait for memory; it needs about {}",
                       Amount(entry.price.bytes));
  }
  return fmt::format(
      "waiting for about {} of memory: running jobs take {} of the {} that the coordinator has for "
      "jobs",
      Amount(needed), Amount(running_), Amount(std::max(0.0, Room())));
}

void Admission::Progress(const std::string& job, int32_t rounds) {
  const auto it = jobs_.find(job);
  ESPALIER_CHECK(it != jobs_.end(), "a job enters before it goes on");
  Entry& entry = it->second;
  records_ += RecordBytes(entry.price, rounds) - RecordBytes(entry.price, entry.rounds);
  entry.rounds = rounds;
}

void Admission::Leave(const std::string& job, bool stays) {
  const auto it = jobs_.find(job);
  ESPALIER_CHECK(it != jobs_.end(), "a job leaves once");
  const Entry& entry = it->second;
  waiting_.erase(entry.order);
  if (entry.running) running_ -= RunningBytes(entry.price);
  kept_[job] = RecordBytes(entry.price, entry.rounds);
  jobs_.erase(it);
  if (!stays) Forget(job);
}

void Admission::Forget(const std::string& job) {
  const auto it = kept_.find(job);
  if (it == kept_.end()) return;
  records_ -= it->second;
  kept_.erase(it);
}

}  // namespace espalier::server::admission

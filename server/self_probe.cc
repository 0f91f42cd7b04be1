#include "server/self_probe.h"

#include <utility>

#include "common/base/sleep.h"
#include "common/base/status.h"
#include "common/log/log.h"

namespace espalier::server {
namespace {

// How much longer than it should something may take on a busy machine before it counts as a pause.
constexpr absl::Duration kSlack = absl::Seconds(5);

}  // namespace

ProbeJudge::Verdict ProbeJudge::Judge(bool heard, absl::Duration began, absl::Duration ended) {
  const bool late = began - last_ended_ > options_.every + kSlack;
  const bool slow = ended - began > options_.limit + kSlack;
  last_ended_ = ended;
  if (heard) {
    heard_once_ = true;
    failed_ = 0;
    return Verdict::kHeard;
  }
  if (late || slow) failed_ = 0;
  if (slow) return Verdict::kPaused;
  if (!heard_once_) return Verdict::kNeverHeard;
  return ++failed_ >= options_.failures ? Verdict::kDead : Verdict::kFailed;
}

SelfProbe::SelfProbe(const SelfProbeOptions& options, std::function<absl::Status()> probe,
                     std::function<void(const absl::Status&)> dead, const base::Clock& clock,
                     metrics::Metrics& metrics)
    : options_(options),
      probe_(std::move(probe)),
      dead_(std::move(dead)),
      clock_(clock),
      metrics_(metrics),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

void SelfProbe::Run(const std::stop_token& stop) {
  using Verdict = ProbeJudge::Verdict;
  ProbeJudge judge(options_);
  bool told = false;
  while (base::SleepUnlessStopped(absl::ToChronoNanoseconds(options_.every), stop)) {
    const absl::Duration began = clock_.Elapsed();
    const absl::Status heard = probe_();
    const Verdict verdict = judge.Judge(heard.ok(), began, clock_.Elapsed());
    if (verdict == Verdict::kHeard) continue;
    metrics_.Add(metrics::Metric::kSelfProbeFailures, 1);
    // One that never succeeds would say the same every ten seconds.
    if (verdict != Verdict::kNeverHeard || !std::exchange(told, true)) {
      log::Warning("self_probe_failed",
                   {{"reason", base::ReasonOf(heard)}, {"message", base::MessageOf(heard)}});
    }
    if (verdict == Verdict::kDead) dead_(heard);
  }
}

}  // namespace espalier::server

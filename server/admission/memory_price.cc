#include "server/admission/memory_price.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "common/wire/compact_values.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/shapes.h"
#include "server/jobs/site_evaluations.h"

namespace espalier::server::admission {
namespace {

using A = v1::Aggregation;

// In double, whose products do not overflow.
constexpr double kFloat = sizeof(float);
// A participant of a step: its entry, its task in the queue and its lease.
constexpr double kParticipantBytes = 2048;
// A round in the event log, and in it each sparse tensor. In an answer that shows a history its
// last rounds take as much again while the answer is made, and what goes with each of their
// messages.
constexpr double kRoundBytes = 1024;
constexpr double kLayerBytes = 160;
constexpr double kHistoryFactor = 2.5;
constexpr int32_t kHistoryRounds = 1000;
// An update that was counted, remembered in case it is sent again.
constexpr double kUpdateBytes = 192;
constexpr double kRememberedUpdates = 4096;
// A job without any round.
constexpr double kJobBytes = 16 * 1024;
// What a site of local data found in an evaluation: in the last one, in the best, and while a round
// is in work; of so many sites.
constexpr double kSiteBytes = 3 * 192;
// The job as it was given, with defaults, in its program, in its step and in its tasks.
constexpr double kSpecCopies = 6;
// A correction, in a participant's entry, in what waits for a worker, and in the lease.
constexpr double kInlineCopies = 3;
// Weights that are chosen among others, while they are.
constexpr double kChoiceBytes = 32;

// What is counted from; in weights, positions, participants.
struct Sizes {
  double stored = 0;         // weights that the model has
  double sparse = 0;         // of these those in tensors with a structure
  double largest = 0;        // the most of these in one tensor
  double inactive = 0;       // positions in sparse tensors that store nothing
  double positions = 0;      // of all sparsifiable tensors
  double tensors = 0;        // that are sparsifiable
  double rows = 0;           // of sparse tensors
  int64_t participants = 0;  // in all
  int64_t cohort = 0;        // in one round
  double state = 0;          // optimizer state of a weight that crosses rounds, in values
  double moments = 0;        // of the server's optimizer, in values for each weight
};

double Moments(const A& aggregation) {
  switch (aggregation.server_optimizer()) {
    case A::SERVER_OPTIMIZER_MOMENTUM:
      return 1;
    case A::SERVER_OPTIMIZER_ADAM:
    case A::SERVER_OPTIMIZER_YOGI:
      return 2;
    default:
      return 0;
  }
}

Sizes SizesOf(const v1::JobSpec& spec, const tensor::ModelLayout& layout,
              const std::vector<int64_t>& stored, int64_t workers) {
  Sizes sizes;
  for (size_t i = 0; i < layout.size(); ++i) {
    const auto weights = static_cast<double>(stored[i]);
    const auto size = static_cast<double>(layout[i].size());
    sizes.stored += weights;
    if (!layout[i].sparsifiable) continue;
    ++sizes.tensors;
    sizes.positions += size;
    if (stored[i] == layout[i].size()) continue;
    sizes.sparse += weights;
    sizes.largest = std::max(sizes.largest, weights);
    sizes.inactive += size - weights;
    sizes.rows += static_cast<double>(layout[i].rows);
  }
  const v1::Federation& federation = spec.federation();
  const bool local = spec.data().partition().kind() == v1::Partition::KIND_LOCAL;
  sizes.participants = local ? std::max<int64_t>({1, federation.min_workers(), workers})
                             : std::max<int64_t>(1, spec.data().partition().shards());
  const int64_t cohort = federation.cohort_size();
  sizes.cohort = cohort == 0 ? sizes.participants : std::min(cohort, sizes.participants);
  v1::Task task;
  *task.mutable_train()->mutable_training() = spec.training();
  sizes.state = wire::ValuesPerWeight(task) - 1;
  sizes.moments = Moments(spec.aggregation());
  return sizes;
}

class Phase {
 public:
  void Add(std::string what, double bytes, bool by_weights, bool by_participants = false) {
    if (bytes > 0) parts_.push_back({std::move(what), bytes, by_weights, by_participants});
  }
  // That many models are side by side.
  void Multiply(double models) {
    for (Part& part : parts_) {
      part.bytes *= models;
      if (models > 1) part.what = fmt::format("{} models at once: {}", models, part.what);
    }
  }
  double total() const {
    return std::accumulate(parts_.begin(), parts_.end(), 0.0,
                           [](double sum, const Part& part) { return sum + part.bytes; });
  }
  std::vector<Part> Take() { return std::move(parts_); }

 private:
  std::vector<Part> parts_;
};

// Positions with a score of all updates of a round together.
double ScoredPositions(const Sizes& sizes, const methods::CoordinatorDemand& demand) {
  return std::min(sizes.inactive, static_cast<double>(sizes.cohort) * demand.candidates);
}

bool IsCompact(v1::Wire::Values values) { return wire::IsCompact(wire::SectionTypeOf(values)); }

// Control variates: one set of numbers each for all participants, and for those of a round their
// updates, what they are corrected by before and after, and what their variates become.
double VariateSets(const Sizes& sizes, bool next) {
  const bool carried = next && sizes.sparse > 0;  // to the next structure
  return static_cast<double>((carried ? 2 : 1) * (sizes.participants + 1) + 3 * sizes.cohort);
}

void AddAggregation(const v1::JobSpec& spec, const Sizes& sizes, double update_values, bool next,
                    Phase& phase) {
  const double set = kFloat * sizes.stored;
  const auto cohort = static_cast<double>(sizes.cohort);
  if (spec.training().control_variates()) {
    const bool in_tasks = set <= base::Limits().inline_bytes;
    const double sets = VariateSets(sizes, next) + (in_tasks ? kInlineCopies * cohort : 0);
    phase.Add(
        fmt::format("control variates of {} participants", config::Grouped(sizes.participants)),
        set * sets, true, true);
  }
  // What rounding left out, and while the next model is rounded what it was before.
  if (IsCompact(spec.wire().down())) {
    phase.Add("values in fewer bytes (wire.down)", set * (next ? 3 : 1), true);
  }
  if (sizes.moments > 0) {
    phase.Add("the server's optimizer", set * sizes.moments * (next ? 2 : 1), true);
  }
  if (next) return;
  if (spec.aggregation().rule() != A::RULE_MEAN &&
      spec.aggregation().rule() != A::RULE_UNSPECIFIED) {
    phase.Add(fmt::format("updates of {} participants, kept by aggregation.rule",
                          config::Grouped(sizes.cohort)),
              kFloat * update_values * cohort, true, true);
  }
  if (spec.aggregation().clip_norm() > 0) phase.Add("clipping", set, true);
  // The round's model, by which differences are told, and one update before and after decoding.
  if (IsCompact(spec.wire().up())) phase.Add("values from fewer bytes (wire.up)", 3 * set, true);
}

// The model that was committed last, with its structure: should the job fail, it becomes a checkpoint.
void AddNewestModel(const Sizes& sizes, Phase& phase) {
  phase.Add("the model of the round before, in case the job fails",
            kFloat * sizes.stored * (1 + sizes.state) + 2 * kFloat * (sizes.sparse + sizes.rows),
            true);
}

// While updates are summed.
Phase Summing(const v1::JobSpec& spec, const Sizes& sizes,
              const methods::CoordinatorDemand& demand) {
  Phase phase;
  const double model = kFloat * sizes.stored * (1 + sizes.state);
  const double update_values = sizes.stored * (1 + sizes.state) + demand.update_values;
  phase.Add("the model, and what is published of it", 2 * model, true);
  const bool keeps = spec.aggregation().rule() > A::RULE_MEAN;
  phase.Add("sums of updates, and their mean",
            (kFloat + (keeps ? 0 : demand.value_bytes)) * update_values, true);
  phase.Add("its structure", 2 * kFloat * (sizes.sparse + sizes.rows), true);
  phase.Add("scores of positions",
            demand.candidate_bytes * (keeps ? static_cast<double>(sizes.cohort) * demand.candidates
                                            : ScoredPositions(sizes, demand)),
            true);
  phase.Add("what was explored", sizes.positions / 8 * 2, false);
  AddNewestModel(sizes, phase);
  AddAggregation(spec, sizes, update_values, /*next=*/false, phase);
  return phase;
}

// While the next model is made, published and written.
Phase Changing(const v1::JobSpec& spec, const Sizes& sizes,
               const methods::CoordinatorDemand& demand) {
  Phase phase;
  const double model = kFloat * sizes.stored * (1 + sizes.state);
  phase.Add("the model before and after the round, what is published of both, and its checkpoint",
            5 * model, true);
  phase.Add("what is left of updates", kFloat * demand.update_values, true);
  phase.Add("its structure before and after",
            6 * kFloat * (sizes.sparse + sizes.rows) + 2 * sizeof(int64_t) * sizes.largest, true);
  phase.Add("the choice of weights", kChoiceBytes * demand.selected, true);
  phase.Add("scores of positions", 12 * ScoredPositions(sizes, demand), true);
  phase.Add("what was explored", sizes.positions / 8 * 5, false);
  AddNewestModel(sizes, phase);
  AddAggregation(spec, sizes, 0, /*next=*/true, phase);
  return phase;
}

}  // namespace

double RecordBytes(const Price& price, int32_t rounds) {
  const double updates = std::min(kRememberedUpdates, price.updates_per_round * rounds);
  return price.record_bytes + kUpdateBytes * updates +
         price.round_bytes * (rounds + kHistoryFactor * std::min(rounds, kHistoryRounds));
}

absl::StatusOr<Counts> CountsOf(const v1::JobSpec& spec, const methods::MethodRegistry& methods) {
  Counts counts;
  ESPALIER_ASSIGN_OR_RETURN(counts.demand, methods.DemandOf(spec));
  ESPALIER_ASSIGN_OR_RETURN(counts.layout, wire::LayoutOf(spec.model()));
  ESPALIER_ASSIGN_OR_RETURN(counts.stored, methods.StoredCounts(spec));
  counts.total_rounds = methods.TotalRounds(spec);
  return counts;
}

Price PriceOf(const v1::JobSpec& spec, const Counts& counts, int64_t workers) {
  const methods::CoordinatorDemand& demand = counts.demand;
  const Sizes sizes = SizesOf(spec, *counts.layout, counts.stored, workers);
  Phase summing = Summing(spec, sizes, demand);
  Phase changing = Changing(spec, sizes, demand);
  Phase phase = summing.total() >= changing.total() ? std::move(summing) : std::move(changing);
  phase.Multiply(demand.models);
  phase.Add("what the method keeps besides", demand.other_bytes, false);
  phase.Add(fmt::format("{} participants and their tasks", config::Grouped(sizes.participants)),
            kParticipantBytes * static_cast<double>(sizes.participants) * demand.steps, false,
            true);
  auto spec_bytes = static_cast<double>(spec.SpaceUsedLong());
  if (spec.data().normalization() == v1::DataSpec::NORMALIZATION_FEDERATED) {
    // channel_mean and channel_std are filled in later.
    spec_bytes +=
        2.0 * sizeof(double) * static_cast<double>(wire::InputShape(spec.model()).channels);
  }
  Price price;
  price.record_bytes = kJobBytes + spec_bytes;
  if (spec.data().partition().kind() == v1::Partition::KIND_LOCAL) {
    price.record_bytes +=
        kSiteBytes * static_cast<double>(std::min<int64_t>(sizes.participants, jobs::kMostSites));
  }
  price.round_bytes = kRoundBytes + kLayerBytes * sizes.tensors;
  price.updates_per_round = static_cast<double>(sizes.cohort);
  const int32_t rounds = counts.total_rounds;
  price.history_bytes = RecordBytes(price, rounds) - price.record_bytes;
  phase.Add("the job itself", price.record_bytes + kSpecCopies * spec_bytes, false);
  phase.Add(fmt::format("what is kept of {} rounds", config::Grouped(rounds)), price.history_bytes,
            false);
  price.bytes = phase.total();
  price.parts = phase.Take();
  price.stored_weights = sizes.stored;
  price.sparse_weights = sizes.sparse;
  price.participants = sizes.participants;
  return price;
}

}  // namespace espalier::server::admission

#include "common/wire/model_spec/result_sections.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "common/base/status.h"
#include "common/sparsity/pruning/activation_statistics.h"
#include "common/wire/compact_values.h"
#include "common/wire/model_spec/evaluation_counts.h"
#include "common/wire/model_spec/families/model_family.h"
#include "common/wire/model_spec/frozen.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/model_spec/transformer.h"

namespace espalier::wire {
namespace {

using Range = ResultLayout::Range;
using Addition = v1::TrainAddition;

// Room for the message around a list of scores or positions.
constexpr uint64_t kOverhead = 64;
// A position takes at most 8 bytes, a score 4 more.
constexpr uint64_t kPositionBytes = 8;
constexpr uint64_t kScoreBytes = 12;
// Of a channel or column: mean and mean square, each as it is and divided (ChannelStatisticsTask).
constexpr int64_t kStatisticsOfChannel = 4;

v1::Section& Add(v1::SectionKind kind, v1::SectionType type, uint64_t count, uint64_t bytes,
                 Sections& sections) {
  v1::Section& section = *sections.Add();
  section.set_kind(kind);
  section.set_type(type);
  section.set_count(count);
  section.set_bytes(bytes);
  return section;
}

v1::Section& AddFloats(v1::SectionKind kind, int64_t count, Sections& sections) {
  return Add(kind, v1::SECTION_TYPE_F32, static_cast<uint64_t>(count),
             static_cast<uint64_t>(count) * sizeof(float), sections);
}

int64_t Inactive(const tensor::ModelTopology& model, size_t tensor) {
  return model.is_sparse(tensor) ? model.topology(tensor).size() - model.stored(tensor) : 0;
}

void AddScores(const v1::Task& task, const tensor::ModelTopology& topology, Sections& sections) {
  const std::vector<int64_t> asked = AskedScores(task, topology);
  if (asked.empty()) return;
  uint64_t bytes = kOverhead;
  for (const int64_t count : asked) bytes += kOverhead + kScoreBytes * static_cast<uint64_t>(count);
  v1::Section& section =
      Add(v1::SECTION_KIND_GROWTH, v1::SECTION_TYPE_SCORES,
          static_cast<uint64_t>(std::accumulate(asked.begin(), asked.end(), int64_t{0})), bytes,
          sections);
  for (size_t i = 0; i < asked.size(); ++i) {
    if (asked[i] > 0) section.add_tensors(static_cast<uint32_t>(i));
  }
}

void AddStructure(const v1::Readjustment& readjustment, Sections& sections) {
  uint64_t changed = 0;
  uint64_t bytes = 4 * kOverhead;  // two hashes
  for (const int64_t count : readjustment.counts()) {
    changed += static_cast<uint64_t>(count);
    bytes += 2 * (kOverhead + kPositionBytes * static_cast<uint64_t>(count));
  }
  v1::Section& section =
      Add(v1::SECTION_KIND_STRUCTURE, v1::SECTION_TYPE_TOPOLOGY_UPDATE, changed, bytes, sections);
  for (int i = 0; i < readjustment.counts_size(); ++i) {
    if (readjustment.counts(i) > 0) section.add_tensors(static_cast<uint32_t>(i));
  }
}

void AddTraining(const v1::Task& task, const tensor::ModelTopology& topology, v1::SectionType up,
                 Sections& sections) {
  const v1::TrainTask& train = task.train();
  const int64_t stored = topology.total_stored();
  const int64_t learned = LearnedPart(train.training(), topology).stored();
  if (IsCompact(up)) {
    Add(v1::SECTION_KIND_DIFFERENCES, up, static_cast<uint64_t>(stored), CompactBytes(topology, up),
        sections);
  } else {
    AddFloats(v1::SECTION_KIND_VALUES, learned, sections);
  }
  if (const int slots = CarriedSlots(task); slots > 0) {
    AddFloats(v1::SECTION_KIND_OPTIMIZER_STATE, slots * learned, sections);
  }
  if (AdditionOf(train, Addition::kGrowth).growth().active()) {
    AddFloats(v1::SECTION_KIND_GRADIENTS, stored, sections);
  }
  if (HasAddition(train, Addition::kImportance)) {
    AddFloats(v1::SECTION_KIND_IMPORTANCE, topology.total_size(), sections);
  }
  AddScores(task, topology, sections);
  if (HasAddition(train, Addition::kReadjustment)) {
    AddStructure(AdditionOf(train, Addition::kReadjustment).readjustment(), sections);
  }
}

// Floats of the tensors for which `is_meant`.
template <typename IsMeant, typename SizeOf>
void AddTensors(v1::SectionKind kind, const tensor::ModelTopology& topology, IsMeant is_meant,
                SizeOf size_of, Sections& sections) {
  v1::Section& section = AddFloats(kind, 0, sections);
  uint64_t count = 0;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!is_meant(topology.layout()[i])) continue;
    section.add_tensors(static_cast<uint32_t>(i));
    count += static_cast<uint64_t>(size_of(i));
  }
  section.set_count(count);
  section.set_bytes(count * sizeof(float));
}

void AddActivationStatistics(const v1::ActivationStatisticsTask& task, Sections& sections) {
  uint64_t bytes = 0;
  for (const auto& input : task.inputs()) {
    bytes += sparsity::ActivationStatistics::EncodedBytes(input.columns(), input.gram());
  }
  Add(v1::SECTION_KIND_ACTIVATION_STATISTICS, v1::SECTION_TYPE_EXACT_SUMS,
      static_cast<uint64_t>(task.inputs_size()), bytes, sections);
}

// The running variances of a model's batch norms, among the values that begin at `begin`: those of
// its learned part, or without one its running statistics alone. Of each batch norm the mean comes
// first.
void AddVariances(const tensor::ModelTopology& topology, const LearnedPart* learned, int64_t begin,
                  std::vector<Range>& ranges) {
  int64_t statistics = 0;
  bool is_variance = false;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!topology.layout()[i].buffer) continue;
    const int64_t at = begin + (learned == nullptr ? statistics : learned->offset(i));
    if (is_variance) ranges.push_back({at, at + topology.stored(i)});
    statistics += topology.stored(i);
    is_variance = !is_variance;
  }
}

// The weights among a model's learned values, which begin at `begin`.
void AddWeights(const tensor::ModelTopology& topology, const v1::Training& training,
                const LearnedPart& learned, int64_t begin, std::vector<Range>& ranges) {
  const std::vector<bool> frozen = FrozenTensors(training, topology.layout());
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (frozen[i] || topology.layout()[i].buffer) continue;
    const int64_t first = begin + learned.offset(i);
    ranges.push_back({first, first + topology.stored(i)});
  }
}

void AddNotNegative(const ResultLayout::Part& part, const tensor::ModelTopology& topology,
                    const LearnedPart& learned, std::vector<Range>& ranges) {
  const auto [begin, end] = part.range;
  switch (part.kind) {
    case v1::SECTION_KIND_VALUES:
      AddVariances(topology, &learned, begin, ranges);
      return;
    case v1::SECTION_KIND_RUNNING_STATISTICS:
      AddVariances(topology, nullptr, begin, ranges);
      return;
    case v1::SECTION_KIND_OPTIMIZER_STATE:
      // Adam's second moments are means of squares.
      if (part.range.size() > learned.stored()) {
        ranges.push_back({begin + learned.stored(), end});
      }
      return;
    case v1::SECTION_KIND_CHANNEL_STATISTICS:
      ranges.push_back({begin + part.range.size() / 2, end});
      return;
    case v1::SECTION_KIND_IMPORTANCE:
      ranges.push_back(part.range);
      return;
    default:
      return;
  }
}

std::string NameOf(v1::SectionKind kind) {
  const std::string name = v1::SectionKind_Name(kind);
  return name.empty() ? std::to_string(static_cast<int>(kind)) : name;
}

bool HasFixedLength(v1::SectionType type) {
  return type == v1::SECTION_TYPE_F32 || type == v1::SECTION_TYPE_EXACT_SUMS ||
         type == v1::SECTION_TYPE_I64 || IsCompact(type);
}

absl::Status CheckSection(const v1::Section& asked, const v1::Section& found) {
  if (found.kind() != asked.kind() || found.type() != asked.type()) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH", fmt::format("expected a section {} of type {}, found {} of type {}",
                                      NameOf(asked.kind()), static_cast<int>(asked.type()),
                                      NameOf(found.kind()), static_cast<int>(found.type())));
  }
  const bool exact = HasFixedLength(asked.type());
  const bool fits = exact ? found.count() == asked.count() && found.bytes() == asked.bytes()
                          : found.count() <= asked.count() && found.bytes() <= asked.bytes();
  if (fits) return absl::OkStatus();
  return base::InvalidArgument(
      "SHAPE_MISMATCH",
      fmt::format("expected {}{} elements in {} bytes in the section {}, found {} in {}",
                  exact ? "" : "at most ", asked.count(), asked.bytes(), NameOf(asked.kind()),
                  found.count(), found.bytes()));
}

}  // namespace

std::vector<int64_t> AskedScores(const v1::Task& task, const tensor::ModelTopology& topology) {
  if (task.has_train()) {
    const auto& counts = AdditionOf(task.train(), Addition::kGrowth).growth().counts();
    std::vector<int64_t> asked(counts.begin(), counts.end());
    if (!asked.empty()) asked.resize(topology.num_tensors(), 0);
    return asked;
  }
  if (!task.has_growth()) return {};
  const v1::GrowthTask& growth = task.growth();
  std::vector<int64_t> asked(topology.num_tensors(), 0);
  for (size_t i = 0; i < asked.size(); ++i) {
    const int index = static_cast<int>(i);
    const bool open = index < growth.thresholds_size() && growth.thresholds(index) > 0;
    if (index < growth.counts_size()) asked[i] += growth.counts(index);
    if (index < growth.positions_size()) {
      asked[i] += static_cast<int64_t>(growth.positions(index).count());
    }
    asked[i] = open ? Inactive(topology, i) : std::min(asked[i], Inactive(topology, i));
  }
  return asked;
}

Sections SectionsOf(const v1::Task& task, const tensor::ModelTopology& topology,
                    v1::SectionType up) {
  Sections sections;
  switch (task.kind_case()) {
    case v1::Task::kTrain:
      AddTraining(task, topology, up, sections);
      break;
    case v1::Task::kEcho:
      AddFloats(v1::SECTION_KIND_VALUES, topology.total_stored(), sections);
      break;
    case v1::Task::kCalibrate:
      AddTensors(
          v1::SECTION_KIND_RUNNING_STATISTICS, topology,
          [](const tensor::TensorSpec& tensor) { return tensor.buffer; },
          [&](size_t i) { return topology.stored(i); }, sections);
      break;
    case v1::Task::kScore:
      AddTensors(
          v1::SECTION_KIND_SALIENCIES, topology,
          [](const tensor::TensorSpec& tensor) { return tensor.sparsifiable; },
          [&](size_t i) { return topology.layout()[i].size(); }, sections);
      break;
    case v1::Task::kChannelStatistics:
      AddFloats(v1::SECTION_KIND_CHANNEL_STATISTICS,
                kStatisticsOfChannel * InputShape(task.model().spec()).channels, sections);
      break;
    case v1::Task::kActivationStatistics:
      AddActivationStatistics(task.activation_statistics(), sections);
      break;
    case v1::Task::kGrowth:
      AddScores(task, topology, sections);
      break;
    case v1::Task::kPredict: {
      const v1::ModelSpec& model = task.model().spec();
      AddFloats(v1::SECTION_KIND_PREDICTIONS,
                task.predict().examples().examples_size() * FamilyOf(model).Outputs(model),
                sections);
      break;
    }
    case v1::Task::kEvaluate:
      if (const int64_t counts = EvaluationCounts(task.evaluate(), LearnsClass(task.data()),
                                                  ClassesOf(task.model().spec()));
          counts > 0) {
        Add(v1::SECTION_KIND_COUNTS, v1::SECTION_TYPE_I64, static_cast<uint64_t>(counts),
            static_cast<uint64_t>(counts) * sizeof(int64_t), sections);
      }
      break;
    case v1::Task::kRecommend:
    case v1::Task::KIND_NOT_SET:
      break;
  }
  return sections;
}

absl::Status CheckSections(const Sections& asked, const Sections& found, uint64_t body_bytes) {
  if (found.size() != asked.size()) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("expected a result of {} sections, found {}", asked.size(), found.size()));
  }
  uint64_t bytes = 0;
  for (int i = 0; i < asked.size(); ++i) {
    ESPALIER_RETURN_IF_ERROR(CheckSection(asked[i], found[i]));
    bytes += found[i].bytes();
  }
  if (bytes == body_bytes) return absl::OkStatus();
  return base::InvalidArgument(
      "SHAPE_MISMATCH",
      fmt::format("expected a body of {} bytes, as long as its sections, found {}", bytes,
                  body_bytes));
}

Range ResultLayout::Of(v1::SectionKind kind) const {
  const auto part = std::ranges::find(parts, kind, &Part::kind);
  return part == parts.end() ? Range{} : part->range;
}

ResultLayout ResultLayoutOf(const v1::Task& task, const tensor::ModelTopology& topology) {
  ResultLayout layout;
  const LearnedPart learned(task.train().training(), topology);
  for (const v1::Section& section : SectionsOf(task, topology)) {
    if (section.type() != v1::SECTION_TYPE_F32) continue;
    const int64_t begin = layout.values;
    layout.values += static_cast<int64_t>(section.count());
    layout.parts.push_back({section.kind(), {begin, layout.values}});
    if (section.kind() == v1::SECTION_KIND_VALUES) {
      AddWeights(topology, task.train().training(), learned, begin, layout.weights);
    }
    AddNotNegative(layout.parts.back(), topology, learned, layout.not_negative);
  }
  return layout;
}

}  // namespace espalier::wire

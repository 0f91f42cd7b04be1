#include "server/round/upload.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/wire/compact_values.h"
#include "common/wire/model_spec/result_sections.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"

namespace espalier::server::round {
namespace {

using Addition = v1::TrainAddition;
using FloatSink = std::function<absl::Status(std::span<const float>)>;

static_assert(std::endian::native == std::endian::little);

absl::Status Invalid(const std::string& what) {
  return base::InvalidArgument("READJUSTMENT_INVALID", "changed structure refused: " + what);
}

// Weights of `updated` that `base` does not have.
int64_t CountGrown(const tensor::Topology& base, const tensor::Topology& updated) {
  const std::vector<int32_t> source = tensor::SourceIndices(base, updated);
  return std::ranges::count(source, -1);
}

absl::Status AddStructure(const v1::Readjustment& asked, const tensor::ModelTopology& model,
                          std::string_view bytes, reduce::Partial& partial) {
  v1::TopologyUpdate update;
  if (bytes.size() > std::numeric_limits<int>::max() ||
      !update.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Invalid("expected a TopologyUpdate, found other bytes");
  }
  auto applied = wire::ApplyTopologyUpdate(model, update, model.sparsifiable_stored());
  if (!applied.ok()) {
    const std::string reason = base::ReasonOf(applied.status());
    const bool known = reason == "TOPOLOGY_HASH_MISMATCH" || reason == "TOPOLOGY_INVALID" ||
                       reason == "INDEX_SET_INVALID";
    return known ? applied.status() : Invalid(base::MessageOf(applied.status()));
  }
  partial.topology = *std::move(applied);
  for (size_t i = 0; i < model.num_tensors(); ++i) {
    if (!model.is_sparse(i)) continue;
    const std::string& name = model.layout()[i].name;
    const tensor::Topology& updated = partial.topology->topology(i);
    if (updated.nnz() != model.stored(i)) {
      return Invalid(fmt::format("{}: expected {} active weights, found {}", name, model.stored(i),
                                 updated.nnz()));
    }
    const int64_t wanted =
        static_cast<int>(i) < asked.counts_size() ? asked.counts(static_cast<int>(i)) : 0;
    const int64_t grown = CountGrown(model.topology(i), updated);
    if (grown != wanted) {
      return Invalid(
          fmt::format("{}: expected {} weights in new places, found {}", name, wanted, grown));
    }
  }
  return absl::OkStatus();
}

// The float32 in a range of a body. Pieces need not end where a number does.
absl::Status ForEachFloats(const Body& body, uint64_t offset, uint64_t bytes,
                           const FloatSink& sink) {
  std::string rest;
  std::vector<float> block;
  return body(offset, bytes, [&](std::string_view piece) -> absl::Status {
    const bool in_place = rest.empty() && piece.size() % sizeof(float) == 0 &&
                          reinterpret_cast<uintptr_t>(piece.data()) % alignof(float) == 0;
    if (in_place) {
      return sink({reinterpret_cast<const float*>(piece.data()), piece.size() / sizeof(float)});
    }
    rest += piece;
    block.resize(rest.size() / sizeof(float));
    if (block.empty()) return absl::OkStatus();
    std::memcpy(block.data(), rest.data(), block.size() * sizeof(float));
    rest.erase(0, block.size() * sizeof(float));
    return sink(block);
  });
}

absl::StatusOr<std::string> ReadBytes(const Body& body, uint64_t offset, uint64_t size) {
  std::string bytes;
  ESPALIER_RETURN_IF_ERROR(body(offset, size, [&bytes](std::string_view piece) {
    bytes += piece;
    return absl::OkStatus();
  }));
  return bytes;
}

// Differences as the values that they stand for. They come before everything else.
absl::Status AddDifferences(const tensor::ModelTopology& model, std::span<const float> start,
                            const v1::Section& section, const Upload& upload,
                            const reduce::Partial& partial, const FloatSink& sink) {
  std::vector<float> moved;
  const tensor::ModelTopology* topology = &model;
  if (partial.topology != nullptr) {
    topology = partial.topology.get();
    moved = tensor::RelayoutSet(model, start, *topology);
    start = moved;
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes, ReadBytes(upload.body, 0, section.bytes()));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<float> values,
                            wire::DecodeDifferences(*topology, section.type(), bytes, start));
  return sink(values);
}

// All sections of float32, one after the other.
reduce::ValueSource FloatsOf(const Upload& upload) {
  struct Range {
    uint64_t offset;
    uint64_t bytes;
  };
  std::vector<Range> ranges;
  uint64_t offset = 0;
  for (const v1::Section& section : upload.header.sections()) {
    if (section.type() == v1::SECTION_TYPE_F32) ranges.push_back({offset, section.bytes()});
    offset += section.bytes();
  }
  return [body = upload.body, ranges = std::move(ranges)](const FloatSink& sink) -> absl::Status {
    for (const Range& range : ranges) {
      ESPALIER_RETURN_IF_ERROR(ForEachFloats(body, range.offset, range.bytes, sink));
    }
    return absl::OkStatus();
  };
}

absl::Status AddScores(const v1::Task& task, const tensor::ModelTopology& model,
                       const v1::Section& section, std::string_view bytes,
                       reduce::Partial& partial) {
  const std::vector<int64_t> asked = wire::AskedScores(task, model);
  ESPALIER_ASSIGN_OR_RETURN(auto lists, wire::DecodeScores(bytes, model.layout(), asked));
  uint64_t count = 0;
  for (wire::TensorScores& list : lists) {
    count += list.positions.size();
    partial.scores.push_back({std::move(list.positions), std::move(list.values)});
  }
  if (count == section.count()) return absl::OkStatus();
  return base::InvalidArgument(
      "SCORES_INVALID",
      fmt::format("expected {} scores, as the section says, found {}", section.count(), count));
}

// How many examples something was true of: never more than there are.
absl::Status AddCounts(std::string_view bytes, reduce::Partial& partial) {
  partial.counts.resize(bytes.size() / sizeof(int64_t));
  std::memcpy(partial.counts.data(), bytes.data(), partial.counts.size() * sizeof(int64_t));
  for (const int64_t count : partial.counts) {
    if (count >= 0 && count <= partial.examples) continue;
    return base::InvalidArgument(
        "VALUE_IMPOSSIBLE",
        fmt::format("expected counts of 0 to {} examples, found {}", partial.examples, count));
  }
  return absl::OkStatus();
}

bool HoldsValues(const v1::Section& section) {
  return section.type() == v1::SECTION_TYPE_F32 || wire::IsCompact(section.type());
}

}  // namespace

absl::Status RoundClosed() {
  return base::MakeError(absl::StatusCode::kAborted, "ROUND_CLOSED",
                         "the task is not in work any more; discard the result");
}

int64_t ValuesCount(const wire::Sections& sections) {
  uint64_t count = 0;
  for (const v1::Section& section : sections) {
    if (HoldsValues(section)) count += section.count();
  }
  return static_cast<int64_t>(count);
}

int64_t ValuesBytes(const wire::Sections& sections) {
  uint64_t bytes = 0;
  for (const v1::Section& section : sections) {
    if (HoldsValues(section)) bytes += section.bytes();
  }
  return static_cast<int64_t>(bytes);
}

absl::Status ReadSections(const v1::Task& task, const tensor::ModelTopology& model,
                          std::span<const float> start, const Upload& upload,
                          reduce::Partial& partial) {
  partial.values_count = ValuesCount(upload.header.sections());
  if (partial.values_count > 0) partial.values = FloatsOf(upload);
  uint64_t offset = 0;
  for (const v1::Section& section : upload.header.sections()) {
    const uint64_t begin = std::exchange(offset, offset + section.bytes());
    switch (section.type()) {
      case v1::SECTION_TYPE_F32:
        break;
      case v1::SECTION_TYPE_BF16:
      case v1::SECTION_TYPE_INT8:
        partial.values = [&model, start, section, upload, &partial,
                          floats = FloatsOf(upload)](const FloatSink& sink) -> absl::Status {
          ESPALIER_RETURN_IF_ERROR(AddDifferences(model, start, section, upload, partial, sink));
          return floats(sink);
        };
        break;
      case v1::SECTION_TYPE_EXACT_SUMS:
        partial.statistics = [body = upload.body, begin, size = section.bytes()](const auto& sink) {
          return body(begin, size, sink);
        };
        break;
      case v1::SECTION_TYPE_SCORES: {
        ESPALIER_ASSIGN_OR_RETURN(const std::string bytes,
                                  ReadBytes(upload.body, begin, section.bytes()));
        ESPALIER_RETURN_IF_ERROR(AddScores(task, model, section, bytes, partial));
        break;
      }
      case v1::SECTION_TYPE_TOPOLOGY_UPDATE: {
        ESPALIER_ASSIGN_OR_RETURN(const std::string bytes,
                                  ReadBytes(upload.body, begin, section.bytes()));
        const v1::TrainAddition& asked = wire::AdditionOf(task.train(), Addition::kReadjustment);
        ESPALIER_RETURN_IF_ERROR(AddStructure(asked.readjustment(), model, bytes, partial));
        break;
      }
      case v1::SECTION_TYPE_I64: {
        ESPALIER_ASSIGN_OR_RETURN(const std::string bytes,
                                  ReadBytes(upload.body, begin, section.bytes()));
        ESPALIER_RETURN_IF_ERROR(AddCounts(bytes, partial));
        break;
      }
      default:
        return base::InvalidArgument("SHAPE_MISMATCH",
                                     "expected a known type of section, found another");
    }
  }
  return absl::OkStatus();
}

}  // namespace espalier::server::round

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "common/io/sha256.h"
#include "common/wire/blob.h"
#include "common/wire/compact_values.h"
#include "common/wire/index_set.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"
#include "tests/fuzz/result_tasks.h"
#include "tests/fuzz/seeds/seeds.h"
#include "tests/fuzz/small_model.h"

namespace espalier::fuzz {
namespace {

void AddIndexSets(const Seeds& seeds) {
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < 200; ++i) indices.push_back(i * 7 + i % 5);
  const std::vector<int64_t> few = {3, 1'000'000, int64_t{1} << 40};
  for (const auto encoding : {wire::IndexEncoding::kBitmap, wire::IndexEncoding::kEliasFano,
                              wire::IndexEncoding::kRice}) {
    const std::string name = std::to_string(static_cast<int>(encoding));
    seeds.Add("index_set", "many-" + name,
              wire::EncodeIndexSetAs(encoding, indices, 2000).SerializeAsString());
    if (encoding == wire::IndexEncoding::kBitmap) continue;
    seeds.Add("index_set", "few-" + name,
              wire::EncodeIndexSetAs(encoding, few, uint64_t{1} << 41).SerializeAsString());
  }
  seeds.Add("index_set", "none", wire::EncodeIndexSet({}, 0).SerializeAsString());
}

// The change that drops two weights of the first tensor and grows two.
v1::TopologyUpdate SmallUpdate() {
  const auto& base = *SmallStructure();
  const tensor::TopologyDiff diff{{1, 4}, {4, 21}};
  auto changed = tensor::Apply(base.topology(0), diff);
  ESPALIER_CHECK(changed.ok(), "the change fits");
  auto updated = tensor::ModelTopology::Create(
      base.shared_layout(),
      {std::make_shared<const tensor::Topology>(*std::move(changed)), nullptr, nullptr, nullptr});
  ESPALIER_CHECK(updated.ok(), "the structure fits");
  auto update =
      wire::EncodeTopologyUpdate(base, *updated, std::vector<wire::TensorChange>{{0, diff, {}}});
  ESPALIER_CHECK(update.ok(), "the change can be encoded");
  return *std::move(update);
}

void AddTopologies(const Seeds& seeds) {
  auto whole = wire::EncodeTopology(*SmallStructure());
  ESPALIER_CHECK(whole.ok(), "the structure can be encoded");
  v1::FullTopology seeded = *whole;
  v1::SeededPositions& drawn = *seeded.mutable_tensors(0)->mutable_seeded();
  drawn.set_key(5);
  drawn.set_count(7);
  v1::TopologyUpdate update = SmallUpdate();
  v1::TopologyUpdate grown = update;
  grown.mutable_tensors(0)->mutable_seeded()->set_key(9);
  grown.mutable_tensors(0)->mutable_seeded()->set_count(2);
  for (const int honest : {0, 1}) {
    const std::string name = std::to_string(honest);
    seeds.Add("topology", "whole-" + name, Chosen(honest) + whole->SerializeAsString());
    seeds.Add("topology", "drawn-" + name, Chosen(honest) + seeded.SerializeAsString());
    seeds.Add("topology", "update-" + name, Chosen(2 + honest) + update.SerializeAsString());
    seeds.Add("topology", "grown-" + name, Chosen(2 + honest) + grown.SerializeAsString());
  }
}

void AddChunks(const Seeds& seeds) {
  const std::string blob(40, 'b');
  for (const int honest : {0, 1}) {
    std::string input = Chosen(0, honest, blob.size() / 4) + AsPart(io::Sha256Hex(blob));
    for (uint64_t offset = 0; offset < blob.size(); offset += 16) {
      v1::SubmitRequest message;
      *message.mutable_chunk() = wire::ChunkAt(blob, offset, 16);
      input += AsPart(message.SerializeAsString());
    }
    seeds.Add("chunks", "received-" + std::to_string(honest), input);
  }
  seeds.Add("chunks", "cut", Chosen(1, 6) + blob);
}

// A body of `task`'s sections.
std::string BodyOf(const ResultTask& task) {
  std::string body;
  for (const v1::Section& section : task.sections) {
    if (section.type() == v1::SECTION_TYPE_F32) {
      const std::vector<float> values(section.count(), 0.25F);
      body += wire::ValuesAsBytes(values);
    } else if (section.type() == v1::SECTION_TYPE_SCORES) {
      std::vector<wire::TensorScores> scores(SmallStructure()->num_tensors());
      scores[0] = {{1, 2}, {0.5F, -0.5F}};
      body += wire::EncodeScores(scores, SmallStructure()->layout());
    } else if (section.type() == v1::SECTION_TYPE_TOPOLOGY_UPDATE) {
      body += SmallUpdate().SerializeAsString();
    } else if (section.type() == v1::SECTION_TYPE_EXACT_SUMS) {
      sparsity::ActivationStatistics first(3, true);
      const std::vector<float> inputs = {1, 2, 3, 4, 5, 6};
      ESPALIER_CHECK(first.AddSequence(inputs.data(), 2, 2).ok(), "inputs can be summed");
      first.AppendTo(body);
      sparsity::ActivationStatistics second(2, false);
      ESPALIER_CHECK(second.AddSequence(inputs.data(), 2, 2).ok(), "inputs can be summed");
      second.AppendTo(body);
    } else {
      body += std::string(section.bytes(), '\0');
    }
  }
  return body;
}

void AddResults(const Seeds& seeds) {
  int index = 0;
  for (const ResultTask& task : ResultTasks()) {
    v1::PartialHeader header;
    header.set_update_id("u");
    header.set_examples(1);
    header.set_loss_sum(1.5);
    header.set_correct(1);
    header.set_steps(3);
    const std::string body = BodyOf(task);
    uint64_t known = 0;
    for (v1::Section section : task.sections) {
      if (section.type() == v1::SECTION_TYPE_SCORES) section.set_count(2);
      *header.add_sections() = section;
      known += section.bytes();
    }
    // Only the last section may be shorter than it was asked for.
    if (header.sections_size() > 0) {
      v1::Section& last = *header.mutable_sections(header.sections_size() - 1);
      last.set_bytes(last.bytes() + body.size() - known);
    }
    const std::string name = std::to_string(index);
    for (const int honest : {0, 1}) {
      seeds.Add("sections", name + "-" + std::to_string(honest),
                Chosen(index, honest, 15) + AsPart(header.SerializeAsString()) + body);
    }
    ++index;
  }
}

}  // namespace

void AddWireSeeds(const Seeds& seeds) {
  AddIndexSets(seeds);
  AddTopologies(seeds);
  AddChunks(seeds);
  AddResults(seeds);
}

}  // namespace espalier::fuzz

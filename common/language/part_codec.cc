#include "common/language/part_codec.h"

#include <fmt/core.h>

#include <bit>
#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "common/wire/values_codec.h"

namespace espalier::language {
namespace {

static_assert(std::endian::native == std::endian::little,
              "bytes are written as they lie in memory");

constexpr std::string_view kMagic = "ESPPART1";

absl::Status Invalid(std::string_view what) {
  return base::InvalidArgument(
      "PART_INVALID",
      fmt::format(
          "expected a part of the task's model, found {}; coordinator and worker must be of "
          "one version",
          what));
}

template <typename T>
void Put(const std::vector<T>& values, std::string& bytes) {
  const uint64_t count = values.size();
  bytes.append(reinterpret_cast<const char*>(&count), sizeof(count));
  bytes.append(reinterpret_cast<const char*>(values.data()), count * sizeof(T));
}

std::vector<uint8_t> BitmapOf(const tensor::Topology& topology) {
  std::vector<uint8_t> bitmap((topology.size() + 7) / 8);
  for (const int64_t position : topology.Positions()) {
    bitmap[position / 8] |= static_cast<uint8_t>(1U << (position % 8));
  }
  return bitmap;
}

absl::StatusOr<std::shared_ptr<const tensor::Topology>> TopologyOf(
    const std::vector<uint8_t>& bitmap, const LinearLayerSpec& spec) {
  const int64_t size = spec.outputs * spec.inputs;
  if (static_cast<int64_t>(bitmap.size()) != (size + 7) / 8)
    return Invalid("a bitmap of other size");
  std::vector<int64_t> positions;
  for (int64_t k = 0; k < size; ++k) {
    if ((bitmap[k / 8] >> (k % 8) & 1) != 0) positions.push_back(k);
  }
  ESPALIER_ASSIGN_OR_RETURN(tensor::Topology topology,
                            tensor::Topology::FromPositions(spec.outputs, spec.inputs, positions));
  return std::make_shared<const tensor::Topology>(std::move(topology));
}

// Remembers the first thing that is wrong.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {
    if (!rest_.starts_with(kMagic)) {
      status_ = Invalid("other bytes");
      return;
    }
    rest_.remove_prefix(kMagic.size());
  }

  template <typename T>
  std::vector<T> Get() {
    uint64_t count = 0;
    if (!status_.ok() || rest_.size() < sizeof(count)) return Truncated<T>();
    std::memcpy(&count, rest_.data(), sizeof(count));
    rest_.remove_prefix(sizeof(count));
    if (count > rest_.size() / sizeof(T)) return Truncated<T>();
    std::vector<T> values(count);
    if (count > 0) std::memcpy(values.data(), rest_.data(), count * sizeof(T));
    rest_.remove_prefix(count * sizeof(T));
    return values;
  }
  // Exactly `expected` finite values, or none at all where that is allowed.
  std::vector<float> Floats(int64_t expected, std::string_view what, bool may_lack = false) {
    std::vector<float> values = Get<float>();
    const auto found = static_cast<int64_t>(values.size());
    if (found != expected && !(may_lack && found == 0)) {
      Fail(fmt::format("{} values of {} instead of {}", found, what, expected));
    } else if (!wire::AllFinite(values)) {
      Fail(fmt::format("a value of {} that is not finite", what));
    }
    return values;
  }
  bool Flag() {
    if (!status_.ok() || rest_.empty()) {
      Fail("an early end");
      return false;
    }
    const char flag = rest_.front();
    rest_.remove_prefix(1);
    return flag != 0;
  }
  void Fail(std::string_view what) {
    if (status_.ok()) status_ = Invalid(what);
  }
  absl::Status Finish() {
    if (!rest_.empty()) Fail("bytes after its end");
    return status_;
  }
  bool ok() const { return status_.ok(); }

 private:
  template <typename T>
  std::vector<T> Truncated() {
    Fail("an early end");
    return {};
  }
  std::string_view rest_;
  absl::Status status_;
};

LinearWeights ReadLinear(const LinearLayerSpec& spec, Reader& reader) {
  LinearWeights linear;
  linear.spec = spec;
  int64_t stored = spec.outputs * spec.inputs;
  if (reader.Flag()) {
    auto topology = TopologyOf(reader.Get<uint8_t>(), spec);
    if (!topology.ok()) {
      reader.Fail(base::MessageOf(topology.status()));
      return linear;
    }
    linear.topology = *std::move(topology);
    stored = linear.topology->nnz();
  }
  linear.values = reader.Floats(stored, spec.name);
  linear.bias = reader.Floats(spec.bias ? spec.outputs : 0, spec.name + ".bias");
  return linear;
}

}  // namespace

std::string EncodeBlock(const BlockWeights& block) {
  std::string bytes(kMagic);
  Put(block.attention_norm, bytes);
  Put(block.attention_norm_bias, bytes);
  Put(block.mlp_norm, bytes);
  Put(block.mlp_norm_bias, bytes);
  for (const LinearWeights& linear : block.linears) {
    bytes.push_back(linear.topology != nullptr ? '\1' : '\0');
    if (linear.topology != nullptr) Put(BitmapOf(*linear.topology), bytes);
    Put(linear.values, bytes);
    Put(linear.bias, bytes);
  }
  return bytes;
}

absl::StatusOr<BlockWeights> DecodeBlock(std::string_view bytes, const TransformerConfig& config) {
  Reader reader(bytes);
  BlockWeights block;
  const bool lacks_bias = config.rms_norm();
  block.attention_norm = reader.Floats(config.hidden, "attention_norm");
  block.attention_norm_bias = reader.Floats(config.hidden, "attention_norm bias", lacks_bias);
  block.mlp_norm = reader.Floats(config.hidden, "mlp_norm");
  block.mlp_norm_bias = reader.Floats(config.hidden, "mlp_norm bias", lacks_bias);
  for (const LinearLayerSpec& spec : BlockLinears(config)) {
    if (!reader.ok()) break;
    block.linears.push_back(ReadLinear(spec, reader));
  }
  ESPALIER_RETURN_IF_ERROR(reader.Finish());
  return block;
}

std::string EncodeOuter(const OuterWeights& outer) {
  std::string bytes(kMagic);
  Put(outer.embedding, bytes);
  Put(outer.positions, bytes);
  Put(outer.final_norm, bytes);
  Put(outer.final_norm_bias, bytes);
  Put(outer.output, bytes);
  return bytes;
}

absl::StatusOr<OuterWeights> DecodeOuter(std::string_view bytes, const TransformerConfig& config) {
  Reader reader(bytes);
  OuterWeights outer;
  const int64_t table = config.vocabulary * config.hidden;
  const int64_t positions =
      config.rotary() ? 0 : (config.context + config.position_offset) * config.hidden;
  outer.embedding = reader.Floats(table, "embedding");
  outer.positions = reader.Floats(positions, "positions");
  outer.final_norm = reader.Floats(config.hidden, "final_norm");
  outer.final_norm_bias = reader.Floats(config.hidden, "final_norm bias", config.rms_norm());
  outer.output = reader.Floats(config.tied ? 0 : table, "output");
  ESPALIER_RETURN_IF_ERROR(reader.Finish());
  return outer;
}

}  // namespace espalier::language

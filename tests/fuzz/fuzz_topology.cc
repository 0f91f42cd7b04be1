// Structures and changes of structures: whatever is taken has the hash that it says, and is the
// same after it was encoded again. Hashes are filled in where the first choice says so, since no
// fuzzer finds a SHA-256.
#include <cstdint>
#include <memory>
#include <string>

#include "common/base/status.h"
#include "common/wire/topology_codec.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/messages.h"
#include "tests/fuzz/small_model.h"

namespace {

using espalier::fuzz::Input;
using espalier::fuzz::Require;
namespace v1 = espalier::v1;
namespace wire = espalier::wire;
using Structure = std::shared_ptr<const espalier::tensor::ModelTopology>;

constexpr int64_t kMostWeights = 4096;

// The hash that was found, as the error says it; "" for another error.
std::string FoundHash(const absl::Status& status) {
  constexpr std::string_view kBefore = ", found ";
  constexpr size_t kHexDigits = 64;
  if (espalier::base::ReasonOf(status) != "TOPOLOGY_HASH_MISMATCH") return "";
  const std::string message(espalier::base::MessageOf(status));
  const size_t at = message.rfind(kBefore);
  return at == std::string::npos ? "" : message.substr(at + kBefore.size(), kHexDigits);
}

void CheckStructure(const Structure& structure, const std::string& hash) {
  Require(structure->hash() == hash, "a structure has the hash that it was announced with");
  const auto encoded = wire::EncodeTopology(*structure);
  Require(encoded.ok(), "what was decoded can be encoded");
  const auto again = wire::DecodeTopology(*encoded, structure->shared_layout(), kMostWeights);
  Require(again.ok() && (*again)->hash() == hash, "what was encoded decodes to the same structure");
}

void ReadWhole(bool honest, std::string_view bytes) {
  v1::FullTopology message;
  if (!espalier::fuzz::Parse(bytes, message)) return;
  const auto layout = espalier::fuzz::SmallStructure()->shared_layout();
  auto structure = wire::DecodeTopology(message, layout, kMostWeights);
  if (honest && !structure.ok()) {
    message.set_hash(FoundHash(structure.status()));
    structure = wire::DecodeTopology(message, layout, kMostWeights);
  }
  if (structure.ok()) CheckStructure(*structure, message.hash());
}

void ReadUpdate(bool honest, std::string_view bytes) {
  v1::TopologyUpdate message;
  if (!espalier::fuzz::Parse(bytes, message)) return;
  const Structure& base = espalier::fuzz::SmallStructure();
  if (honest) message.set_base_hash(base->hash());
  auto structure = wire::ApplyTopologyUpdate(*base, message, kMostWeights);
  if (honest && !structure.ok()) {
    message.set_hash(FoundHash(structure.status()));
    structure = wire::ApplyTopologyUpdate(*base, message, kMostWeights);
  }
  if (structure.ok()) CheckStructure(*structure, message.hash());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const int choice = input.Choice(4);
  if (choice < 2) {
    ReadWhole(choice == 1, input.Rest());
  } else {
    ReadUpdate(choice == 3, input.Rest());
  }
  return 0;
}

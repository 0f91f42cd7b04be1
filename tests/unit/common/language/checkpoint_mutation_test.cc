// Thousands of damaged checkpoints: each is refused with a reason or read; none crashes, hangs or
// takes memory that the file does not have.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "tests/support/checkpoint_bytes.h"
#include "tests/support/language_model.h"

namespace espalier::language {
namespace {

constexpr int kMutations = 600;

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Numbers that overflow, wrap or point elsewhere.
constexpr const char* kNumbers[] = {"0",
                                    "1",
                                    "-1",
                                    "7",
                                    "4294967296",
                                    "9223372036854775807",
                                    "18446744073709551615",
                                    "99999999999999999999",
                                    "1e3",
                                    "null",
                                    "[]"};

// Replaces one number of the header, keeping its length field right.
std::string WithOtherNumber(const std::string& file, base::Rng& rng) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  std::string header = file.substr(8, length);
  std::vector<size_t> starts;
  for (size_t i = 1; i < header.size(); ++i) {
    const auto digit = [&](size_t at) { return header[at] >= '0' && header[at] <= '9'; };
    if (digit(i) && (header[i - 1] == '[' || header[i - 1] == ',')) starts.push_back(i);
  }
  const size_t at = starts[rng.Below(starts.size())];
  const size_t end = header.find_first_of(",]", at);
  header.replace(at, end - at, kNumbers[rng.Below(std::size(kNumbers))]);
  const std::string data = file.substr(8 + length);
  length = header.size();
  std::string changed(8, '\0');
  std::memcpy(changed.data(), &length, 8);
  return changed + header + data;
}

std::string Mutated(const std::string& file, base::Rng& rng) {
  std::string bytes = file;
  switch (rng.Below(5)) {
    case 0:  // a byte of the header
      bytes[rng.Below(2000)] = static_cast<char>(rng.Next32());
      return bytes;
    case 1:  // a bit anywhere
      bytes[rng.Below(bytes.size())] ^= static_cast<char>(1 << rng.Below(8));
      return bytes;
    case 2:  // cut off
      return bytes.substr(0, rng.Below(bytes.size()));
    case 3:  // a piece of the header twice
      bytes.insert(8 + rng.Below(1000), bytes.substr(8 + rng.Below(1000), 1 + rng.Below(200)));
      return bytes;
    default:
      return WithOtherNumber(bytes, rng);
  }
}

class MutationTest : public testing::TestWithParam<CheckpointFormat> {};

TEST_P(MutationTest, DamagedFilesAreRefusedOrRead) {
  const std::string directory = testing::TempDir() + "espalier_mutation";
  std::filesystem::remove_all(directory);
  const support::LanguageModel model =
      support::RandomLanguageModel(support::SmallConfig("llama"), 1, 0.5);
  ASSERT_TRUE(support::SaveLanguageModel(model, directory, {.format = GetParam()}).ok());
  const std::string file = Contents(directory + "/model.safetensors");
  ASSERT_TRUE(support::ReadAllWeights(directory, file).ok());
  std::set<std::string> reasons;
  for (uint64_t i = 0; i < kMutations; ++i) {
    base::Rng rng(base::StreamKey(7, "mutation", {i}));
    const absl::Status status = support::ReadAllWeights(directory, Mutated(file, rng));
    if (status.ok()) continue;
    const std::string reason = base::ReasonOf(status);
    EXPECT_FALSE(reason.empty()) << status;
    EXPECT_FALSE(base::MessageOf(status).empty());
    reasons.insert(reason);
  }
  EXPECT_TRUE(reasons.contains("SAFETENSORS_INVALID"));
  EXPECT_TRUE(reasons.contains("TENSOR_MISSING"));
  EXPECT_GE(reasons.size(), 2u);
}

INSTANTIATE_TEST_SUITE_P(Formats, MutationTest,
                         testing::Values(CheckpointFormat::kHuggingFace,
                                         CheckpointFormat::kSparse));

}  // namespace
}  // namespace espalier::language

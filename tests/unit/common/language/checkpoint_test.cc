#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/language/checkpoint_reader.h"
#include "common/language/checkpoint_writer.h"
#include "tests/support/language_model.h"

namespace espalier::language {
namespace {

using support::LanguageModel;
using support::RandomLanguageModel;
using support::SaveLanguageModel;
using support::SmallConfig;
using testing::HasSubstr;

std::string Directory(const std::string& name) {
  const std::string path = testing::TempDir() + "espalier_checkpoint_" + name;
  std::filesystem::remove_all(path);
  return path;
}

void WriteText(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// One file: a tensor of `count` F32 for each name and shape.
std::string Safetensors(const std::vector<StoredTensor>& tensors,
                        wire::DataType type = wire::DataType::kF32, float value = 0.5f) {
  std::vector<wire::TensorInfo> infos;
  std::string data;
  for (const StoredTensor& tensor : tensors) {
    infos.push_back({tensor.name, type, tensor.shape, 0, 0});
    int64_t count = 1;
    for (const int64_t size : tensor.shape) count *= size;
    for (int64_t i = 0; i < count; ++i) {
      if (type == wire::DataType::kF32) {
        data.append(reinterpret_cast<const char*>(&value), 4);
      } else {
        data.append(wire::BytesPerElement(type), '\0');
      }
    }
  }
  return wire::EncodeSafetensorsHeader({}, infos).value() + data;
}

void ExpectSame(const LanguageModel& model, const CheckpointReader& reader, float tolerance = 0) {
  const OuterWeights outer = reader.ReadOuter().value();
  const auto near = [&](const std::vector<float>& a, const std::vector<float>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance * std::abs(a[i]));
  };
  near(model.outer.embedding, outer.embedding);
  near(model.outer.positions, outer.positions);
  near(model.outer.final_norm, outer.final_norm);
  near(model.outer.final_norm_bias, outer.final_norm_bias);
  near(model.outer.output, outer.output);
  for (int64_t b = 0; b < model.config.blocks; ++b) {
    const BlockWeights& expected = model.blocks[static_cast<size_t>(b)];
    const BlockWeights block = reader.ReadBlock(b).value();
    near(expected.attention_norm, block.attention_norm);
    near(expected.attention_norm_bias, block.attention_norm_bias);
    near(expected.mlp_norm, block.mlp_norm);
    near(expected.mlp_norm_bias, block.mlp_norm_bias);
    ASSERT_EQ(expected.linears.size(), block.linears.size());
    for (size_t i = 0; i < block.linears.size(); ++i) {
      near(DenseValues(expected.linears[i]), DenseValues(block.linears[i]));
      near(expected.linears[i].bias, block.linears[i].bias);
    }
  }
}

class FormatTest
    : public testing::TestWithParam<std::tuple<std::string, CheckpointFormat, double>> {};

TEST_P(FormatTest, WeightsSurvive) {
  const auto [family, format, density] = GetParam();
  const LanguageModel model = RandomLanguageModel(SmallConfig(family), 1, density);
  const std::string directory = Directory("survive");
  ASSERT_TRUE(SaveLanguageModel(model, directory, {.format = format}).ok());
  const auto reader = CheckpointReader::Open(directory);
  ASSERT_TRUE(reader.ok()) << reader.status();
  ExpectSame(model, **reader);
  const bool sparse = format == CheckpointFormat::kSparse && density < 1;
  EXPECT_EQ((*reader)->ReadLinear(0, 0)->topology != nullptr, sparse);
  // Nothing but the two files is left.
  EXPECT_EQ(io::PosixFileSystem().List(directory)->size(), 2u);
  if (!sparse) {
    for (const StoredTensor& tensor : AllTensors(model.config)) {
      ASSERT_NE((*reader)->Find(tensor.name), nullptr) << tensor.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, FormatTest,
                         testing::Combine(testing::Values("llama", "gpt2", "opt"),
                                          testing::Values(CheckpointFormat::kHuggingFace,
                                                          CheckpointFormat::kSparse),
                                          testing::Values(1.0, 0.3)));

TEST(CheckpointTest, SixteenBitTypesRound) {
  const LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 2, 0.5);
  for (const auto& [type, tolerance] :
       {std::pair{wire::DataType::kF16, 0x1p-10f}, {wire::DataType::kBF16, 0x1p-8f}}) {
    const std::string directory = Directory("types");
    ASSERT_TRUE(
        SaveLanguageModel(model, directory, {.format = CheckpointFormat::kSparse, .type = type})
            .ok());
    const auto reader = CheckpointReader::Open(directory).value();
    ExpectSame(model, *reader, tolerance);
    EXPECT_EQ(reader->Find("model.norm.weight")->type, type);
  }
}

TEST(CheckpointTest, SparseFormIsSmaller) {
  const LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 3, 0.3);
  uint64_t bytes[2];
  for (const auto format : {CheckpointFormat::kHuggingFace, CheckpointFormat::kSparse}) {
    const std::string directory = Directory("smaller");
    ASSERT_TRUE(SaveLanguageModel(model, directory, {.format = format}).ok());
    bytes[static_cast<int>(format)] = std::filesystem::file_size(directory + "/model.safetensors");
  }
  EXPECT_LT(static_cast<double>(bytes[1]), 0.75 * static_cast<double>(bytes[0]));
}

TEST(CheckpointTest, ShardsAreReadByTheIndex) {
  const LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 4);
  const std::string directory = Directory("shards");
  ASSERT_TRUE(SaveLanguageModel(model, directory).ok());
  const std::string whole = ReadText(directory + "/model.safetensors");
  const auto header = wire::DecodeSafetensorsHeader(whole, whole.size()).value();
  std::string map;
  std::string files[2];
  std::vector<wire::TensorInfo> infos[2];
  for (size_t i = 0; i < header.tensors.size(); ++i) {
    const wire::TensorInfo& tensor = header.tensors[i];
    infos[i % 2].push_back(tensor);
    files[i % 2] += whole.substr(tensor.begin, tensor.bytes);
    map += (map.empty() ? "" : ",") +
           ("\"" + tensor.name + "\":\"part-" + std::to_string(i % 2) + ".safetensors\"");
  }
  for (int i : {0, 1}) {
    WriteText(directory + "/part-" + std::to_string(i) + ".safetensors",
              wire::EncodeSafetensorsHeader({}, infos[i]).value() + files[i]);
  }
  std::filesystem::remove(directory + "/model.safetensors");
  const auto reason = [&](const std::string& index) {
    WriteText(directory + "/model.safetensors.index.json", index);
    return base::ReasonOf(CheckpointReader::Open(directory).status());
  };
  EXPECT_EQ(reason(R"({"weight_map":{)" + map + "}}"), "");
  ExpectSame(model, *CheckpointReader::Open(directory).value());
  EXPECT_EQ(reason(R"({"weight_map":{"x":"../part-0.safetensors"}})"), "INDEX_INVALID");
  EXPECT_EQ(reason(R"({"weight_map":{"x":"/etc/passwd"}})"), "INDEX_INVALID");
  EXPECT_EQ(reason(R"({"weight_map":{"x":1}})"), "INDEX_INVALID");
  EXPECT_EQ(reason(R"({"weight_map":{"x":"part-0.safetensors"}})"), "INDEX_INVALID");
  EXPECT_EQ(reason(R"({"weight_map":[]})"), "INDEX_INVALID");
  EXPECT_EQ(reason(R"({"weight_map":{"x":"part-9.safetensors"}})"), "FILE_NOT_FOUND");
  EXPECT_EQ(reason(R"({"weight_map":{)" + map + R"(},"weight_map":{}})"), "INDEX_INVALID");
}

// Opens a LLaMA checkpoint whose list of tensors was changed.
absl::Status OpenChanged(const std::function<void(std::vector<StoredTensor>&)>& change) {
  const std::string directory = Directory("changed");
  std::filesystem::create_directories(directory);
  WriteText(directory + "/config.json", SmallConfig("llama"));
  std::vector<StoredTensor> tensors =
      AllTensors(ParseTransformerConfig(SmallConfig("llama")).value());
  change(tensors);
  WriteText(directory + "/model.safetensors", Safetensors(tensors));
  return CheckpointReader::Open(directory).status();
}

TEST(CheckpointTest, TensorsMustBeThereInTheShapeOfTheConfig) {
  EXPECT_TRUE(OpenChanged([](auto&) {}).ok());
  EXPECT_TRUE(OpenChanged([](auto& all) { all.push_back({"rotary.inv_freq", {4}}); }).ok());
  const absl::Status missing = OpenChanged([](auto& all) { all.erase(all.begin() + 5); });
  EXPECT_EQ(base::ReasonOf(missing), "TENSOR_MISSING");
  const absl::Status untied = OpenChanged([](auto& all) { all.erase(all.begin() + 2); });
  EXPECT_THAT(base::MessageOf(untied), HasSubstr("tie_word_embeddings"));
  const absl::Status shape = OpenChanged([](auto& all) { all[0].shape = {16, 17}; });
  EXPECT_EQ(base::ReasonOf(shape), "TENSOR_SHAPE");
  EXPECT_THAT(base::MessageOf(shape),
              HasSubstr("'model.embed_tokens.weight': expected shape [17, 16] by config.json, "
                        "found [16, 17]"));
}

TEST(CheckpointTest, WeightsOfOtherTypesAreRefused) {
  const std::string directory = Directory("types");
  std::filesystem::create_directories(directory);
  WriteText(directory + "/config.json", SmallConfig("llama"));
  const auto tensors = AllTensors(ParseTransformerConfig(SmallConfig("llama")).value());
  WriteText(directory + "/model.safetensors", Safetensors(tensors, wire::DataType::kI32));
  EXPECT_EQ(base::ReasonOf(CheckpointReader::Open(directory).status()), "TENSOR_TYPE");
}

TEST(CheckpointTest, NonFiniteWeightsAreNamed) {
  const std::string directory = Directory("nan");
  LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 5);
  ASSERT_TRUE(SaveLanguageModel(model, directory).ok());
  const std::string path = directory + "/model.safetensors";
  std::string bytes = ReadText(path);
  const auto header = wire::DecodeSafetensorsHeader(bytes, bytes.size()).value();
  const wire::TensorInfo* tensor = header.Find("model.layers.1.mlp.up_proj.weight");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + tensor->begin + 4 * 7, &nan, 4);
  WriteText(path, bytes);
  const auto reader = CheckpointReader::Open(directory).value();
  EXPECT_TRUE(reader->ReadBlock(0).ok());
  const absl::Status status = reader->ReadBlock(1).status();
  EXPECT_EQ(base::ReasonOf(status), "WEIGHT_NOT_FINITE");
  EXPECT_THAT(
      base::MessageOf(status),
      HasSubstr("'model.layers.1.mlp.up_proj.weight': expected finite weights, found nan at "
                "position 7"));
  model.blocks[0].linears[0].values[3] = nan;
  EXPECT_EQ(base::ReasonOf(SaveLanguageModel(model, Directory("nan2"))), "WEIGHT_NOT_FINITE");
}

TEST(CheckpointTest, TooLargeForASixteenBitTypeIsRefused) {
  LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 5);
  model.blocks[0].linears[0].values[3] = 1e6f;
  EXPECT_EQ(
      base::ReasonOf(SaveLanguageModel(model, Directory("large"), {.type = wire::DataType::kF16})),
      "WEIGHT_NOT_FINITE");
}

TEST(CheckpointTest, FilesThatAreMissingOrCutOffAreNamed) {
  const std::string directory = Directory("cut");
  EXPECT_EQ(base::ReasonOf(CheckpointReader::Open(directory).status()), "CHECKPOINT_NOT_FOUND");
  const LanguageModel model = RandomLanguageModel(SmallConfig("opt"), 6);
  ASSERT_TRUE(SaveLanguageModel(model, directory).ok());
  const std::string path = directory + "/model.safetensors";
  const std::string bytes = ReadText(path);
  for (const size_t size : {size_t{0}, size_t{7}, size_t{100}, bytes.size() - 1}) {
    WriteText(path, bytes.substr(0, size));
    EXPECT_EQ(base::ReasonOf(CheckpointReader::Open(directory).status()), "SAFETENSORS_INVALID");
  }
  std::filesystem::remove(path);
  EXPECT_EQ(base::ReasonOf(CheckpointReader::Open(directory).status()), "CHECKPOINT_NOT_FOUND");
}

TEST(CheckpointTest, BlocksAreWrittenOnceAndInOrder) {
  const LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 7);
  const std::string directory = Directory("order");
  {
    auto writer = CheckpointWriter::Create(io::PosixFileSystem(), directory, model.config).value();
    EXPECT_EQ(base::ReasonOf(writer->WriteBlock(model.blocks[0])), "BLOCK_ORDER");
    ASSERT_TRUE(writer->WriteOuter(model.outer).ok());
    EXPECT_EQ(base::ReasonOf(writer->WriteOuter(model.outer)), "BLOCK_ORDER");
    EXPECT_EQ(base::ReasonOf(writer->Finish()), "BLOCK_ORDER");
  }
  // An unfinished writer leaves nothing.
  EXPECT_TRUE(io::PosixFileSystem().List(directory)->empty());
}

TEST(CheckpointTest, BitmapsThatContradictTheirValuesAreRefused) {
  const LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 8, 0.5);
  const std::string directory = Directory("bitmap");
  ASSERT_TRUE(SaveLanguageModel(model, directory, {.format = CheckpointFormat::kSparse}).ok());
  const std::string path = directory + "/model.safetensors";
  std::string bytes = ReadText(path);
  const auto header = wire::DecodeSafetensorsHeader(bytes, bytes.size()).value();
  const auto* bitmap = header.Find("model.layers.0.self_attn.k_proj.weight.bitmap");
  ASSERT_NE(bitmap, nullptr);
  bytes[bitmap->begin] = static_cast<char>(bytes[bitmap->begin] ^ 1);
  WriteText(path, bytes);
  const auto reader = CheckpointReader::Open(directory).value();
  const absl::Status status = reader->ReadLinear(0, 1).status();
  EXPECT_EQ(base::ReasonOf(status), "TENSOR_SPARSE_INVALID");
  EXPECT_THAT(base::MessageOf(status), HasSubstr("model.layers.0.self_attn.k_proj.weight"));
}

std::map<std::string, std::string> CompanionsOf(const CheckpointReader& reader) {
  std::map<std::string, std::string> files;
  for (const CompanionFile& file : reader.companions()) files[file.name] = file.bytes;
  return files;
}

// From a folder into one file, and back into a folder.
TEST(CheckpointTest, CompanionsGoWithTheModel) {
  const LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 9, 0.5);
  const std::string directory = Directory("companions");
  ASSERT_TRUE(SaveLanguageModel(model, directory).ok());
  const std::map<std::string, std::string> files = {{"tokenizer.json", "{}"},
                                                    {"tok512.bin", std::string("\0\xff\n", 3)},
                                                    {"generation_config.json", "{\"a\": 1}"}};
  for (const auto& [name, bytes] : files) WriteText(absl::StrCat(directory, "/", name), bytes);
  WriteText(directory + "/README.md", "no");
  std::filesystem::create_directories(directory + "/merges.txt");
  const auto reader = CheckpointReader::Open(directory).value();
  EXPECT_EQ(CompanionsOf(*reader), files);
  for (const auto format : {CheckpointFormat::kSparse, CheckpointFormat::kHuggingFace}) {
    const std::string copy = Directory("companions-copy");
    const auto writer =
        CheckpointWriter::Create(io::PosixFileSystem(), copy, model.config,
                                 {.format = format, .metadata = {{"config", model.config.json}}})
            .value();
    ASSERT_TRUE(writer->WriteOuter(model.outer).ok());
    for (const BlockWeights& block : model.blocks) ASSERT_TRUE(writer->WriteBlock(block).ok());
    for (const CompanionFile& file : reader->companions()) {
      ASSERT_TRUE(writer->WriteCompanion(file).ok());
    }
    EXPECT_EQ(base::ReasonOf(writer->WriteCompanion({"../x", ""})), "COMPANION_NAME");
    ASSERT_TRUE(writer->Finish().ok());
    const bool sparse = format == CheckpointFormat::kSparse;
    const auto again = sparse ? CheckpointReader::OpenFile(copy + "/model.safetensors")
                              : CheckpointReader::Open(copy);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(CompanionsOf(**again), files);
    EXPECT_EQ((*again)->ReadOuter()->embedding, model.outer.embedding);
  }
}

TEST(CheckpointTest, CompanionsMayComeFromAnotherFolder) {
  const std::string directory = Directory("no-companions");
  ASSERT_TRUE(SaveLanguageModel(RandomLanguageModel(SmallConfig("llama"), 9), directory).ok());
  const auto reader = CheckpointReader::Open(directory).value();
  EXPECT_TRUE(reader->companions().empty());
  const std::string other = Directory("tokenizer");
  std::filesystem::create_directories(other);
  EXPECT_EQ(base::ReasonOf(reader->TakeCompanionsFrom(other)), "COMPANIONS_NOT_FOUND");
  WriteText(other + "/tokenizer.model", "x");
  ASSERT_TRUE(reader->TakeCompanionsFrom(other).ok());
  EXPECT_EQ(CompanionsOf(*reader), (std::map<std::string, std::string>{{"tokenizer.model", "x"}}));
}

TEST(CheckpointTest, CompanionsHaveABound) {
  const std::string directory = Directory("large-companion");
  ASSERT_TRUE(SaveLanguageModel(RandomLanguageModel(SmallConfig("llama"), 9), directory).ok());
  WriteText(directory + "/tokenizer.json", "");
  std::filesystem::resize_file(directory + "/tokenizer.json", kMaxCompanionBytes + 1);
  const absl::Status status = CheckpointReader::Open(directory).status();
  EXPECT_EQ(base::ReasonOf(status), "COMPANION_TOO_LARGE");
  EXPECT_THAT(base::MessageOf(status), HasSubstr("tokenizer.json"));
}

TEST(CheckpointTest, CsrMatricesOfTrainingJobsAreRead) {
  const std::string directory = Directory("csr");
  std::filesystem::create_directories(directory);
  WriteText(directory + "/config.json", SmallConfig("llama"));
  const std::string name = "model.layers.0.self_attn.k_proj.weight";  // 8 × 16
  std::vector<wire::TensorInfo> infos;
  std::string data;
  for (const StoredTensor& tensor :
       AllTensors(ParseTransformerConfig(SmallConfig("llama")).value())) {
    if (tensor.name == name) continue;
    infos.push_back({tensor.name, wire::DataType::kF32, tensor.shape, 0, 0});
    int64_t bytes = 4;
    for (const int64_t size : tensor.shape) bytes *= size;
    data.append(static_cast<size_t>(bytes), '\0');
  }
  const auto add = [&](const std::string& suffix, wire::DataType type, const auto& values) {
    infos.push_back({name + suffix, type, {static_cast<int64_t>(values.size())}, 0, 0});
    data.append(reinterpret_cast<const char*>(values.data()), 4 * values.size());
  };
  add(".values", wire::DataType::kF32, std::vector<float>{1, 2, 3});
  add(".row_offsets", wire::DataType::kI32, std::vector<int32_t>{0, 1, 1, 3, 3, 3, 3, 3, 3});
  add(".columns", wire::DataType::kI32, std::vector<int32_t>{5, 0, 15});
  const std::string path = directory + "/model.safetensors";
  WriteText(path, wire::EncodeSafetensorsHeader({}, infos).value() + data);
  const auto reader = CheckpointReader::Open(directory);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const std::vector<float> dense = DenseValues((*reader)->ReadLinear(0, 1).value());
  EXPECT_EQ(dense[5], 1);
  EXPECT_EQ(dense[2 * 16], 2);
  EXPECT_EQ(dense[2 * 16 + 15], 3);
  // A column beyond the last.
  std::string bytes = ReadText(path);
  bytes[bytes.size() - 4] = 16;
  WriteText(path, bytes);
  EXPECT_EQ(base::ReasonOf(CheckpointReader::Open(directory).value()->ReadLinear(0, 1).status()),
            "TENSOR_SPARSE_INVALID");
  infos.pop_back();
  WriteText(path,
            wire::EncodeSafetensorsHeader({}, infos).value() + data.substr(0, data.size() - 12));
  EXPECT_EQ(base::ReasonOf(CheckpointReader::Open(directory).status()), "TENSOR_MISSING");
}

TEST(CheckpointTest, FirstGpt2FilesHaveNoPrefix) {
  const std::string directory = Directory("prefix");
  std::filesystem::create_directories(directory);
  WriteText(directory + "/config.json", SmallConfig("gpt2"));
  std::vector<StoredTensor> tensors =
      AllTensors(ParseTransformerConfig(SmallConfig("gpt2")).value());
  for (StoredTensor& tensor : tensors) tensor.name = tensor.name.substr(sizeof("transformer.") - 1);
  WriteText(directory + "/model.safetensors", Safetensors(tensors));
  const auto reader = CheckpointReader::Open(directory);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_TRUE((*reader)->ReadBlock(1).ok());
  EXPECT_TRUE((*reader)->ReadOuter().ok());
}

}  // namespace
}  // namespace espalier::language

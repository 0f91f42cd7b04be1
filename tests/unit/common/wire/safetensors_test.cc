#include "common/wire/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace espalier::wire {
namespace {

std::string File(const std::string& json, size_t data_bytes) {
  const uint64_t length = json.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + json + std::string(data_bytes, 'd');
}

absl::StatusOr<SafetensorsHeader> Decode(const std::string& file) {
  return DecodeSafetensorsHeader(file, file.size());
}

std::string ReasonOfDecoding(const std::string& json, size_t data_bytes) {
  return base::ReasonOf(Decode(File(json, data_bytes)).status());
}

constexpr char kInvalid[] = "SAFETENSORS_INVALID";

std::vector<TensorInfo> SomeTensors() {
  return {{"weights", DataType::kF32, {2, 3}, 0, 0},
          {"empty", DataType::kF32, {0}, 0, 0},
          {"columns", DataType::kI32, {5}, 0, 0},
          {"scalar", DataType::kI64, {}, 0, 0},
          {"bytes", DataType::kU8, {3}, 0, 0}};
}
constexpr size_t kSomeBytes = 24 + 20 + 8 + 3;

TEST(SafetensorsTest, HeaderSurvives) {
  const std::string header =
      EncodeSafetensorsHeader({{"format", "x"}, {"quote", "\"\n"}}, SomeTensors()).value();
  EXPECT_EQ(header.size() % 8, 0u);
  const auto decoded = Decode(header + std::string(kSomeBytes, '\0'));
  ASSERT_TRUE(decoded.ok()) << base::MessageOf(decoded.status());
  EXPECT_EQ(decoded->metadata.at("quote"), "\"\n");
  ASSERT_EQ(decoded->tensors.size(), 5u);
  EXPECT_EQ(decoded->tensors[0].name, "weights");
  EXPECT_EQ(decoded->tensors[0].begin, header.size());
  EXPECT_EQ(decoded->tensors[4].name, "bytes");
  const TensorInfo* columns = decoded->Find("columns");
  ASSERT_NE(columns, nullptr);
  EXPECT_EQ(columns->type, DataType::kI32);
  EXPECT_EQ(columns->shape, std::vector<int64_t>{5});
  EXPECT_EQ(columns->begin, header.size() + 24);
  EXPECT_EQ(columns->bytes, 20u);
  EXPECT_EQ(decoded->Find("none"), nullptr);
}

TEST(SafetensorsTest, FileWithoutTensorsIsValid) {
  EXPECT_TRUE(Decode(File("{}", 0)).ok());
  EXPECT_EQ(ReasonOfDecoding("{}", 1), kInvalid);
}

TEST(SafetensorsTest, OtherWritersOrderAndSpacesAreRead) {
  const auto decoded = Decode(File(
      R"({"b":{"shape":[1],"data_offsets":[4,8],"dtype":"I32"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   )",
      8));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->tensors[0].name, "a");
}

TEST(SafetensorsTest, NamesUsedTwiceAreNotWritten) {
  std::vector<TensorInfo> tensors = SomeTensors();
  tensors[1].name = "weights";
  EXPECT_EQ(base::ReasonOf(EncodeSafetensorsHeader({}, tensors).status()), kInvalid);
  tensors[1].name = "__metadata__";
  EXPECT_EQ(base::ReasonOf(EncodeSafetensorsHeader({}, tensors).status()), kInvalid);
}

TEST(SafetensorsTest, RangesThatDoNotTileTheDataAreRefused) {
  const auto two = [](const char* a, const char* b) {
    return std::string(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":)") + a +
           R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":)" + b + "}}";
  };
  EXPECT_EQ(ReasonOfDecoding(two("[0,4]", "[4,8]"), 8), "");
  EXPECT_EQ(ReasonOfDecoding(two("[0,4]", "[4,8]"), 9), kInvalid);
  EXPECT_EQ(ReasonOfDecoding(two("[0,4]", "[4,8]"), 7), kInvalid);
  EXPECT_EQ(ReasonOfDecoding(two("[0,4]", "[5,9]"), 9), kInvalid);
  EXPECT_EQ(ReasonOfDecoding(two("[0,4]", "[0,4]"), 4), kInvalid);
  EXPECT_EQ(ReasonOfDecoding(two("[0,4]", "[2,6]"), 6), kInvalid);
  EXPECT_EQ(ReasonOfDecoding(two("[4,0]", "[4,8]"), 8), kInvalid);
  EXPECT_EQ(ReasonOfDecoding(two("[-4,0]", "[0,4]"), 4), kInvalid);
  EXPECT_EQ(ReasonOfDecoding(two("[0,4]", "[4,8,9]"), 8), kInvalid);
  EXPECT_EQ(ReasonOfDecoding(two("[0,4]", "[4.0,8]"), 8), kInvalid);
  EXPECT_EQ(ReasonOfDecoding(two("[0,4]", "[4,18446744073709551615]"), 8), kInvalid);
}

TEST(SafetensorsTest, MalformedTensorsAreRefused) {
  const auto one = [](const char* fields) {
    return ReasonOfDecoding(std::string(R"({"a":)") + fields + "}", 4);
  };
  EXPECT_EQ(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"), "");
  for (const char* fields :
       {R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})",
        R"({"dtype":"I64","shape":[1],"data_offsets":[0,4]})",
        R"({"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]})",
        R"({"dtype":"f32","shape":[1],"data_offsets":[0,4]})",
        R"({"dtype":4,"shape":[1],"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":[1,-1],"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":["1"],"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":[[1]],"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]})",
        R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1})",
        R"({"dtype":"F32","data_offsets":[0,4]})", R"({"dtype":"F32","shape":[1]})", "[]", "null",
        R"({"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]})"}) {
    EXPECT_EQ(one(fields), kInvalid) << fields;
  }
}

TEST(SafetensorsTest, MalformedHeadersAreRefused) {
  for (const char* json :
       {"", "[]", "1", " {}", "{", "{}}", "nul", "{\"a\":\"\xff\"}", R"({"__metadata__":1})",
        R"({"__metadata__":{"a":1}})", R"({"__metadata__":{"a":{"b":"c"}}})",
        R"({"__metadata__":{},"__metadata__":{}})"}) {
    EXPECT_EQ(ReasonOfDecoding(json, 0), kInvalid) << json;
  }
  EXPECT_EQ(ReasonOfDecoding(std::string(100'000, '['), 0), kInvalid);
  EXPECT_EQ(ReasonOfDecoding(R"({"a":{"a":)" + std::string(100'000, '['), 0), kInvalid);
}

TEST(SafetensorsTest, DuplicateNamesAreRefused) {
  EXPECT_EQ(
      ReasonOfDecoding(
          R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
          1),
      kInvalid);
}

TEST(SafetensorsTest, HeaderLengthIsBoundedByFileAndLimit) {
  std::string file = File("{}", 0);
  EXPECT_TRUE(Decode(file).ok());
  for (const uint64_t length : {uint64_t{3}, uint64_t{100'000'001}, ~uint64_t{0}}) {
    std::memcpy(file.data(), &length, 8);
    EXPECT_EQ(base::ReasonOf(Decode(file).status()), kInvalid);
    EXPECT_EQ(base::ReasonOf(DecodeSafetensorsHeader(file, ~uint64_t{0}).status()), kInvalid);
  }
}

TEST(SafetensorsTest, EveryTruncationIsRefusedAndEveryFlipIsRefusedOrTilesTheFile) {
  const std::string file = EncodeSafetensorsHeader({{"format", "x"}}, SomeTensors()).value() +
                           std::string(kSomeBytes, '\0');
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(Decode(file.substr(0, size)).ok()) << size;
  }
  for (size_t bit = 0; bit < 8 * (file.size() - kSomeBytes); ++bit) {
    std::string changed = file;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    const auto header = Decode(changed);
    if (header.ok() && !header->tensors.empty()) {
      EXPECT_EQ(header->tensors.back().begin + header->tensors.back().bytes, file.size());
    }
  }
}

}  // namespace
}  // namespace espalier::wire

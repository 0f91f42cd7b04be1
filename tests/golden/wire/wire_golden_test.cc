// The bytes of every message of the protocol against a table, see README.md.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "espalier/v1/access.pb.h"
#include "espalier/v1/checkpoint.pb.h"
#include "espalier/v1/cluster.pb.h"
#include "espalier/v1/events.pb.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/method.pb.h"
#include "espalier/v1/progress.pb.h"
#include "espalier/v1/structure.pb.h"
#include "espalier/v1/system.pb.h"
#include "espalier/v1/topology.pb.h"
#include "espalier/v1/worker.pb.h"

namespace espalier {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::Message;
using google::protobuf::MessageFactory;

constexpr char kHowToRenew[] = "; to write it anew: ESPALIER_RENEW=1 wire_golden_test";

std::filesystem::path ProtoFolder() {
  return std::filesystem::path(std::getenv("ESPALIER_SOURCE_DIR")) / "proto";
}
std::filesystem::path TableFile() {
  return ProtoFolder().parent_path() / "tests/golden/wire/messages.txt";
}

std::vector<std::string> Paths() {
  std::set<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(ProtoFolder())) {
    if (entry.path().extension() != ".proto") continue;
    paths.insert(std::filesystem::relative(entry.path(), ProtoFolder()).string());
  }
  return {paths.begin(), paths.end()};
}

void AddTypes(const Descriptor& type, std::vector<const Descriptor*>& types) {
  if (type.options().map_entry()) return;
  types.push_back(&type);
  for (int i = 0; i < type.nested_type_count(); ++i) AddTypes(*type.nested_type(i), types);
}

// The linker leaves out files of which nothing is used. One that nobody names here is told below.
bool AllAreLinked() {
  return v1::Checkpoint::descriptor() != nullptr && v1::Worker::descriptor() != nullptr &&
         v1::Job::descriptor() != nullptr && v1::Method::descriptor() != nullptr &&
         v1::TensorTopology::descriptor() != nullptr && v1::Heartbeat::descriptor() != nullptr &&
         v1::Token::descriptor() != nullptr && v1::GetTopologyRequest::descriptor() != nullptr &&
         v1::NamedEvent::descriptor() != nullptr && v1::RoundProgress::descriptor() != nullptr &&
         v1::SystemInfo::descriptor() != nullptr;
}

// All messages, in the order of their files.
std::vector<const Descriptor*> Types() {
  EXPECT_TRUE(AllAreLinked());
  std::vector<const Descriptor*> types;
  for (const std::string& path : Paths()) {
    const FileDescriptor* file = DescriptorPool::generated_pool()->FindFileByName(path);
    if (file == nullptr) {
      ADD_FAILURE() << path << " is not linked into this test";
      continue;
    }
    for (int i = 0; i < file->message_type_count(); ++i) AddTypes(*file->message_type(i), types);
  }
  return types;
}

std::unique_ptr<Message> New(const Descriptor& type) {
  return std::unique_ptr<Message>(MessageFactory::generated_factory()->GetPrototype(&type)->New());
}

void Fill(Message& message, int variant, int seed, int depth);

// Gives a field, or one more item of a list, a value that depends on `seed` and its number.
void FillField(Message& message, const FieldDescriptor& field, int seed, int depth) {
  const auto& reflection = *message.GetReflection();
  const bool list = field.is_repeated();
  const int number = seed + field.number();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return list ? reflection.AddBool(&message, &field, true)
                  : reflection.SetBool(&message, &field, true);
    case FieldDescriptor::CPPTYPE_INT32:
      return list ? reflection.AddInt32(&message, &field, -number)
                  : reflection.SetInt32(&message, &field, -number);
    case FieldDescriptor::CPPTYPE_INT64:
      return list ? reflection.AddInt64(&message, &field, (int64_t{1} << 40) + number)
                  : reflection.SetInt64(&message, &field, (int64_t{1} << 40) + number);
    case FieldDescriptor::CPPTYPE_UINT32:
      return list ? reflection.AddUInt32(&message, &field, 300U + number)
                  : reflection.SetUInt32(&message, &field, 300U + number);
    case FieldDescriptor::CPPTYPE_UINT64:
      return list ? reflection.AddUInt64(&message, &field, (uint64_t{1} << 63) + number)
                  : reflection.SetUInt64(&message, &field, (uint64_t{1} << 63) + number);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return list ? reflection.AddFloat(&message, &field, 0.25F + static_cast<float>(number))
                  : reflection.SetFloat(&message, &field, 0.25F + static_cast<float>(number));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return list ? reflection.AddDouble(&message, &field, 0.5 + number)
                  : reflection.SetDouble(&message, &field, 0.5 + number);
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text = absl::StrCat(field.name(), "-", number);
      return list ? reflection.AddString(&message, &field, text)
                  : reflection.SetString(&message, &field, text);
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto& type = *field.enum_type();
      const auto* value = type.value(1 + seed % std::max(1, type.value_count() - 1));
      return list ? reflection.AddEnum(&message, &field, value)
                  : reflection.SetEnum(&message, &field, value);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return Fill(list ? *reflection.AddMessage(&message, &field)
                       : *reflection.MutableMessage(&message, &field),
                  0, number, depth + 1);
  }
}

// Every field, of each oneof the member `variant` (or the last one); in messages inside of others
// those alone that are no messages, so that those that hold themselves come to an end.
void Fill(Message& message, int variant, int seed, int depth) {
  const auto& type = *message.GetDescriptor();
  const bool entry = type.options().map_entry();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const auto* oneof = field.real_containing_oneof();
    if (oneof != nullptr && field.index_in_oneof() != std::min(variant, oneof->field_count() - 1)) {
      continue;
    }
    const bool inner = field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (inner && depth > 0 && !entry) continue;
    for (int item = 0; item < (field.is_repeated() ? 2 : 1); ++item) {
      FillField(message, field, seed + 100 * item, depth);
    }
  }
}

int Variants(const Descriptor& type) {
  int variants = 1;
  for (int i = 0; i < type.real_oneof_decl_count(); ++i) {
    variants = std::max(variants, type.oneof_decl(i)->field_count());
  }
  return variants;
}

std::string BytesOf(const Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

std::string TextOf(const Message& message) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(message, &text);
  return text;
}

// One message of the table.
struct Entry {
  std::string name;
  std::string text;
  std::string bytes;  // in the table in hexadecimal, 64 on a line
};

std::string HexLines(const std::string& bytes) {
  constexpr size_t kOnLine = 64;
  std::string lines;
  for (size_t i = 0; i < bytes.size(); i += kOnLine) {
    lines += "= " + absl::BytesToHexString(bytes.substr(i, kOnLine)) + "\n";
  }
  return lines;
}

void Renew() {
  std::ofstream file(TableFile());
  for (const Descriptor* type : Types()) {
    for (int variant = 0; variant < Variants(*type); ++variant) {
      const auto message = New(*type);
      Fill(*message, variant, 0, 0);
      file << "# " << type->full_name() << "\n"
           << TextOf(*message) << HexLines(BytesOf(*message)) << "\n";
    }
  }
}

// Entries end with an empty line.
std::vector<Entry> ReadTable() {
  std::vector<Entry> entries;
  std::ifstream file(TableFile());
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("# ")) {
      entries.push_back({line.substr(2), "", ""});
    } else if (line.starts_with("= ")) {
      entries.back().bytes += absl::HexStringToBytes(line.substr(2));
    } else if (!line.empty()) {
      entries.back().text += line + "\n";
    }
  }
  return entries;
}

TEST(WireGoldenTest, TextsGiveTheirBytesAndBytesTheirTexts) {
  ASSERT_TRUE(AllAreLinked());
  const std::vector<Entry> entries = ReadTable();
  ASSERT_GT(entries.size(), 50U);
  for (const Entry& entry : entries) {
    SCOPED_TRACE(entry.name + ":\n" + entry.text);
    const Descriptor* type = DescriptorPool::generated_pool()->FindMessageTypeByName(entry.name);
    ASSERT_NE(type, nullptr) << "the protocol has no such message any more";
    const auto written = New(*type);
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(entry.text, written.get()))
        << "fields or values are not what they were";
    EXPECT_EQ(HexLines(BytesOf(*written)), HexLines(entry.bytes))
        << "a value is written as other bytes than before";
    const auto read = New(*type);
    ASSERT_TRUE(read->ParseFromString(entry.bytes));
    EXPECT_EQ(TextOf(*read), entry.text) << "bytes are read as other values than before";
  }
}

TEST(WireGoldenTest, EveryFieldOfEveryMessageIsInTheTable) {
  std::map<std::string, std::set<std::string>> fields;  // that have a value, by message
  for (const Entry& entry : ReadTable()) {
    const Descriptor* type = DescriptorPool::generated_pool()->FindMessageTypeByName(entry.name);
    if (type == nullptr) continue;
    const auto message = New(*type);
    ASSERT_TRUE(message->ParseFromString(entry.bytes));
    std::vector<const FieldDescriptor*> set;
    message->GetReflection()->ListFields(*message, &set);
    auto& names = fields[entry.name];
    for (const FieldDescriptor* field : set) names.insert(field->name());
  }
  for (const Descriptor* type : Types()) {
    ASSERT_TRUE(fields.contains(type->full_name()))
        << type->full_name() << " is not in " << TableFile() << kHowToRenew;
    for (int i = 0; i < type->field_count(); ++i) {
      EXPECT_TRUE(fields[type->full_name()].contains(type->field(i)->name()))
          << type->field(i)->full_name() << " has no value in " << TableFile() << kHowToRenew;
    }
  }
}

TEST(WireGoldenTest, FieldsOfOneMessageHaveValuesOfTheirOwn) {
  const auto message = New(*v1::RoundSummary::descriptor());
  Fill(*message, 0, 0, 0);
  const auto& round = dynamic_cast<const v1::RoundSummary&>(*message);
  EXPECT_NE(round.bytes_sent(), round.bytes_received());
  EXPECT_NE(round.test_loss(), round.test_accuracy());
}

// Renews before the tests look at the table.
class Renewal : public ::testing::Environment {
 public:
  void SetUp() override {
    if (std::getenv("ESPALIER_RENEW") != nullptr) Renew();
  }
};

const auto* const kRenewal = ::testing::AddGlobalTestEnvironment(new Renewal);

}  // namespace
}  // namespace espalier

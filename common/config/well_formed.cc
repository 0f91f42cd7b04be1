#include "common/config/well_formed.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "common/config/text.h"

namespace espalier::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kMaxTextBytes = 1000;
// The config.json of a trained model, which some programs write much into.
constexpr char kConfigField[] = "config_json";
constexpr size_t kMaxConfigBytes = 65'536;
// Means and deviations of an image's channels are the longest lists there can be.
constexpr int kMaxNumbers = 100'000;
constexpr int kMaxMessagesInList = 1000;
// A model of a thousand layers has two messages for each.
constexpr int kMaxMessages = 10'000;
constexpr int kMaxDepth = 20;

std::vector<const FieldDescriptor*> SetFields(const Message& message) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  return fields;
}

// The name of item `index`: "layers[3]", or of a map "parameters.density".
std::string ItemName(const Message& message, const FieldDescriptor& field, int index) {
  if (!field.is_map()) return fmt::format("{}[{}]", field.name(), index);
  const Message& entry = message.GetReflection()->GetRepeatedMessage(message, &field, index);
  const FieldDescriptor* key = entry.GetDescriptor()->map_key();
  return fmt::format("{}.{}", field.name(),
                     Shortened(entry.GetReflection()->GetString(entry, key)));
}

// Calls `visit` with each message directly in `message` and its name.
template <typename Visit>
void ForEachMessage(const Message& message, const Visit& visit) {
  const Reflection& reflection = *message.GetReflection();
  for (const FieldDescriptor* field : SetFields(message)) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      visit(field->name(), reflection.GetMessage(message, field));
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      visit(ItemName(message, *field, i), reflection.GetRepeatedMessage(message, field, i));
    }
  }
}

class SizeChecker {
 public:
  void Check(const Message& message, int depth, const Checker& at) {
    if (is_full_) return;
    if (++messages_ > kMaxMessages || depth > kMaxDepth) {
      at.Fail("", fmt::format("expected a job of at most {} parts, {} within each other, found "
                              "more; remove some",
                              Grouped(kMaxMessages), kMaxDepth));
      is_full_ = true;
      ok_ = false;
      return;
    }
    const Reflection& reflection = *message.GetReflection();
    bool lists = true;
    for (const FieldDescriptor* field : SetFields(message)) {
      if (field->is_repeated()) lists = CheckList(message, *field, at) && lists;
      if (field->is_repeated() || field->cpp_type() != FieldDescriptor::CPPTYPE_STRING) continue;
      CheckText(field->name(), reflection.GetString(message, field), at);
    }
    if (!lists) return;
    ForEachMessage(message, [&](const std::string& name, const Message& part) {
      Check(part, depth + 1, at.In(name));
    });
  }

  bool ok() const { return ok_; }

 private:
  bool CheckList(const Message& message, const FieldDescriptor& field, const Checker& at) {
    const int size = message.GetReflection()->FieldSize(message, &field);
    const bool numbers = field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE &&
                         field.cpp_type() != FieldDescriptor::CPPTYPE_STRING;
    const int most = numbers ? kMaxNumbers : kMaxMessagesInList;
    if (size <= most) return true;
    at.Fail(field.name(),
            fmt::format("expected at most {} items, found {}", Grouped(most), Grouped(size)));
    ok_ = false;
    return false;
  }

  void CheckText(const std::string& name, const std::string& text, const Checker& at) {
    const size_t most = name == kConfigField ? kMaxConfigBytes : kMaxTextBytes;
    if (text.size() <= most) return;
    at.Fail(name,
            fmt::format("expected at most {} bytes, found {}", Grouped(static_cast<int64_t>(most)),
                        Grouped(static_cast<int64_t>(text.size()))));
    ok_ = false;
  }

  int messages_ = 0;
  bool is_full_ = false;  // nothing more is looked at
  bool ok_ = true;
};

// Of one value, or of item `index` of a list.
void CheckValue(const Message& message, const FieldDescriptor& field, int index,
                const std::string& name, const Checker& at) {
  const Reflection& reflection = *message.GetReflection();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    const double value = index < 0 ? reflection.GetDouble(message, &field)
                                   : reflection.GetRepeatedDouble(message, &field, index);
    at.Number(name, value, true, "a finite number");
  } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    const int value = index < 0 ? reflection.GetEnumValue(message, &field)
                                : reflection.GetRepeatedEnumValue(message, &field, index);
    at.Enum(name, field.enum_type()->FindValueByNumber(value) != nullptr, value);
  }
}

void CollectValues(const Message& message, const Checker& at) {
  const Reflection& reflection = *message.GetReflection();
  for (const FieldDescriptor* field : SetFields(message)) {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      CheckValue(message, *field, -1, field->name(), at);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      CheckValue(message, *field, i, fmt::format("{}[{}]", field->name(), i), at);
    }
  }
  ForEachMessage(message, [&at](const std::string& name, const Message& part) {
    // Parameters of a method, a map, are checked by its declaration.
    if (part.GetDescriptor()->map_key() != nullptr) return;
    CollectValues(part, at.In(name));
  });
}

}  // namespace

bool CheckSizes(const Message& message, const Checker& at) {
  SizeChecker sizes;
  sizes.Check(message, 0, at);
  return sizes.ok();
}

void CheckValues(const Message& message, std::vector<Violation>& violations) {
  std::vector<Violation> found;
  CollectValues(message, Checker(found));
  std::set<std::string> reported;
  for (const Violation& violation : violations) reported.insert(violation.field);
  for (Violation& violation : found) {
    if (!reported.contains(violation.field)) violations.push_back(std::move(violation));
  }
}

}  // namespace espalier::config

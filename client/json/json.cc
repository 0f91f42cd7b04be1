#include "client/json/json.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/time/time.h"
#include "common/base/printable.h"
#include "common/config/job_file.h"
#include "common/wire/proto_time.h"
#include "espalier/v1/types.pb.h"
#include "fmt/format.h"

namespace espalier::client {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

Json NumberOf(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

// The double with the fewest digits among those that read back as `value`.
Json NumberOf(float value) {
  if (!std::isfinite(value)) return NumberOf(static_cast<double>(value));
  return std::strtod(fmt::format("{}", value).c_str(), nullptr);
}

Json WordOf(const FieldDescriptor& field, int number) {
  const auto* value = field.enum_type()->FindValueByNumber(number);
  if (value == nullptr) return number;
  return absl::AsciiStrToUpper(config::EnumWord(*value));
}

Json BytesOf(const FieldDescriptor& field, const std::string& value) {
  return field.type() == FieldDescriptor::TYPE_BYTES ? absl::Base64Escape(value) : value;
}

// The value of item `index` of a list.
Json ItemOf(const Message& message, const FieldDescriptor& field, int index, Unset unset) {
  const auto& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetRepeatedBool(message, &field, index);
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetRepeatedInt32(message, &field, index);
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.GetRepeatedInt64(message, &field, index);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection.GetRepeatedUInt32(message, &field, index);
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.GetRepeatedUInt64(message, &field, index);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return NumberOf(reflection.GetRepeatedFloat(message, &field, index));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return NumberOf(reflection.GetRepeatedDouble(message, &field, index));
    case FieldDescriptor::CPPTYPE_STRING:
      return BytesOf(field, reflection.GetRepeatedString(message, &field, index));
    case FieldDescriptor::CPPTYPE_ENUM:
      return WordOf(field, reflection.GetRepeatedEnumValue(message, &field, index));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return JsonOf(reflection.GetRepeatedMessage(message, &field, index), unset);
  }
  return nullptr;
}

// The value of a field that is no list.
Json ValueOf(const Message& message, const FieldDescriptor& field, Unset unset) {
  const auto& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.GetInt64(message, &field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.GetUInt64(message, &field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return NumberOf(reflection.GetFloat(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return NumberOf(reflection.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_STRING:
      return BytesOf(field, reflection.GetString(message, &field));
    case FieldDescriptor::CPPTYPE_ENUM:
      return WordOf(field, reflection.GetEnumValue(message, &field));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return JsonOf(reflection.GetMessage(message, &field), unset);
  }
  return nullptr;
}

Json MapOf(const Message& message, const FieldDescriptor& field, Unset unset) {
  const auto& reflection = *message.GetReflection();
  std::map<std::string, Json> sorted;
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
    const auto& type = *entry.GetDescriptor();
    const Json key = ValueOf(entry, *type.map_key(), unset);
    sorted[key.is_string() ? key.get<std::string>() : key.dump()] =
        ValueOf(entry, *type.map_value(), unset);
  }
  Json object = Json::object();
  for (auto& [key, value] : sorted) object[key] = std::move(value);
  return object;
}

Json ListOf(const Message& message, const FieldDescriptor& field, Unset unset) {
  Json list = Json::array();
  for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i) {
    list.push_back(ItemOf(message, field, i, unset));
  }
  return list;
}

bool IsPrinted(const Message& message, const FieldDescriptor& field, Unset unset) {
  const auto& reflection = *message.GetReflection();
  if (field.is_repeated()) {
    return unset == Unset::kShown || reflection.FieldSize(message, &field) > 0;
  }
  if (unset == Unset::kLeftOut || field.has_presence()) return reflection.HasField(message, &field);
  return field.cpp_type() != FieldDescriptor::CPPTYPE_ENUM ||
         reflection.GetEnumValue(message, &field) != 0;
}

Json ParameterOf(const v1::Value& value) {
  switch (value.kind_case()) {
    case v1::Value::kBoolValue:
      return value.bool_value();
    case v1::Value::kIntValue:
      return value.int_value();
    case v1::Value::kDoubleValue:
      return NumberOf(value.double_value());
    case v1::Value::kStringValue:
      return value.string_value();
    case v1::Value::KIND_NOT_SET:
      return nullptr;
  }
  return nullptr;
}

// "1.5s": exact, without zeros at its end.
std::string DurationText(const google::protobuf::Duration& duration) {
  const bool negative = duration.seconds() < 0 || duration.nanos() < 0;
  std::string text = fmt::format("{}{}.{:09}", negative ? "-" : "", std::abs(duration.seconds()),
                                 std::abs(duration.nanos()));
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text + "s";
}

// Words that readers of YAML take for something else than text when they stand as a key alone.
bool IsPlainKey(const std::string& key) {
  static const std::set<std::string> kOtherwise = {"y",  "n",   "yes",  "no",   "true",
                                                   "on", "off", "null", "false"};
  const auto plain = [](unsigned char c) { return std::islower(c) || std::isdigit(c) || c == '_'; };
  return !key.empty() && std::islower(static_cast<unsigned char>(key.front())) &&
         std::all_of(key.begin(), key.end(), plain) && !kOtherwise.contains(key);
}

std::string Dump(const Json& value, int indent = -1) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// JSON scalars and quoted strings are valid YAML. YAML 1.1 takes 1e-08 for text, and not 1.0e-08.
std::string YamlScalar(const Json& value) {
  std::string text = Dump(value);
  const size_t exponent = text.find('e');
  if (value.is_number_float() && exponent != std::string::npos &&
      text.find('.') == std::string::npos) {
    text.insert(exponent, ".0");
  }
  return text;
}

void WriteYaml(const Json& node, const std::string& indent, std::string& out) {
  const auto is_nested = [](const Json& value) { return value.is_structured() && !value.empty(); };
  if (node.is_object()) {
    for (const auto& [key, value] : node.items()) {
      out += fmt::format("{}{}:", indent, IsPlainKey(key) ? key : Dump(key));
      if (is_nested(value)) {
        out += "\n";
        WriteYaml(value, indent + "  ", out);
      } else {
        out += fmt::format(" {}\n", YamlScalar(value));
      }
    }
  } else {
    for (const Json& value : node) {
      if (is_nested(value)) {
        std::string item;
        WriteYaml(value, indent + "  ", item);
        item.replace(indent.size(), 2, "- ");
        out += item;
      } else {
        out += fmt::format("{}- {}\n", indent, YamlScalar(value));
      }
    }
  }
}

}  // namespace

Json JsonOf(const Message& message, Unset unset) {
  if (const auto* duration = dynamic_cast<const google::protobuf::Duration*>(&message)) {
    return DurationText(*duration);
  }
  if (const auto* time = dynamic_cast<const google::protobuf::Timestamp*>(&message)) {
    return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", wire::FromProto(*time), absl::UTCTimeZone());
  }
  if (const auto* value = dynamic_cast<const v1::Value*>(&message)) return ParameterOf(*value);
  Json object = Json::object();
  const auto& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (!IsPrinted(message, field, unset)) continue;
    object[field.name()] = field.is_map()        ? MapOf(message, field, unset)
                           : field.is_repeated() ? ListOf(message, field, unset)
                                                 : ValueOf(message, field, unset);
  }
  return object;
}

std::string ToJson(const Json& value, Layout layout) {
  constexpr int kIndent = 2;
  return base::PrintableQuoted(Dump(value, layout == Layout::kLine ? -1 : kIndent),
                               base::Notation::kJson) +
         "\n";
}

std::string ToJson(const Message& message, Layout layout) {
  return ToJson(JsonOf(message), layout);
}

std::string ToYaml(const Json& value) {
  std::string text;
  WriteYaml(value, "", text);
  return base::PrintableQuoted(text, base::Notation::kYaml);
}

std::string ToYaml(const Message& message) { return ToYaml(JsonOf(message)); }

std::string QuotedText(const std::string& text) {
  return base::PrintableQuoted(Dump(text), base::Notation::kYaml);
}

}  // namespace espalier::client

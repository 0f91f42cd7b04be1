#include "common/config/message_reader.h"

#include <google/protobuf/duration.pb.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/time/time.h"
#include "common/base/check.h"
#include "common/config/job_file.h"
#include "common/config/text.h"
#include "espalier/v1/job.pb.h"
#include "fmt/format.h"

namespace espalier::config {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;

std::string Join(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

// "QuorumPolicy" → "QUORUM_POLICY_": what the style guide puts in front of every value of the enum.
std::string ValuePrefix(const EnumDescriptor& type) {
  std::string prefix;
  for (const char c : type.name()) {
    if (std::isupper(static_cast<unsigned char>(c)) && !prefix.empty()) prefix += '_';
    prefix += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return prefix + "_";
}

std::string Found(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNothing:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return node.quoted ? Quoted(node.scalar) + " in quotes" : Quoted(node.scalar);
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
  }
  return "nothing";
}

template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsDigit);
}

// 0x1f and 0o17, as in YAML 1.2; without a sign.
template <typename T>
std::optional<T> ParsePrefixed(std::string_view text) {
  const int base = text.starts_with("0x") ? 16 : 8;
  text.remove_prefix(2);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && text.front() != '-' ? std::optional<T>(value) : std::nullopt;
}

// 010, which is 8 for YAML 1.1 and 10 for YAML 1.2.
bool IsAmbiguousOctal(std::string_view text) {
  if (!text.empty() && (text.front() == '+' || text.front() == '-')) text.remove_prefix(1);
  return text.size() > 1 && text.front() == '0' && IsDigits(text);
}

template <typename T>
std::optional<T> ParseWhole(const std::string& text) {
  if (IsAmbiguousOctal(text)) return std::nullopt;
  if (text.starts_with("0x") || text.starts_with("0o")) return ParsePrefixed<T>(text);
  return ParseNumber<T>(text);
}

// How a number that people write in another way is written here; "" for everything else.
std::string NumberHint(const YamlNode& node) {
  std::string text = node.scalar;
  if (node.kind != YamlNode::Kind::kScalar) return "";
  if (IsAmbiguousOctal(text)) {
    return fmt::format(
        "; programs read it as {} or as an octal number, so write it without the "
        "leading 0",
        text.erase(0, text.find_first_not_of("+-0")));
  }
  if (node.quoted && ParseNumber<double>(text)) return "; leave the quotes out";
  if (text.empty() || !IsDigit(text.back())) return "";
  std::string plain = text;
  std::erase(plain, '_');
  if (plain != text && ParseNumber<double>(plain)) return "; write " + plain;
  const size_t comma = text.find(',');
  if (comma == std::string::npos || comma != text.rfind(',')) return "";
  plain = text;
  plain[comma] = '.';
  return ParseNumber<double>(plain) ? "; write a decimal point: " + plain : "";
}

std::string BoolHint(const std::string& word) {
  for (const char* yes : {"yes", "Yes", "YES", "y", "Y", "on", "On", "ON"}) {
    if (word == yes) return "; write true";
  }
  for (const char* no : {"no", "No", "NO", "n", "N", "off", "Off", "OFF"}) {
    if (word == no) return "; write false";
  }
  return "";
}

std::optional<double> ParseDouble(const std::string& text) {
  // YAML's own words for what is not a finite number; the validator refuses them with the field's
  // range.
  if (text == ".nan" || text == ".NaN" || text == ".NAN") {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (text == ".inf" || text == "+.inf" || text == ".Inf") {
    return std::numeric_limits<double>::infinity();
  }
  if (text == "-.inf" || text == "-.Inf") return -std::numeric_limits<double>::infinity();
  // "inf" and "nan" are words in YAML.
  const size_t sign = text.find_first_not_of("+-");
  if (sign == std::string::npos || !(IsDigit(text[sign]) || text[sign] == '.')) return std::nullopt;
  return ParseNumber<double>(text);
}

std::optional<bool> ParseBool(const YamlNode& node) {
  if (node.quoted) return std::nullopt;
  if (node.scalar == "true" || node.scalar == "True" || node.scalar == "TRUE") return true;
  if (node.scalar == "false" || node.scalar == "False" || node.scalar == "FALSE") return false;
  return std::nullopt;
}

template <typename T>
std::string WholeNumber() {
  return fmt::format("a whole number from {} to {}", std::numeric_limits<T>::min(),
                     std::numeric_limits<T>::max());
}

// The narrowest type that a plain word can be; quoted text stays text.
v1::Value ToValue(const YamlNode& node) {
  v1::Value value;
  if (node.quoted) {
    value.set_string_value(node.scalar);
  } else if (const auto flag = ParseBool(node)) {
    value.set_bool_value(*flag);
  } else if (const auto whole = ParseWhole<int64_t>(node.scalar)) {
    value.set_int_value(*whole);
  } else if (const auto real = ParseDouble(node.scalar)) {
    value.set_double_value(*real);
  } else {
    value.set_string_value(node.scalar);
  }
  return value;
}

}  // namespace

std::vector<std::string> FieldNames(const google::protobuf::Descriptor& type) {
  std::vector<std::string> names;
  names.reserve(static_cast<size_t>(type.field_count()));
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return names;
}

std::string EnumWord(const EnumValueDescriptor& value) {
  if (value.number() == 0) return "";
  std::string word = value.name().substr(ValuePrefix(*value.type()).size());
  for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return word;
}

std::vector<std::string> EnumWords(const EnumDescriptor& type) {
  std::vector<std::string> words;
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->number() != 0) words.push_back(EnumWord(*type.value(i)));
  }
  return words;
}

void MessageReader::Fail(const YamlNode& node, const std::string& path, const std::string& why) {
  violations_.push_back({path, node.line > 0 && lines_ != nullptr
                                   ? fmt::format("line {}: {}", node.line, why)
                                   : why});
}

void MessageReader::FailExpected(const YamlNode& node, const std::string& path,
                                 const std::string& expected, const std::string& hint) {
  Fail(node, path, fmt::format("expected {}, found {}{}", expected, Found(node), hint));
}

void MessageReader::FailUnknown(const YamlNode& map, const YamlEntry& entry,
                                const std::string& path, const google::protobuf::Descriptor& type) {
  const size_t index = static_cast<size_t>(&entry - map.entries.data());
  const bool nothing = entry.value.kind == YamlNode::Kind::kNothing;
  if (nothing && index > 0 && IsDigits(entry.name)) {
    // Inside braces "learning_rate: 0,1" is the field learning_rate and a field named 1.
    const YamlEntry& before = map.entries[index - 1];
    const std::string written = before.value.scalar + "," + entry.name;
    return Fail(before.value, Join(path, Shortened(before.name)),
                fmt::format("expected a number, found {}; write a decimal point: {}.{}",
                            Quoted(written), before.value.scalar, entry.name));
  }
  const size_t colon = entry.name.find(':');
  const bool glued = nothing && colon != std::string::npos;
  Fail(entry.value, Join(path, Shortened(entry.name)),
       glued
           ? fmt::format("unknown field {}; a space is missing after the colon", Quoted(entry.name))
           : UnknownName("field", entry.name, FieldNames(type)));
}

void MessageReader::Read(const YamlNode& node, const std::string& path, Message& message) {
  const auto& type = *message.GetDescriptor();
  std::map<const google::protobuf::OneofDescriptor*, std::string> chosen;
  for (const YamlEntry& entry : node.entries) {
    const auto& [name, value] = entry;
    const std::string field_path = Join(path, Shortened(name));
    const Field* field = type.FindFieldByName(name);
    if (field == nullptr) {
      FailUnknown(node, entry, path, type);
      continue;
    }
    if (lines_ != nullptr) (*lines_)[field_path] = value.line;
    if (const auto* oneof = field->real_containing_oneof(); oneof != nullptr) {
      const auto [it, first] = chosen.emplace(oneof, name);
      if (!first) {
        Fail(value, field_path,
             fmt::format("only one of {} and {} may be given", it->second, name));
        continue;
      }
    }
    ReadField(value, field_path, *field, message);
  }
}

void MessageReader::ReadField(const YamlNode& node, const std::string& path, const Field& field,
                              Message& message) {
  if (field.is_map()) return ReadParameters(node, path, field, message);
  if (field.is_repeated()) return ReadList(node, path, field, message);
  if (field.cpp_type() != Field::CPPTYPE_MESSAGE) return ReadScalar(node, path, field, message);
  ReadMessage(node, path, field, *message.GetReflection()->MutableMessage(&message, &field));
}

void MessageReader::ReadMessage(const YamlNode& node, const std::string& path, const Field& field,
                                Message& target) {
  if (field.message_type()->full_name() == "google.protobuf.Duration") {
    return ReadDuration(node, path, target);
  }
  if (node.kind != YamlNode::Kind::kMap) {
    return FailExpected(node, path,
                        "a map with fields of " + Joined(FieldNames(*field.message_type()), ", "));
  }
  Read(node, path, target);
}

void MessageReader::ReadList(const YamlNode& node, const std::string& path, const Field& field,
                             Message& message) {
  if (node.kind != YamlNode::Kind::kList) return FailExpected(node, path, "a list");
  for (size_t i = 0; i < node.items.size(); ++i) {
    const std::string item_path = fmt::format("{}[{}]", path, i);
    if (lines_ != nullptr) (*lines_)[item_path] = node.items[i].line;
    if (field.cpp_type() == Field::CPPTYPE_MESSAGE) {
      ReadMessage(node.items[i], item_path, field,
                  *message.GetReflection()->AddMessage(&message, &field));
    } else {
      ReadScalar(node.items[i], item_path, field, message);
    }
  }
}

void MessageReader::ReadParameters(const YamlNode& node, const std::string& path,
                                   const Field& field, Message& message) {
  if (node.kind != YamlNode::Kind::kMap) {
    return FailExpected(node, path, "a map of parameters, for example {density: 0.1}");
  }
  ESPALIER_CHECK(message.GetDescriptor() == v1::MethodSpec::descriptor(),
                 "method parameters are the only map of a job");
  auto& method = static_cast<v1::MethodSpec&>(message);
  for (const auto& [name, value] : node.entries) {
    const std::string value_path = Join(path, Shortened(name));
    if (lines_ != nullptr) (*lines_)[value_path] = value.line;
    if (value.kind != YamlNode::Kind::kScalar) {
      FailExpected(value, value_path, "true, false, a number or a word");
      continue;
    }
    (*method.mutable_parameters())[name] = ToValue(value);
  }
}

void MessageReader::ReadDuration(const YamlNode& node, const std::string& path, Message& message) {
  absl::Duration duration;
  if (node.kind != YamlNode::Kind::kScalar ||
      !absl::ParseDuration(absl::string_view(node.scalar.data(), node.scalar.size()), &duration) ||
      duration == absl::InfiniteDuration() || duration == -absl::InfiniteDuration()) {
    const bool number = node.kind == YamlNode::Kind::kScalar && ParseNumber<double>(node.scalar);
    return FailExpected(
        node, path, "a duration such as 30s, 10m or 1h30m",
        number ? fmt::format("; with its unit {0} seconds are {0}s", node.scalar) : "");
  }
  auto& proto = static_cast<google::protobuf::Duration&>(message);
  const int64_t seconds = absl::IDivDuration(duration, absl::Seconds(1), &duration);
  proto.set_seconds(seconds);
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

void MessageReader::ReadScalar(const YamlNode& node, const std::string& path, const Field& field,
                               Message& message) {
  const auto& reflection = *message.GetReflection();
  if (field.cpp_type() == Field::CPPTYPE_ENUM) return ReadEnum(node, path, field, message);
  const bool scalar = node.kind == YamlNode::Kind::kScalar;
  const bool plain = scalar && !node.quoted;
  const bool list = field.is_repeated();
  switch (field.cpp_type()) {
    case Field::CPPTYPE_BOOL:
      if (const auto value = scalar ? ParseBool(node) : std::nullopt) {
        return reflection.SetBool(&message, &field, *value);
      }
      return FailExpected(node, path, "true or false", BoolHint(node.scalar));
    case Field::CPPTYPE_INT32:
      if (const auto value = plain ? ParseWhole<int32_t>(node.scalar) : std::nullopt) {
        if (list) return reflection.AddInt32(&message, &field, *value);
        return reflection.SetInt32(&message, &field, *value);
      }
      return FailExpected(node, path, WholeNumber<int32_t>(), NumberHint(node));
    case Field::CPPTYPE_INT64:
      if (const auto value = plain ? ParseWhole<int64_t>(node.scalar) : std::nullopt) {
        if (list) return reflection.AddInt64(&message, &field, *value);
        return reflection.SetInt64(&message, &field, *value);
      }
      return FailExpected(node, path, WholeNumber<int64_t>(), NumberHint(node));
    case Field::CPPTYPE_UINT64:
      if (const auto value = plain ? ParseWhole<uint64_t>(node.scalar) : std::nullopt) {
        return reflection.SetUInt64(&message, &field, *value);
      }
      return FailExpected(node, path, WholeNumber<uint64_t>(), NumberHint(node));
    case Field::CPPTYPE_DOUBLE:
      if (const auto value = plain ? ParseDouble(node.scalar) : std::nullopt) {
        if (list) return reflection.AddDouble(&message, &field, *value);
        return reflection.SetDouble(&message, &field, *value);
      }
      return FailExpected(node, path, "a number", NumberHint(node));
    case Field::CPPTYPE_STRING:
      if (scalar && list) return reflection.AddString(&message, &field, node.scalar);
      if (scalar) return reflection.SetString(&message, &field, node.scalar);
      return FailExpected(node, path, "text");
    default:
      return Fail(node, path, "this field cannot be set in a job file");
  }
}

void MessageReader::ReadEnum(const YamlNode& node, const std::string& path, const Field& field,
                             Message& message) {
  const EnumDescriptor& type = *field.enum_type();
  const std::vector<std::string> words = EnumWords(type);
  if (node.kind != YamlNode::Kind::kScalar) {
    return FailExpected(node, path, "one of " + Joined(words, ", "));
  }
  // Words that are printed as data are in capitals.
  const std::string word = absl::AsciiStrToLower(node.scalar);
  for (int i = 0; i < type.value_count(); ++i) {
    const EnumValueDescriptor& value = *type.value(i);
    if (value.number() != 0 && EnumWord(value) == word) {
      return message.GetReflection()->SetEnum(&message, &field, &value);
    }
  }
  Fail(node, path,
       fmt::format("expected one of {}, found {}{}", Joined(words, ", "), Quoted(node.scalar),
                   DidYouMean(node.scalar, words)));
}

}  // namespace espalier::config

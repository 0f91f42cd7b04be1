#include "common/config/parameters.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "common/base/check.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::config {
namespace {

constexpr size_t kNotNear = std::numeric_limits<size_t>::max();

template <typename T>
const T& Get(const std::map<std::string, ParameterValue>& values, const std::string& name) {
  const auto it = values.find(name);
  ESPALIER_CHECK(it != values.end(), name.c_str());
  const T* value = std::get_if<T>(&it->second);
  ESPALIER_CHECK(value != nullptr, name.c_str());
  return *value;
}

std::string TypeWord(const ParameterValue& value) {
  if (std::holds_alternative<bool>(value)) return "true or false";
  if (std::holds_alternative<int64_t>(value)) return "a whole number";
  if (std::holds_alternative<double>(value)) return "a number";
  return "a word";
}

// What was given, as a person would say it.
std::string Found(const v1::Value& value) {
  switch (value.kind_case()) {
    case v1::Value::kBoolValue:
      return value.bool_value() ? "true" : "false";
    case v1::Value::kIntValue:
      return fmt::format("{}", value.int_value());
    case v1::Value::kDoubleValue:
      return fmt::format("{}", value.double_value());
    case v1::Value::kStringValue:
      return Quoted(value.string_value());
    case v1::Value::KIND_NOT_SET:
      return "nothing";
  }
  return "nothing";
}

std::string RangeText(const Parameter& parameter) {
  if (std::holds_alternative<bool>(parameter.default_value)) return "true or false";
  if (std::holds_alternative<std::string>(parameter.default_value)) {
    return Joined(parameter.choices, ", ");
  }
  const bool low = std::isfinite(parameter.min);
  const bool high = std::isfinite(parameter.max);
  const char* below = parameter.max_exclusive ? "<" : "≤";
  if (low && high) {
    return fmt::format("{} {} x {} {}", parameter.min, parameter.min_exclusive ? "<" : "≤", below,
                       parameter.max);
  }
  if (low) return fmt::format("x {} {}", parameter.min_exclusive ? ">" : "≥", parameter.min);
  if (high) return fmt::format("x {} {}", below, parameter.max);
  return "any";
}

bool InRange(const Parameter& parameter, double value) {
  if (!std::isfinite(value)) return false;
  if (parameter.min_exclusive ? value <= parameter.min : value < parameter.min) return false;
  return !(parameter.max_exclusive ? value >= parameter.max : value > parameter.max);
}

// Converts `given` to the declared type; on a mistake returns what to tell the user.
std::string Convert(const Parameter& parameter, const v1::Value& given, ParameterValue& out) {
  const auto mismatch = [&] {
    return fmt::format("expected {}, found {}", TypeWord(parameter.default_value), Found(given));
  };
  const auto out_of_range = [&] {
    return fmt::format("must be {}, found {}", RangeText(parameter), Found(given));
  };
  if (std::holds_alternative<bool>(parameter.default_value)) {
    if (given.kind_case() != v1::Value::kBoolValue) return mismatch();
    out = given.bool_value();
    return "";
  }
  if (std::holds_alternative<int64_t>(parameter.default_value)) {
    if (given.kind_case() != v1::Value::kIntValue) return mismatch();
    if (!InRange(parameter, static_cast<double>(given.int_value()))) return out_of_range();
    out = given.int_value();
    return "";
  }
  if (std::holds_alternative<double>(parameter.default_value)) {
    double value = given.double_value();
    if (given.kind_case() == v1::Value::kIntValue) {
      value = static_cast<double>(given.int_value());
    } else if (given.kind_case() != v1::Value::kDoubleValue) {
      return mismatch();
    }
    if (!InRange(parameter, value)) return out_of_range();
    out = value;
    return "";
  }
  if (given.kind_case() != v1::Value::kStringValue) return mismatch();
  const std::string& word = given.string_value();
  if (std::find(parameter.choices.begin(), parameter.choices.end(), word) ==
      parameter.choices.end()) {
    return fmt::format("must be one of {}, found {}{}", RangeText(parameter), Found(given),
                       DidYouMean(word, parameter.choices));
  }
  out = word;
  return "";
}

std::string Folded(const std::string& word) {
  std::string folded = word;
  for (char& c : folded) {
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return folded;
}

// Edit distance in which swapping two neighbours is one edit, or kNotNear above `limit`.
size_t EditDistance(const std::string& a, const std::string& b, size_t limit) {
  if (a.size() > b.size() + limit || b.size() > a.size() + limit) return kNotNear;
  std::vector<size_t> before(b.size() + 1);
  std::vector<size_t> above(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) above[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, substitute});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[b.size()] <= limit ? above[b.size()] : kNotNear;
}

}  // namespace

bool Parameters::Bool(const std::string& name) const { return Get<bool>(values_, name); }
int64_t Parameters::Int(const std::string& name) const { return Get<int64_t>(values_, name); }
double Parameters::Double(const std::string& name) const { return Get<double>(values_, name); }
const std::string& Parameters::Choice(const std::string& name) const {
  return Get<std::string>(values_, name);
}

Parameters Resolve(const ParameterSchema& schema,
                   const google::protobuf::Map<std::string, v1::Value>& given,
                   const std::string& path, std::vector<Violation>& violations) {
  std::map<std::string, ParameterValue> values;
  std::vector<std::string> known;
  for (const Parameter& parameter : schema) {
    known.push_back(parameter.name);
    ParameterValue& value = values[parameter.name] = parameter.default_value;
    const auto it = given.find(parameter.name);
    if (it == given.end()) continue;
    const std::string problem = Convert(parameter, it->second, value);
    if (!problem.empty()) violations.push_back({path + "." + parameter.name, problem});
  }
  // A protobuf map has no order; a sorted report is the same on every run.
  std::vector<std::string> unknown;
  for (const auto& [name, value] : given) {
    if (!values.contains(name)) unknown.push_back(name);
  }
  std::sort(unknown.begin(), unknown.end());
  for (const std::string& name : unknown) {
    violations.push_back({path + "." + Shortened(name), UnknownName("parameter", name, known)});
  }
  return Parameters(std::move(values));
}

v1::MethodParameter ToProto(const Parameter& parameter) {
  v1::MethodParameter proto;
  proto.set_name(parameter.name);
  proto.set_doc(parameter.doc);
  proto.set_range(RangeText(parameter));
  v1::Value& value = *proto.mutable_default_value();
  if (const bool* flag = std::get_if<bool>(&parameter.default_value)) {
    proto.set_type(v1::MethodParameter::TYPE_BOOL);
    value.set_bool_value(*flag);
  } else if (const int64_t* number = std::get_if<int64_t>(&parameter.default_value)) {
    proto.set_type(v1::MethodParameter::TYPE_INT);
    value.set_int_value(*number);
  } else if (const double* real = std::get_if<double>(&parameter.default_value)) {
    proto.set_type(v1::MethodParameter::TYPE_DOUBLE);
    value.set_double_value(*real);
  } else {
    proto.set_type(v1::MethodParameter::TYPE_ENUM);
    value.set_string_value(std::get<std::string>(parameter.default_value));
    for (const std::string& choice : parameter.choices) proto.add_choices(choice);
  }
  return proto;
}

std::string Nearest(const std::string& word, const std::vector<std::string>& known) {
  constexpr size_t kLongestWord = 64;
  if (word.empty() || word.size() > kLongestWord) return "";
  // A third of the letters may be wrong, at most three: "densty" is a slip, "rate" for "data" is
  // not.
  const size_t limit = std::clamp<size_t>(word.size() / 3, 1, 3);
  size_t best_distance = kNotNear;
  std::string best;
  for (const std::string& candidate : known) {
    const size_t distance = EditDistance(Folded(word), Folded(candidate), limit);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace espalier::config

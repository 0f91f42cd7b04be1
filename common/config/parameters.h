// Parameters: a method declares its parameters once; parser, `espalier method describe`, docs page
// and error texts all come from that declaration.
//
// Threading: schemas are immutable after construction. Determinism: pure.
// Errors:    Resolve() collects every violation ("did you mean", range, type) instead of stopping.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "espalier/v1/method.pb.h"
#include "espalier/v1/types.pb.h"

namespace espalier::config {

struct Violation {
  std::string field;        // path from the root, for example "method.parameters.density"
  std::string description;  // expected, found, what to do
};

using ParameterValue = std::variant<bool, int64_t, double, std::string>;

// Declaration of one parameter. The variant's alternative of `default_value` is its type; a string
// parameter is an enum over `choices`.
struct Parameter {
  std::string name;
  ParameterValue default_value;
  std::string doc;
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool min_exclusive = false;
  bool max_exclusive = false;
  std::vector<std::string> choices;
};

// All parameters of a method after defaults were filled in. Getters CHECK that the name is
// declared.
class Parameters {
 public:
  explicit Parameters(std::map<std::string, ParameterValue> values) : values_(std::move(values)) {}
  bool Bool(const std::string& name) const;
  int64_t Int(const std::string& name) const;
  double Double(const std::string& name) const;
  const std::string& Choice(const std::string& name) const;

 private:
  std::map<std::string, ParameterValue> values_;
};

using ParameterSchema = std::vector<Parameter>;

// Fills defaults, converts int to double where a double is declared, and appends a violation for
// each unknown name (with the nearest known one), wrong type or value out of range. `path` is the
// prefix of field paths, for example "method.parameters".
Parameters Resolve(const ParameterSchema& schema,
                   const google::protobuf::Map<std::string, v1::Value>& given,
                   const std::string& path, std::vector<Violation>& violations);

// The declaration in the API's form, and a human range such as "0 < x ≤ 1".
v1::MethodParameter ToProto(const Parameter& parameter);

// The known word nearest to `word` by edit distance when it is near enough to be a typing slip,
// else "".
std::string Nearest(const std::string& word, const std::vector<std::string>& known);

}  // namespace espalier::config

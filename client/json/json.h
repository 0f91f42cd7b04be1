// What programs get: JSON and YAML of the API's messages and of what commands put together. All of
// it is written here, so that one thing looks the same everywhere. docs/reference/json.md describes
// it; files in tests/golden/json hold it.
//
// A message is an object, with the fields' names and in the order of its proto:
//   numbers       as JSON numbers, also those of 64 bits; floating-point ones with the fewest
//                 digits that read back as the same float or double, and always with a point or an
//                 exponent. What is no number is the text "NaN", "Infinity" or "-Infinity".
//   enumerations  as the word of the value without the type's prefix, in capitals: STATE_RUNNING of
//                 Job.State is "RUNNING". UNSPECIFIED is left out. The number of a value that this
//                 program does not know.
//   timestamps    RFC 3339 in UTC with as many digits of a second as there are.
//   durations     seconds with their unit, "1.5s".
//   bytes         base64.
//   Value         the value itself; null when it is not set.
//   maps          objects sorted by key.
// Other fields without a value are printed as well, lists as []; absent are messages, optional
// fields and members of a oneof that are not set.
#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "nlohmann/json.hpp"

namespace espalier::client {

using Json = nlohmann::ordered_json;

enum class Unset {
  kShown,    // as said above
  kLeftOut,  // all of them: what a job file needs
};
Json JsonOf(const google::protobuf::Message& message, Unset unset = Unset::kShown);

enum class Layout { kIndented, kLine };

// JSON with a final newline. Text of others is escaped as base::PrintableQuoted() does; bytes that
// are not UTF-8 are replaced.
std::string ToJson(const Json& value, Layout layout = Layout::kIndented);
std::string ToJson(const google::protobuf::Message& message, Layout layout = Layout::kIndented);
// The same content as YAML, which YAML 1.1 and 1.2 read alike.
std::string ToYaml(const Json& value);
std::string ToYaml(const google::protobuf::Message& message);

// `text` as a quoted JSON string, which YAML reads as the same text.
std::string QuotedText(const std::string& text);

}  // namespace espalier::client

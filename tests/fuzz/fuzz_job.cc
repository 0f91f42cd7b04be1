// Jobs, as YAML and as the message that clients send: what is wrong with a job is the same before
// and after its defaults, and a job in which nothing is wrong has a model, and methods can say what
// they think of it.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/job_file.h"
#include "common/config/validate.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/program.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/messages.h"

namespace {

using espalier::fuzz::Input;
using espalier::fuzz::Require;
namespace config = espalier::config;
namespace v1 = espalier::v1;

void CheckLines(const config::JobFile& file, std::string_view text) {
  int lines = 1;
  for (const char c : text) lines += c == '\n' || c == '\r' ? 1 : 0;
  for (const auto& [path, line] : file.lines) {
    Require(line >= 1 && line <= lines, "a field is on a line of the file");
    Require(file.LineOf(path) == line, "a field is found on its line");
  }
}

void Judge(v1::JobSpec spec) {
  if (!config::CheckSizes(spec).empty()) {
    Require(!config::ValidateJobSpec(spec).empty(), "what is too large is refused");
    return;
  }
  const auto before = config::ValidateJobSpec(spec);
  const v1::JobSpec given = spec;
  config::ApplyDefaults(spec);
  const auto after = config::ValidateJobSpec(spec);
  Require(before.empty() == after.empty(), "defaults neither mend a job nor break it");
  v1::JobSpec twice = spec;
  config::ApplyDefaults(twice);
  Require(twice.ByteSizeLong() == spec.ByteSizeLong(), "defaults are applied once");
  static const auto methods = espalier::server::methods::MethodRegistry::Builtin();
  auto violations = after;
  if (!spec.method().name().empty()) methods.Validate(spec, violations);
  if (!after.empty() || !spec.model().pretrained().empty()) return;
  const auto layout = espalier::wire::LayoutOf(spec.model());
  Require(layout.ok(), "a job in which nothing is wrong has a model");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  if (input.Choice(2) == 0) {
    v1::JobSpec spec;
    if (espalier::fuzz::Parse(input.Rest(), spec)) Judge(std::move(spec));
    return 0;
  }
  const std::string_view assignment = input.Part();
  std::vector<config::Violation> violations;
  config::JobFile file = config::ParseJobFile(input.Rest(), violations);
  CheckLines(file, input.Rest());
  Require(file.readable || !violations.empty(), "what cannot be read has a violation");
  if (!assignment.empty()) {
    config::ApplyOverride(assignment, file.spec, violations);
    (void)config::IsJobField(assignment);
  }
  config::AssumeSizes(file.spec);
  Judge(std::move(file.spec));
  return 0;
}

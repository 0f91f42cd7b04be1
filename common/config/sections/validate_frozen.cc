#include "common/config/sections/validate_frozen.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "common/wire/model_spec/families/model_family.h"
#include "common/wire/model_spec/frozen.h"
#include "common/wire/model_spec/model_spec.h"

namespace espalier::config {
namespace {

constexpr int kMaxPatterns = 1'000;
constexpr size_t kMaxPatternBytes = 200;
constexpr size_t kShownNames = 4;
// Of methods that prune a trained model before its first round.
constexpr std::array kBudgetParameters = {"density", "distribution", "epsilon"};

bool IsF32(v1::Wire::Values values) {
  return values == v1::Wire::VALUES_UNSPECIFIED || values == v1::Wire::VALUES_F32;
}

// Names of weights, some of them where there are many.
std::string SomeNames(const tensor::ModelLayout& layout) {
  std::vector<std::string> names;
  for (const tensor::TensorSpec& tensor : layout) {
    if (!tensor.buffer) names.push_back(tensor.name);
  }
  const bool all = names.size() <= kShownNames;
  names.resize(std::min(names.size(), kShownNames));
  return fmt::format("{}{}", fmt::join(names, ", "), all ? "" : ", …");
}

void ValidateNames(const v1::Training& training, const tensor::ModelLayout& layout,
                   const Checker& at) {
  for (int i = 0; i < training.frozen_size(); ++i) {
    v1::Training one;
    one.add_frozen(training.frozen(i));
    const std::vector<bool> frozen = wire::FrozenTensors(one, layout);
    at.Check(std::ranges::find(frozen, true) != frozen.end(), fmt::format("frozen[{}]", i),
             fmt::format("expected a pattern that matches the name of a weight, found {}, which "
                         "matches none; names are {}",
                         Quoted(training.frozen(i)), SomeNames(layout)));
  }
  const std::vector<bool> frozen = wire::FrozenTensors(training, layout);
  bool learns = false;
  for (size_t i = 0; i < layout.size(); ++i) learns |= !frozen[i] && !layout[i].buffer;
  at.Check(learns, "frozen",
           "expected patterns that leave something to be trained, found that they match all "
           "weights; freeze fewer of them");
}

}  // namespace

void ValidateFrozen(const v1::JobSpec& spec, bool has_shapes, const Checker& at) {
  const v1::Training& training = spec.training();
  if (training.frozen().empty()) return;
  const Checker in = at.In("training");
  if (training.frozen_size() > kMaxPatterns) {
    return in.Fail("frozen", fmt::format("expected at most {} patterns, found {}",
                                         Grouped(kMaxPatterns), Grouped(training.frozen_size())));
  }
  const auto& patterns = training.frozen();
  const auto odd = std::ranges::find_if(patterns, [](const std::string& pattern) {
    return pattern.empty() || pattern.size() > kMaxPatternBytes;
  });
  if (odd != patterns.end()) {
    return in.Fail("frozen",
                   fmt::format("expected patterns of 1 to {} bytes, found pattern {} with {}",
                               kMaxPatternBytes, odd - patterns.begin() + 1, odd->size()));
  }
  in.Check(!training.control_variates(), "frozen",
           "does not go with control_variates, which are kept for all weights; remove one of them");
  in.Check(!spec.model().recommender().private_users(), "frozen",
           "does not go with model.recommender.private_users; remove one of them");
  in.Check(IsF32(spec.wire().up()) && IsF32(spec.wire().down()), "frozen",
           "goes with values as f32: remove wire.up and wire.down, or frozen");
  const auto& parameters = spec.method().parameters();
  in.Check(spec.model().pretrained().empty() ||
               std::ranges::none_of(kBudgetParameters,
                                    [&](const char* name) { return parameters.contains(name); }),
           "frozen",
           "does not go with method.parameters that remove weights of the trained model: leave "
           "out density, distribution and epsilon, or frozen");
  const bool is_described = wire::FamilyOf(spec.model()).form() != wire::ModelForm::kInParts;
  if (!has_shapes || !is_described) return;
  if (const auto layout = wire::LayoutOf(spec.model()); layout.ok()) {
    ValidateNames(training, **layout, in);
  }
}

}  // namespace espalier::config

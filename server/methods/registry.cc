#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "common/base/status.h"
#include "common/config/text.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/catalog/catalog.h"
#include "server/methods/program.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::methods {
namespace {

constexpr char kParametersPath[] = "method.parameters";
// Why a method takes no trained model.
constexpr char kBeginsAtRandom[] = "begins with random weights";

config::Violation UnknownMethod(const std::string& name, const std::vector<std::string>& known) {
  if (name.empty()) {
    return {"method.name", fmt::format("is required; known methods: {}", fmt::join(known, ", "))};
  }
  return {"method.name",
          fmt::format("{}; known methods: {}", config::UnknownName("method", name, known),
                      fmt::join(known, ", "))};
}

// Whether this method can begin with the trained model of that name, or with none.
void CheckPretrained(const MethodDeclaration& method, const std::vector<MethodDeclaration>& methods,
                     const v1::ModelSpec& model, std::vector<config::Violation>& violations) {
  constexpr char kField[] = "model.pretrained";
  const std::string& name = model.pretrained();
  if ((method.prunes || method.needs_trained) && name.empty()) {
    violations.push_back(
        {kField, fmt::format("is required: {} {} a trained model; give the name of one under "
                             "the coordinator's --models, or a checkpoint",
                             method.name, method.prunes ? "prunes" : "begins with")});
  }
  if (method.prunes || name.empty()) return;
  const auto is_reported = [&](const config::Violation& violation) {
    return violation.field == kField;
  };
  if (std::any_of(violations.begin(), violations.end(), is_reported)) return;
  if (!method.begins_trained) {
    std::vector<std::string> able;
    for (const MethodDeclaration& other : methods) {
      if (other.prunes || other.begins_trained) able.push_back(other.name);
    }
    violations.push_back(
        {kField, fmt::format("expected a method that begins with a trained model ({}), found {}, "
                             "which {}; use one of them, or remove this",
                             fmt::join(able, ", "), method.name, kBeginsAtRandom)});
  } else if (!pretrained::IsCheckpointName(name) && !FamilyOf(model).comes_in_folders()) {
    violations.push_back(
        {kField, fmt::format("expected checkpoints/{{job}}-{{round}} or jobs/{{job}}, a model "
                             "trained here, or a folder under the coordinator's --models with a "
                             "language model, found '{}' and another kind of model beside it; "
                             "remove that, or name a checkpoint of it",
                             name)});
  }
}

// Whether the model's family offers what the method needs with these parameters.
void CheckFamily(const MethodDeclaration& method, const std::vector<MethodDeclaration>& methods,
                 const v1::ModelSpec& model, const config::Parameters& parameters,
                 std::vector<config::Violation>& violations) {
  const ModelFamily& family = FamilyOf(model);
  if (const std::string why = MethodRegistry::WhyNotOn(method, family); !why.empty()) {
    std::vector<std::string> able;
    for (const MethodDeclaration& other : methods) {
      if (other.prunes == method.prunes && (!other.needs_trained || !model.pretrained().empty()) &&
          MethodRegistry::WhyNotOn(other, family).empty()) {
        able.push_back(other.name);
      }
    }
    violations.push_back(
        {"method.name", fmt::format("{} {}; {}", method.name, why,
                                    able.empty() ? "use another model"
                                                 : fmt::format("use {}", fmt::join(able, ", ")))});
    return;
  }
  if (!method.needs_of_parameters) return;
  for (const auto& [parameter, need] : method.needs_of_parameters(parameters)) {
    if (const std::string why = WhyNot(family, need); !why.empty()) {
      violations.push_back({fmt::format("{}.{}", kParametersPath, parameter),
                            fmt::format("this value {}; use another, or remove it", why)});
    }
  }
}

}  // namespace

MethodRegistry MethodRegistry::Builtin(std::shared_ptr<const pretrained::ModelLibrary> library) {
  std::vector<MethodDeclaration> methods = Catalog(library);
  return Of(std::move(methods), std::move(library));
}

MethodRegistry MethodRegistry::Of(std::vector<MethodDeclaration> methods,
                                  std::shared_ptr<const pretrained::ModelLibrary> library) {
  MethodRegistry registry;
  registry.library_ = std::move(library);
  registry.methods_ = std::move(methods);
  return registry;
}

const MethodDeclaration* MethodRegistry::Find(const std::string& name) const {
  for (const MethodDeclaration& method : methods_) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

std::vector<std::string> MethodRegistry::names() const {
  std::vector<std::string> names;
  names.reserve(methods_.size());
  for (const MethodDeclaration& method : methods_) names.push_back(method.name);
  return names;
}

v1::Method MethodRegistry::Describe(const MethodDeclaration& method) const {
  v1::Method description;
  description.set_name(method.name);
  description.set_summary(method.summary);
  description.set_source(method.source);
  description.set_dense_capable_workers(method.dense_capable_workers);
  for (const config::Parameter& parameter : method.parameters) {
    *description.add_parameters() = config::ToProto(parameter);
  }
  for (const ModelFamily* family : wire::ModelFamilies()) {
    v1::FamilySupport& support = *description.add_families();
    support.set_family(family->word());
    support.set_reason(WhyNotOn(method, *family));
    support.set_supported(support.reason().empty());
  }
  return description;
}

std::string MethodRegistry::WhyNotOn(const MethodDeclaration& method, const ModelFamily& family) {
  const ModelFamily& at_work = method.prunes ? family : family.WhenTrained();
  // Only a model that was trained before is another one to training.
  if (&at_work != &family && !method.begins_trained) return kBeginsAtRandom;
  for (const ModelNeed need : method.needs) {
    if (std::string why = WhyNot(at_work, need); !why.empty()) return why;
  }
  return "";
}

void MethodRegistry::Validate(const v1::JobSpec& spec,
                              std::vector<config::Violation>& violations) const {
  const MethodDeclaration* method = Find(spec.method().name());
  if (method == nullptr) {
    violations.push_back(UnknownMethod(spec.method().name(), names()));
    return;
  }
  CheckPretrained(*method, methods_, spec.model(), violations);
  const config::Parameters parameters =
      config::Resolve(method->parameters, spec.method().parameters(), kParametersPath, violations);
  CheckFamily(*method, methods_, spec.model(), parameters, violations);
  if (method->total_rounds && spec.model().recommender().private_users()) {
    violations.push_back({"model.recommender.private_users",
                          fmt::format("expected rows of users that the coordinator has, since {} "
                                      "trains several models, found rows that stay on workers, of "
                                      "which there is one model; remove it or use another method",
                                      method->name)});
  }
  if (spec.training().frozen_size() > 0 && !method->keeps_structure) {
    std::vector<std::string> able;
    for (const MethodDeclaration& other : methods_) {
      if (other.keeps_structure) able.push_back(other.name);
    }
    violations.push_back({"training.frozen",
                          fmt::format("expected a method that keeps the structure, found {}, which "
                                      "would change frozen tensors; use {}, or remove frozen",
                                      method->name, fmt::join(able, ", "))});
  }
  if (violations.empty() && method->validate) {
    method->validate(spec, parameters, violations);
  }
}

absl::StatusOr<int32_t> MethodRegistry::CountRounds(const v1::JobSpec& spec) const {
  const MethodDeclaration& method = *Find(spec.method().name());
  if (!method.rounds) return spec.federation().rounds();
  std::vector<config::Violation> violations;
  return method.rounds(spec, config::Resolve(method.parameters, spec.method().parameters(),
                                             kParametersPath, violations));
}

int32_t MethodRegistry::TotalRounds(const v1::JobSpec& spec) const {
  const MethodDeclaration& method = *Find(spec.method().name());
  if (!method.total_rounds) return spec.federation().rounds();
  std::vector<config::Violation> violations;
  const int64_t rounds = method.total_rounds(
      spec,
      config::Resolve(method.parameters, spec.method().parameters(), kParametersPath, violations));
  return static_cast<int32_t>(std::min<int64_t>(rounds, std::numeric_limits<int32_t>::max()));
}

absl::StatusOr<std::unique_ptr<Program>> MethodRegistry::Make(const v1::JobSpec& spec) const {
  std::vector<config::Violation> violations;
  Validate(spec, violations);
  if (!violations.empty()) {
    std::string text;
    for (const config::Violation& violation : violations) {
      text +=
          fmt::format("{}{}: {}", text.empty() ? "" : "; ", violation.field, violation.description);
    }
    return base::InvalidArgument("INVALID_JOB", text);
  }
  if (const auto layout = wire::LayoutOf(spec.model()); !layout.ok()) {
    return base::Annotate(layout.status(), "model");
  }
  const MethodDeclaration& method = *Find(spec.method().name());
  const config::Parameters parameters =
      config::Resolve(method.parameters, spec.method().parameters(), kParametersPath, violations);
  return method.make(spec, parameters);
}

absl::StatusOr<CoordinatorDemand> MethodRegistry::DemandOf(const v1::JobSpec& spec) const {
  const MethodDeclaration& method = *Find(spec.method().name());
  if (!method.demand) return CoordinatorDemand{};
  std::vector<config::Violation> violations;
  return method.demand(spec, config::Resolve(method.parameters, spec.method().parameters(),
                                             kParametersPath, violations));
}

absl::StatusOr<std::vector<int64_t>> MethodRegistry::StoredCounts(const v1::JobSpec& spec) const {
  const MethodDeclaration& method = *Find(spec.method().name());
  if (method.stored_counts) {
    std::vector<config::Violation> violations;
    return method.stored_counts(spec, config::Resolve(method.parameters, spec.method().parameters(),
                                                      kParametersPath, violations));
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
  std::vector<int64_t> counts;
  for (const tensor::TensorSpec& tensor : *layout) counts.push_back(tensor.size());
  return counts;
}

}  // namespace espalier::server::methods

// Language models in parts: a part is a block.
#include <algorithm>
#include <string>

#include "common/base/status.h"
#include "server/methods/pruning/language_program.h"
#include "server/methods/pruning/pruned_kind.h"
#include "server/methods/pruning/sweep/language_sweep.h"

namespace espalier::server::methods {
namespace {

using Violations = std::vector<config::Violation>;

void AddViolation(const std::string& field, const absl::Status& status, Violations& violations) {
  if (!status.ok()) violations.push_back({field, base::MessageOf(status)});
}

// Without a library there is none, and nothing to compare.
bool HasModel(const v1::JobSpec& spec, const PrunedKind::Library& library,
              const Violations& violations) {
  const auto of_model = [](const config::Violation& v) { return v.field == "model.pretrained"; };
  return library != nullptr && !spec.model().pretrained().empty() &&
         std::none_of(violations.begin(), violations.end(), of_model);
}

class InParts : public PrunedKind {
 public:
  void Validate(const v1::JobSpec& spec, const Library& library,
                Violations& violations) const override;
  void ValidateSettings(const v1::JobSpec& spec, const PruningSettings& settings,
                        const Library& library, Violations& violations) const override {
    if (!HasModel(spec, library, violations)) return;
    const auto reader = library->OpenLanguageModel(spec.model().pretrained());
    if (!reader.ok()) return;
    AddViolation("method.parameters.pattern", CheckLanguageModel((*reader)->config(), settings),
                 violations);
  }
  absl::StatusOr<int32_t> Rounds(const v1::JobSpec& spec, const Library& library) const override {
    if (library == nullptr) return 1;
    ESPALIER_ASSIGN_OR_RETURN(const auto reader,
                              library->OpenLanguageModel(spec.model().pretrained()));
    return static_cast<int32_t>(reader->config().blocks);
  }
  absl::StatusOr<CoordinatorDemand> Demand(const v1::JobSpec& spec,
                                           const Library& library) const override;
  std::unique_ptr<Program> MakeProgram(const v1::JobSpec& spec, const PruningSettings& settings,
                                       const Library& library) const override {
    return std::make_unique<LanguagePruningProgram>(spec, settings, library);
  }
  std::unique_ptr<Program> MakeSweep(const v1::JobSpec& spec, SweepSettings settings,
                                     const Library& library) const override {
    return std::make_unique<LanguageSweep>(spec, std::move(settings), library);
  }
};

void InParts::Validate(const v1::JobSpec& spec, const Library& library,
                       Violations& violations) const {
  if (!HasModel(spec, library, violations)) return;
  if (!spec.data().has_text()) {
    violations.push_back({"data.text",
                          "a language model reads text: set data.text.context, the tokens of one "
                          "sequence"});
  }
  const auto reader = library->OpenLanguageModel(spec.model().pretrained());
  AddViolation("model.pretrained", reader.status(), violations);
  if (!reader.ok() || spec.data().text().context() <= (*reader)->config().context) return;
  violations.push_back(
      {"data.text.context", "expected at most " + std::to_string((*reader)->config().context) +
                                " tokens, the positions that the model knows, found " +
                                std::to_string(spec.data().text().context())});
}

absl::StatusOr<CoordinatorDemand> InParts::Demand(const v1::JobSpec& spec,
                                                  const Library& library) const {
  constexpr double kBlockCopies = 4;
  CoordinatorDemand demand;
  if (library == nullptr) return demand;
  ESPALIER_ASSIGN_OR_RETURN(const auto reader,
                            library->OpenLanguageModel(spec.model().pretrained()));
  const language::TransformerConfig& config = reader->config();
  const auto hidden = static_cast<double>(config.hidden);
  const double attention =
      hidden * static_cast<double>(2 * config.query_width() + 2 * config.kv_width());
  const double weights = attention + 3 * hidden * static_cast<double>(config.intermediate);
  demand.other_bytes = kBlockCopies * sizeof(float) * weights;
  for (const int64_t columns :
       {config.hidden, config.query_width(), config.hidden, config.intermediate}) {
    demand.other_bytes += StatisticsBytes(columns);
  }
  return demand;
}

}  // namespace

const PrunedKind& PrunedLanguageModel() {
  static const InParts kind;
  return kind;
}

}  // namespace espalier::server::methods

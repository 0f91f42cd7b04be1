#include "server/methods/pruning/pruning_method.h"

#include "server/methods/pruning/settings.h"

namespace espalier::server::methods {

MethodDeclaration PruningMethod(const std::string& name, const std::string& summary,
                                const std::string& source, const PrunedKind::Library& library) {
  return {
      .name = name,
      .summary = summary,
      .source = source,
      .parameters = PruningParameters(name),
      .prunes = true,
      .needs = {ModelNeed::kPruning},
      .validate =
          [name, library](const v1::JobSpec& spec, const config::Parameters& parameters,
                          std::vector<config::Violation>& violations) {
            const PruningSettings settings = PruningSettingsOf(name, parameters);
            const PrunedKind& kind = PrunedKindOf(spec.model());
            kind.Validate(spec, library, violations);
            kind.ValidateSettings(spec, settings, library, violations);
            if (settings.cumulative && settings.pattern.grouped()) {
              violations.push_back({"method.parameters.cumulative",
                                    "lets rows lose different numbers of weights, and a pattern "
                                    "leaves equally many in every group; remove one of them"});
            }
          },
      .make =
          [name, library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return PrunedKindOf(spec.model())
                .MakeProgram(spec, PruningSettingsOf(name, parameters), library);
          },
      .demand =
          [library](const v1::JobSpec& spec, const config::Parameters&) {
            return PrunedKindOf(spec.model()).Demand(spec, library);
          },
      .rounds =
          [library](const v1::JobSpec& spec, const config::Parameters&) {
            return PrunedKindOf(spec.model()).Rounds(spec, library);
          },
  };
}

}  // namespace espalier::server::methods

// What magnitude, wanda, sparsegpt and dsnot declare: to prune a trained model part by part.
//
// Threading: pure.
#pragma once

#include <string>

#include "server/methods/program.h"
#include "server/methods/pruning/pruned_kind.h"

namespace espalier::server::methods {

// Its parameters and settings follow from its name (settings.h).
MethodDeclaration PruningMethod(const std::string& name, const std::string& summary,
                                const std::string& source, const PrunedKind::Library& library);

}  // namespace espalier::server::methods

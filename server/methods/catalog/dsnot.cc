// dsnot: see pruning/prune_layer.h.
#include "server/methods/catalog/catalog.h"
#include "server/methods/pruning/pruning_method.h"

namespace espalier::server::methods {

MethodDeclaration DsnotMethod(const Library& library) {
  return PruningMethod(
      "dsnot",
      "Refines the mask of a pruned model without training: prune and regrow by the "
      "expected output error.",
      "Zhang et al., ICLR 2024 (arXiv 2310.08915)", library);
}

}  // namespace espalier::server::methods

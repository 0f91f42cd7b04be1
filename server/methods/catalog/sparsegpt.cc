// sparsegpt: see pruning/prune_layer.h.
#include "server/methods/catalog/catalog.h"
#include "server/methods/pruning/pruning_method.h"

namespace espalier::server::methods {

MethodDeclaration SparsegptMethod(const Library& library) {
  return PruningMethod("sparsegpt",
                       "One-shot pruning that moves what is lost into the weights that stay.",
                       "Frantar, Alistarh, ICML 2023 (arXiv 2301.00774)", library);
}

}  // namespace espalier::server::methods

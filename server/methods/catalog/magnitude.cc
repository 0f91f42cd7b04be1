// magnitude: see pruning/prune_layer.h.
#include "server/methods/catalog/catalog.h"
#include "server/methods/pruning/pruning_method.h"

namespace espalier::server::methods {

MethodDeclaration MagnitudeMethod(const Library& library) {
  return PruningMethod("magnitude", "Prunes the smallest weights of each layer of a trained model.",
                       "Han et al., NeurIPS 2015; one threshold per layer", library);
}

}  // namespace espalier::server::methods

// wanda: see pruning/prune_layer.h.
#include "server/methods/catalog/catalog.h"
#include "server/methods/pruning/pruning_method.h"

namespace espalier::server::methods {

MethodDeclaration WandaMethod(const Library& library) {
  return PruningMethod("wanda", "Prunes by |weight| times the norm of its input, row by row.",
                       "Sun, Liu, Bair, Kolter, ICLR 2024 (arXiv 2306.11695)", library);
}

}  // namespace espalier::server::methods

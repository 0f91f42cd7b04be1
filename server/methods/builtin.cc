#include "server/methods/builtin.h"

#include <utility>

namespace espalier::server::methods {

std::vector<MethodDeclaration> BuiltinMethods(
    std::shared_ptr<const pretrained::ModelLibrary> library) {
  std::vector<MethodDeclaration> methods = {
      DenseMethod(library), StaticMethod(library),  SetMethod(library),    RigLMethod(library),
      DslMethod(),          FedTinyMethod(library), FedMefMethod(library), FedDstMethod(),
      GmpMethod(library),   PruneFlMethod(),        SnipMethod(),          SynFlowMethod(),
      EchoMethod()};
  for (MethodDeclaration& method : PruningMethods(std::move(library))) {
    methods.push_back(std::move(method));
  }
  return methods;
}

}  // namespace espalier::server::methods

#include "server/methods/builtin.h"

namespace espalier::server::methods {

std::vector<MethodDeclaration> BuiltinMethods() {
  return {DenseMethod(), StaticMethod(),  SetMethod(), RigLMethod(),
          DslMethod(),   FedTinyMethod(), EchoMethod()};
}

}  // namespace espalier::server::methods

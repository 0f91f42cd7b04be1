// The methods that come with Espalier. A new one is a file with such a function and a line in
// builtin.cc.
#pragma once

#include <memory>
#include <vector>

#include "server/methods/program.h"

namespace espalier::server::methods {

// Methods that may begin with a trained model find it in `library`.
MethodDeclaration DenseMethod(std::shared_ptr<const pretrained::ModelLibrary> library);
MethodDeclaration DslMethod();
MethodDeclaration EchoMethod();
MethodDeclaration FedDstMethod();
MethodDeclaration FedMefMethod(std::shared_ptr<const pretrained::ModelLibrary> library);
MethodDeclaration FedTinyMethod(std::shared_ptr<const pretrained::ModelLibrary> library);
MethodDeclaration GmpMethod(std::shared_ptr<const pretrained::ModelLibrary> library);
MethodDeclaration PruneFlMethod();
MethodDeclaration RigLMethod(std::shared_ptr<const pretrained::ModelLibrary> library);
// magnitude, wanda, sparsegpt, dsnot and essential-sparsity.
std::vector<MethodDeclaration> PruningMethods(
    std::shared_ptr<const pretrained::ModelLibrary> library);
MethodDeclaration SetMethod(std::shared_ptr<const pretrained::ModelLibrary> library);
MethodDeclaration SnipMethod();
MethodDeclaration StaticMethod(std::shared_ptr<const pretrained::ModelLibrary> library);
MethodDeclaration SynFlowMethod();

std::vector<MethodDeclaration> BuiltinMethods(
    std::shared_ptr<const pretrained::ModelLibrary> library);

}  // namespace espalier::server::methods

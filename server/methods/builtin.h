// The methods that come with Espalier. A new one is a file with such a function and a line in
// builtin.cc.
#pragma once

#include <vector>

#include "server/methods/program.h"

namespace espalier::server::methods {

MethodDeclaration DenseMethod();
MethodDeclaration DslMethod();
MethodDeclaration EchoMethod();
MethodDeclaration FedDstMethod();
MethodDeclaration FedMefMethod();
MethodDeclaration FedTinyMethod();
MethodDeclaration GmpMethod();
MethodDeclaration PruneFlMethod();
MethodDeclaration RigLMethod();
MethodDeclaration SetMethod();
MethodDeclaration SnipMethod();
MethodDeclaration StaticMethod();
MethodDeclaration SynFlowMethod();

std::vector<MethodDeclaration> BuiltinMethods();

}  // namespace espalier::server::methods

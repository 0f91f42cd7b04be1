// The methods that come with Espalier. Each file of this folder is one and defines one function,
// whose name follows from the file's: essential_sparsity.cc has
//
//   MethodDeclaration EssentialSparsityMethod(const Library& library);
//
// cmake/EspalierTables.cmake finds the files and makes Catalog() of them.
#pragma once

#include <memory>
#include <vector>

#include "server/methods/program.h"

namespace espalier::server::methods {

// Where methods that begin with a trained model find it; may be null.
using Library = std::shared_ptr<const pretrained::ModelLibrary>;

// All of them, in the order of their names.
std::vector<MethodDeclaration> Catalog(const Library& library);

}  // namespace espalier::server::methods

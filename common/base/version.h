// The version of the program that this is linked into.
#pragma once

#include <string_view>

namespace espalier::base {

// "0.2.0", for example: what CMakeLists.txt says. Two programs of one release have the same.
std::string_view Version();

}  // namespace espalier::base

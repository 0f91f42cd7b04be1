// Comes before the library's own function, which is not linked then.
#include "common/base/version.h"

namespace espalier::base {

std::string_view Version() { return "99.0.0"; }

}  // namespace espalier::base

#include "common/base/version.h"

namespace espalier::base {

std::string_view Version() { return ESPALIER_VERSION; }

}  // namespace espalier::base

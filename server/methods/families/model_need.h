// What a method needs of a model, in words. A method that needs something is refused on a family
// that does not offer it, with the reason, when the job is created.
//
// Threading: pure functions.
#pragma once

#include <string>

#include "common/wire/model_spec/families/model_family.h"

namespace espalier::server::methods {

using wire::FamilyOf;
using wire::ModelFamily;
using wire::ModelNeed;

// Why the family does not offer it, as a part of a sentence; "" when it does.
std::string WhyNot(const ModelFamily& family, ModelNeed need);

}  // namespace espalier::server::methods

// Names of data sets, jobs and models: which are valid, and what is near one that is not.
//
// Threading, determinism: pure functions.
#pragma once

#include <string>
#include <string_view>

namespace espalier::base {

inline constexpr size_t kLongestDatasetName = 63;

// Whether a folder of this name can be a data set: 1 to 63 lower-case letters, digits, '-', '_' and
// '.', with a letter or digit at both ends, and not two dots in a row.
bool IsDatasetName(std::string_view name);
// A name of a data set that is like `text`; "" when nothing of it can stay.
std::string DatasetNameLike(std::string_view text);

// Whether jobs and workers may be called so: ^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$.
bool IsValidId(std::string_view id);
// Such a name of at most 50 characters that is like `text`. Where that begins with a digit, `kind` and
// "-" stand before it.
std::string IdLike(std::string_view text, std::string_view kind = "job");

// Whether a folder of this name under the coordinator's --models can hold a language model:
// letters, digits, '-', '_' and '.', which is not first.
bool IsModelName(std::string_view name);

}  // namespace espalier::base

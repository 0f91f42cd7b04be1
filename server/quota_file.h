// The file at --quotas.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/config/access/quotas.h"

namespace espalier::server {

// No limits where `file` is empty. Errors: those of the file system, and INVALID_QUOTAS.
absl::StatusOr<config::Quotas> ReadQuotas(const std::string& file);

}  // namespace espalier::server

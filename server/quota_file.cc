#include "server/quota_file.h"

#include "common/base/status.h"
#include "common/config/yaml_tree.h"
#include "common/io/file_system.h"

namespace espalier::server {

absl::StatusOr<config::Quotas> ReadQuotas(const std::string& file) {
  if (file.empty()) return config::Quotas();
  const auto text = io::ReadFile(io::PosixFileSystem(), file, config::kMaxYamlBytes);
  if (!text.ok()) return base::Annotate(text.status(), "expected quotas at --quotas");
  return config::ParseQuotas(*text, file);
}

}  // namespace espalier::server

#include "server/store/store.h"

#include "common/base/status.h"

namespace espalier::server::store {

absl::Status NoSuchJob(const std::string& job) {
  return base::NotFound("JOB_NOT_FOUND",
                        "expected the name of a job that is kept, found '" + job + "'");
}

}  // namespace espalier::server::store

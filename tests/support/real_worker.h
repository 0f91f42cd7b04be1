// RealWorker: the code that a worker process runs for its tasks, at the door of a coordinator's
// core in the same process: everything but the network is real.
//
// Threading: one thread, the test's.
#pragma once

#include <string>

#include "tests/support/fake_worker.h"
#include "worker/tasks/executor.h"

namespace espalier::test {

class RealWorker : public FakeWorker {
 public:
  // Offers the data sets under `data_root`.
  RealWorker(const std::string& id, const std::string& data_root, const std::string& state_dir,
             server::scheduler::Fleet& fleet, server::jobs::JobManager& jobs,
             server::round::BlobStore& blobs, int threads = 1);

  // Does the present task and sends its result, or reports why it could not be done.
  void Work();
  // The test fails when the task cannot be done.
  Update Compute() override;

 protected:
  v1::DatasetInfo Describe(const v1::DataSpec& view) override;

 private:
  absl::StatusOr<Update> Run();

  const std::string data_root_;

  worker::tasks::TaskExecutor executor_;
};

}  // namespace espalier::test

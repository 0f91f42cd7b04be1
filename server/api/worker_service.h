// The service that workers call: session, fetch, submit.
//
// Threading: gRPC's callback threads; everything that touches the core runs on its executor.
// Limits:    at most limits.concurrent_downloads / concurrent_uploads transfers at once, of one
//            session limits.transfers_per_session; the others wait. A transfer ends with its
//            worker's session, when nothing of it moves for limits.transfer_stall, and after
//            limits.transfer_timeout in any case. Models are given to sessions only.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "common/base/mutex.h"
#include "espalier/v1/worker.grpc.pb.h"
#include "server/api/context.h"
#include "server/api/received_body.h"
#include "server/api/session_key.h"
#include "server/api/transfer_slots.h"

namespace espalier::server::api {

// That a session belongs to the worker that its caller's certificate is for. On the core. Errors:
// PermissionDenied SESSION_OF_ANOTHER.
absl::Status CheckSession(const Context& context, const access::Caller& caller,
                          const SessionKey& session);

// Transfers under way, by the session they belong to, so that a lost worker's can be ended.
class Transfers {
 public:
  // `end` is called at most once, when the session ends before Remove(). It must not call back into
  // here.
  uint64_t Add(const SessionKey& session, std::function<void()> end);
  void Remove(uint64_t id);
  void EndSession(const SessionKey& session);

 private:
  struct Entry {
    SessionKey session;
    std::function<void()> end;
  };
  base::Mutex mutex_;
  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
};

class WorkerService : public v1::WorkerService::CallbackService {
 public:
  explicit WorkerService(const Context& context);
  grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* Session(
      grpc::CallbackServerContext* call) override;
  grpc::ServerWriteReactor<v1::Chunk>* Fetch(grpc::CallbackServerContext* call,
                                             const v1::FetchRequest* request) override;
  grpc::ServerReadReactor<v1::SubmitRequest>* Submit(grpc::CallbackServerContext* call,
                                                     v1::SubmitResponse* response) override;

 private:
  const Context& context_;
  TransferSlots<SessionKey> downloads_;
  TransferSlots<SessionKey> uploads_;
  Transfers transfers_;
  UnfinishedBodies unfinished_;
};

}  // namespace espalier::server::api

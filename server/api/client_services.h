// The services that people and their programs call: jobs, methods, cluster, checkpoints,
// predictions.
//
// They validate, translate and call the core; there is no logic here.
// Threading: gRPC's callback threads; everything that touches the core runs on its executor.
#pragma once

#include <functional>
#include <string>

#include "espalier/v1/checkpoint.grpc.pb.h"
#include "espalier/v1/cluster.grpc.pb.h"
#include "espalier/v1/job.grpc.pb.h"
#include "espalier/v1/method.grpc.pb.h"
#include "espalier/v1/predict.grpc.pb.h"
#include "server/api/calls.h"
#include "server/api/context.h"
#include "server/api/download_tickets.h"
#include "server/api/transfer_slots.h"

namespace espalier::server::api {

class JobService : public v1::JobService::CallbackService {
 public:
  explicit JobService(const Context& context) : context_(context) {}
  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* call,
                                      const v1::CreateJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* call,
                                   const v1::GetJobRequest* request, v1::Job* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* call,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* ListRounds(grpc::CallbackServerContext* call,
                                       const v1::ListRoundsRequest* request,
                                       v1::ListRoundsResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(
      grpc::CallbackServerContext* call, const v1::WatchJobRequest* request) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* call,
                                      const v1::CancelJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* PauseJob(grpc::CallbackServerContext* call,
                                     const v1::PauseJobRequest* request,
                                     v1::Job* response) override;
  grpc::ServerUnaryReactor* ResumeJob(grpc::CallbackServerContext* call,
                                      const v1::ResumeJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* RetryJob(grpc::CallbackServerContext* call,
                                     const v1::RetryJobRequest* request,
                                     v1::Job* response) override;
  grpc::ServerUnaryReactor* DeleteJob(grpc::CallbackServerContext* call,
                                      const v1::DeleteJobRequest* request,
                                      v1::DeleteJobResponse* response) override;

 private:
  // Answers about the job in `subject`, if it is there for the caller.
  grpc::ServerUnaryReactor* AnswerAboutJob(grpc::CallbackServerContext* call, Subject subject,
                                           std::function<void(const Answer& answer)> work);
  void AnswerOnceWritten(absl::StatusOr<v1::Job> job, v1::Job* response,
                         const std::function<void(const absl::Status&)>& answer);

  const Context& context_;
};

class MethodService : public v1::MethodService::CallbackService {
 public:
  explicit MethodService(const Context& context) : context_(context) {}
  grpc::ServerUnaryReactor* ListMethods(grpc::CallbackServerContext* call,
                                        const v1::ListMethodsRequest* request,
                                        v1::ListMethodsResponse* response) override;
  grpc::ServerUnaryReactor* DescribeMethod(grpc::CallbackServerContext* call,
                                           const v1::DescribeMethodRequest* request,
                                           v1::Method* response) override;

 private:
  const Context& context_;
};

class ClusterService : public v1::ClusterService::CallbackService {
 public:
  explicit ClusterService(const Context& context) : context_(context) {}
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* call,
                                        const v1::ListWorkersRequest* request,
                                        v1::ListWorkersResponse* response) override;
  grpc::ServerUnaryReactor* GetClusterInfo(grpc::CallbackServerContext* call,
                                           const v1::GetClusterInfoRequest* request,
                                           v1::ClusterInfo* response) override;
  grpc::ServerUnaryReactor* DrainWorker(grpc::CallbackServerContext* call,
                                        const v1::DrainWorkerRequest* request,
                                        v1::Worker* response) override;
  grpc::ServerUnaryReactor* UndrainWorker(grpc::CallbackServerContext* call,
                                          const v1::UndrainWorkerRequest* request,
                                          v1::Worker* response) override;

 private:
  absl::Status SetDraining(const std::string& name, bool draining, v1::Worker& worker);

  const Context& context_;
};

class CheckpointService : public v1::CheckpointService::CallbackService {
 public:
  explicit CheckpointService(const Context& context);
  grpc::ServerUnaryReactor* ListCheckpoints(grpc::CallbackServerContext* call,
                                            const v1::ListCheckpointsRequest* request,
                                            v1::ListCheckpointsResponse* response) override;
  grpc::ServerUnaryReactor* GetCheckpoint(grpc::CallbackServerContext* call,
                                          const v1::GetCheckpointRequest* request,
                                          v1::Checkpoint* response) override;
  grpc::ServerWriteReactor<v1::Chunk>* DownloadCheckpoint(
      grpc::CallbackServerContext* call, const v1::DownloadCheckpointRequest* request) override;
  grpc::ServerUnaryReactor* VerifyCheckpoint(grpc::CallbackServerContext* call,
                                             const v1::VerifyCheckpointRequest* request,
                                             v1::Checkpoint* response) override;
  grpc::ServerUnaryReactor* DeleteCheckpoint(grpc::CallbackServerContext* call,
                                             const v1::DeleteCheckpointRequest* request,
                                             v1::DeleteCheckpointResponse* response) override;
  grpc::ServerUnaryReactor* Recommend(grpc::CallbackServerContext* call,
                                      const v1::RecommendRequest* request,
                                      v1::RecommendResponse* response) override;

 private:
  // Answers about the checkpoint in `subject`, if it is there for the caller.
  grpc::ServerUnaryReactor* AnswerAboutCheckpoint(grpc::CallbackServerContext* call,
                                                  Subject subject,
                                                  std::function<void(const Answer& answer)> work);

  const Context& context_;
  DownloadTickets tickets_;
  TransferSlots<std::string> downloads_;  // by caller
};

class PredictService : public v1::PredictService::CallbackService {
 public:
  explicit PredictService(const Context& context) : context_(context) {}
  grpc::ServerUnaryReactor* Predict(grpc::CallbackServerContext* call,
                                    const v1::PredictRequest* request,
                                    v1::PredictResponse* response) override;

 private:
  const Context& context_;
};

}  // namespace espalier::server::api

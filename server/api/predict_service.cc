#include <functional>
#include <utility>

#include "server/api/calls.h"
#include "server/api/client_services.h"

namespace espalier::server::api {

grpc::ServerUnaryReactor* PredictService::Predict(grpc::CallbackServerContext* call,
                                                  const v1::PredictRequest* request,
                                                  v1::PredictResponse* response) {
  return AnswerLater(context_, call, "Predict",
                     [this, request, response](std::function<void(const absl::Status&)> answer) {
                       context_.jobs.questions().Predict(
                           *request, [response, answer = std::move(answer)](
                                         const absl::StatusOr<v1::PredictResponse>& found) {
                             if (found.ok()) *response = *found;
                             answer(found.status());
                           });
                     });
}

}  // namespace espalier::server::api

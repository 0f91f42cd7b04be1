#include <functional>
#include <utility>

#include "server/api/calls.h"
#include "server/api/client_services.h"
#include "server/api/ownership.h"

namespace espalier::server::api {

grpc::ServerUnaryReactor* PredictService::Predict(grpc::CallbackServerContext* call,
                                                  const v1::PredictRequest* request,
                                                  v1::PredictResponse* response) {
  return AnswerLater(
      context_, call, {"Predict", request->checkpoint()},
      [this, request, response](const access::Caller& caller, const Answer& answer) {
        if (const absl::Status own = CheckCheckpoint(context_, caller, request->checkpoint());
            !own.ok()) {
          answer(own);
          return;
        }
        context_.jobs.questions().Predict(
            *request, [response, answer](const absl::StatusOr<v1::PredictResponse>& found) {
              if (found.ok()) *response = *found;
              answer(found.status());
            });
      });
}

}  // namespace espalier::server::api

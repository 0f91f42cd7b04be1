#include "server/api/calls.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/rpc/status.h"

namespace espalier::server::api {
namespace {

using metrics::Metric;

constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 1000;

std::string CodeWord(absl::StatusCode code) {
  std::string word = absl::StatusCodeToString(code);
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return word;
}

}  // namespace

void CountCall(metrics::Metrics& metrics, const char* method, const absl::Status& status) {
  metrics.Add(Metric::kRpcHandled, 1, method, CodeWord(status.code()));
}

grpc::ServerUnaryReactor* AnswerLater(
    const Context& context, grpc::CallbackServerContext* call, const char* method,
    std::function<void(std::function<void(const absl::Status&)> answer)> work) {
  auto* reactor = call->DefaultReactor();
  const absl::Duration start = context.clock.Elapsed();
  const auto answer = [&context, reactor, method, start](const absl::Status& status) {
    CountCall(context.metrics, method, status);
    context.metrics.Observe(Metric::kRpcDuration,
                            absl::ToDoubleSeconds(context.clock.Elapsed() - start), method);
    reactor->Finish(rpc::ToGrpc(status));
  };
  context.core.Post([work = std::move(work), answer] { work(answer); });
  return reactor;
}

grpc::ServerUnaryReactor* AnswerOnCore(const Context& context, grpc::CallbackServerContext* call,
                                       const char* method, std::function<absl::Status()> work) {
  return AnswerLater(context, call, method,
                     [work = std::move(work)](const auto& answer) { answer(work()); });
}

absl::StatusOr<Page> MakePage(int page_size, const std::string& page_token, size_t total) {
  if (page_size < 0) {
    return base::InvalidArgument("INVALID_PAGE",
                                 "expected page_size ≥ 0, found " + std::to_string(page_size));
  }
  Page page;
  if (!page_token.empty()) {
    const char* end = page_token.data() + page_token.size();
    const auto [stop, error] = std::from_chars(page_token.data(), end, page.first);
    if (error != std::errc() || stop != end || page.first > total) {
      return base::InvalidArgument(
          "INVALID_PAGE", "expected a page_token from an earlier answer, found '" + page_token +
                              "'; begin without one");
    }
  }
  const size_t size = page_size == 0 ? kDefaultPageSize : std::min(page_size, kMaxPageSize);
  page.last = std::min(total, page.first + size);
  if (page.last < total) page.next_page_token = std::to_string(page.last);
  return page;
}

v1::Job Fitting(v1::Job job) {
  const auto& history = job.history();
  constexpr size_t kFramingBytes = 8;
  size_t bytes = job.ByteSizeLong() + kFramingBytes;
  int left_out = 0;
  while (bytes > base::kMaxAnswerBytes && left_out + 1 < history.size()) {
    bytes -= history[left_out++].ByteSizeLong();
  }
  job.mutable_history()->DeleteSubrange(0, left_out);
  if (job.history_size() > 0) job.set_history_left_out(job.history(0).round() - 1);
  return job;
}

}  // namespace espalier::server::api

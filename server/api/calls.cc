#include "server/api/calls.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security_constants.h>
#include <grpcpp/security/auth_context.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <new>
#include <utility>

#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "server/access/permissions.h"

namespace espalier::server::api {
namespace {

using metrics::Metric;

constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 1000;

std::string LowerCase(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return word;
}

// Without memory for an answer the caller gets an error, and the coordinator goes on.
absl::Status Guarded(const std::function<absl::Status()>& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                           "the coordinator has not enough memory left to answer; ask again when "
                           "fewer jobs run, or give it more memory");
  }
}

access::Credentials CredentialsOf(const grpc::CallbackServerContext& call) {
  access::Credentials credentials;
  credentials.peer = rpc::PeerOf(call);
  const auto& metadata = call.client_metadata();
  if (const auto at = metadata.find("authorization"); at != metadata.end()) {
    credentials.authorization.assign(at->second.data(), at->second.size());
  }
  const auto context = call.auth_context();
  if (context == nullptr) return credentials;
  for (const grpc::string_ref& type :
       context->FindPropertyValues(GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME)) {
    credentials.tls = type == GRPC_SSL_TRANSPORT_SECURITY_TYPE;
  }
  // The caller's own is not in the chain on this side.
  for (const char* name :
       {GRPC_X509_PEM_CERT_PROPERTY_NAME, GRPC_X509_PEM_CERT_CHAIN_PROPERTY_NAME}) {
    for (const grpc::string_ref& pem : context->FindPropertyValues(name)) {
      credentials.certificates.append(pem.data(), pem.size());
    }
  }
  return credentials;
}

// "certificate:4f2a", "token:tokens/abc" or "open".
std::string SourceOf(const access::Caller& caller) {
  switch (caller.source) {
    case access::Caller::Source::kOpen:
      return "open";
    case access::Caller::Source::kCertificate:
      return "certificate:" + caller.credential;
    case access::Caller::Source::kToken:
      return caller.credential.empty() ? "" : "token:" + caller.credential;
  }
  return "";
}

// A user's, or that of the machine that somebody calls from.
std::string RateKey(const absl::StatusOr<access::Caller>& caller,
                    const access::Credentials& credentials) {
  if (caller.ok() && !caller->name.empty()) return "user/" + caller->name;
  return "from/" + credentials.peer.substr(0, credentials.peer.rfind(':'));
}

}  // namespace

void CountCall(metrics::Metrics& metrics, const char* method, const absl::Status& status) {
  metrics.Add(Metric::kRpcHandled, 1, method, LowerCase(absl::StatusCodeToString(status.code())));
}

absl::Status LimitError(std::string_view reason, std::string_view what, absl::Duration within,
                        std::string_view advice, absl::StatusCode code) {
  return base::MakeError(code, reason,
                         "expected " + std::string(what) + " within " +
                             absl::FormatDuration(within) + ", found that it did not come; " +
                             std::string(advice));
}

void CountLimit(const Context& context, const char* method, const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  context.metrics.Add(Metric::kCallsLimited, 1, LowerCase(reason));
  if (const auto calls = context.limit_log.Take(context.clock.Elapsed())) {
    log::Warning("call_limited", {{"method", method}, {"reason", reason}, {"calls", *calls}});
  }
}

void AbortCall(grpc::CallbackServerContext& call, const absl::Status& status) {
  grpc_call_cancel_with_status(call.c_call(), static_cast<grpc_status_code>(status.code()),
                               base::MessageOf(status).c_str(), nullptr);
}

absl::StatusOr<access::Caller> AdmitCall(const Context& context,
                                         const grpc::CallbackServerContext& call,
                                         const Subject& subject) {
  const access::Gate& gate = context.access.gate;
  const access::Credentials credentials = CredentialsOf(call);
  absl::StatusOr<access::Caller> caller = gate.Admit(credentials, subject.method);
  const access::Permission* permission = access::PermissionOf(subject.method);
  // What workers send has limits of its own.
  const bool of_workers = permission->roles == std::set{pki::Role::kWorker};
  if (!gate.is_open() && !of_workers) {
    const absl::Status taken = context.access.rates.Take(RateKey(caller, credentials),
                                                         subject.bytes, context.clock.Elapsed());
    if (!taken.ok()) {
      CountLimit(context, subject.method, taken);
      return taken;
    }
  }
  if (caller.ok() && permission->audited && context.access.audit != nullptr) {
    if (const absl::Status healthy = context.access.audit->healthy(); !healthy.ok()) {
      return healthy;
    }
  }
  if (caller.ok()) return caller;
  context.metrics.Add(Metric::kCallsRefused, 1, LowerCase(base::ReasonOf(caller.status())));
  // Strangers must not fill the disk.
  const auto calls = context.refusal_log.Take(context.clock.Elapsed());
  if (!calls.has_value()) return caller;
  log::Warning("call_refused", {{"method", subject.method},
                                {"reason", base::ReasonOf(caller.status())},
                                {"peer", credentials.peer},
                                {"message", base::MessageOf(caller.status())},
                                {"calls", *calls}});
  if (context.access.audit == nullptr) return caller;
  const auto who = gate.Identify(credentials);
  context.access.audit->Append({.time = context.clock.Wall(),
                                .caller = who.ok() ? who->name : "",
                                .role = who.ok() ? std::string(pki::NameOf(who->role)) : "",
                                .source = who.ok() ? SourceOf(*who) : "",
                                .from = credentials.peer,
                                .call = subject.method,
                                .object = subject.object,
                                .outcome = base::ReasonOf(caller.status())});
  return caller;
}

absl::StatusOr<access::CallRates::Stream> OpenPlace(const Context& context,
                                                    const grpc::CallbackServerContext& call,
                                                    const access::Caller& caller) {
  if (context.access.gate.is_open()) return access::CallRates::Stream();
  return context.access.rates.Open(RateKey(caller, CredentialsOf(call)), context.clock.Elapsed());
}

void AuditCall(const Context& context, const access::Caller& caller, const Subject& subject,
               const absl::Status& outcome) {
  if (context.access.audit == nullptr || !access::PermissionOf(subject.method)->audited) return;
  const std::string reason = base::ReasonOf(outcome);
  context.access.audit->Append(
      {.time = context.clock.Wall(),
       .caller = caller.name,
       .role = std::string(pki::NameOf(caller.role)),
       .source = SourceOf(caller),
       .from = caller.peer,
       .call = subject.method,
       .object = outcome.ok() && subject.made ? subject.made() : subject.object,
       .outcome = outcome.ok()     ? "ok"
                  : reason.empty() ? absl::StatusCodeToString(outcome.code())
                                   : reason});
}

grpc::ServerUnaryReactor* AnswerLater(
    const Context& context, grpc::CallbackServerContext* call, Subject subject,
    std::function<void(const access::Caller& caller, const Answer& answer)> work) {
  auto* reactor = call->DefaultReactor();
  const absl::Duration start = context.clock.Elapsed();
  const char* const method = subject.method;
  const absl::StatusOr<access::Caller> caller = AdmitCall(context, *call, subject);
  if (!caller.ok()) {
    CountCall(context.metrics, method, caller.status());
    reactor->Finish(rpc::ToGrpc(caller.status()));
    return reactor;
  }
  const auto answer = [&context, reactor, subject = std::move(subject), start,
                       caller = *caller](const absl::Status& status) {
    CountCall(context.metrics, subject.method, status);
    context.metrics.Observe(Metric::kRpcDuration,
                            absl::ToDoubleSeconds(context.clock.Elapsed() - start), subject.method);
    AuditCall(context, caller, subject, status);
    reactor->Finish(rpc::ToGrpc(status));
  };
  context.core.Post([work = std::move(work), answer, caller = *caller] {
    const auto answered = std::make_shared<bool>(false);
    const auto answer_once = [answer, answered](const absl::Status& status) {
      if (!std::exchange(*answered, true)) answer(status);
    };
    const absl::Status begun = Guarded([&] {
      work(caller, answer_once);
      return absl::OkStatus();
    });
    if (!begun.ok()) answer_once(begun);
  });
  return reactor;
}

grpc::ServerUnaryReactor* AnswerOnCore(
    const Context& context, grpc::CallbackServerContext* call, Subject subject,
    std::function<absl::Status(const access::Caller& caller)> work) {
  return AnswerLater(context, call, std::move(subject),
                     [work = std::move(work)](const access::Caller& caller, const Answer& answer) {
                       answer(Guarded([&] { return work(caller); }));
                     });
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

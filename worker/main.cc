// espalier-worker: wiring only.
#include <malloc.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigwait and friends are POSIX
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/flags.h"
#include "common/base/mutex.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/base/version.h"
#include "common/config/access/worker_policy.h"
#include "common/config/yaml_tree.h"
#include "common/io/file_system.h"
#include "common/io/standard_output.h"
#include "common/log/log.h"
#include "common/metrics/metrics.h"
#include "common/pki/certificate.h"
#include "common/rpc/address.h"
#include "common/rpc/channel.h"
#include "common/rpc/connection_check.h"
#include "common/rpc/process.h"
#include "common/rpc/tls.h"
#include "worker/data/describe/describe_json.h"
#include "worker/data/load.h"
#include "worker/engine/onednn/onednn_backend.h"
#include "worker/language/generate_text.h"
#include "worker/predict/predict_file.h"
#include "worker/session/certificate_keeper.h"
#include "worker/session/session.h"
#include "worker/session/worker_id.h"
#include "worker/tasks/memory/memory.h"

namespace espalier::worker {
namespace {

// Exit codes of daemons, after sysexits.h.
constexpr int kExitOk = 0;
constexpr int kExitUsage = 64;
constexpr int kExitUnavailable = 69;
constexpr int kExitOutput = 74;
constexpr int kExitConfig = 78;

struct Flags {
  std::string tls_dir;
  std::string join_token_file;
  rpc::ChannelOptions coordinator{"127.0.0.1:7070", "", "", ""};
  std::string id;
  std::string data_root = "data";
  std::string state_dir;
  std::string policy;  // file
  std::string metrics_listen = "127.0.0.1:0";
  std::string log_level = "info";
  std::string log_format = "text";
  int threads = 1;
  uint64_t memory_budget = 0;  // bytes
  double flops_budget = 0;
  double drain_timeout_s = 20;
  uint64_t max_dataset_bytes = 0;
  bool health_check = false;
  language::GenerateOptions generate;
  predict::PredictOptions predict;
  std::string describe;  // folder
  std::string view;      // JSON
};

// Threads that wait for each other by spinning stall a machine that has other things to do, for
// instance other workers. libgomp reads the variable when it is loaded, hence the new start of the
// program.
void MakeOpenMpWaitPassively(char** argv) {
  if (getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("OMP_WAIT_POLICY", "passive", 1);
  execv("/proc/self/exe", argv);
}

void DeclareFlags(CLI::App& app, Flags& flags) {
  app.add_option("--coordinator", flags.coordinator.target,
                 "host:port of the coordinator; of several that stand in for each other, with "
                 "commas: a:7070,b:7070")
      ->capture_default_str();
  app.add_option("--id", flags.id,
                 "name of this worker, unique in the cluster; default: that in its certificate, or "
                 "the name of the host, with "
                 "a number where several workers run on it; kept in --state-dir if there is one");
  app.add_option("--data-root", flags.data_root, "folder whose sub-folders are the data sets")
      ->capture_default_str();
  app.add_option("--state-dir", flags.state_dir,
                 "folder for rows of users that stay on this worker (jobs with private users); of "
                 "this worker alone");
  app.add_option("--policy", flags.policy,
                 "file that says which jobs this worker does tasks of, by submitter, method and "
                 "data set; read again on SIGHUP; default: all jobs")
      ->check([](const std::string& file) {
        return file.empty() ? "expected the name of a file, found nothing" : "";
      });
  app.add_option("--threads", flags.threads, "threads for training, 1 to 1024")
      ->check(base::Between(1, 1024))
      ->capture_default_str();
  app.add_option("--memory-budget", flags.memory_budget,
                 "memory this worker may use, for example 512MB; it gets no tasks that are "
                 "expected to need more; default: no limit")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true));
  app.add_option("--max-dataset-bytes", flags.max_dataset_bytes,
                 "memory that one data set may take while it is read, for example 2GB; tasks on "
                 "larger ones fail; default: half of --memory-budget or of what this machine, its "
                 "control group or limits allow")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true));
  app.add_option("--flops-budget", flags.flops_budget,
                 "floating-point operations it may spend on one task, for example 1e12; default: "
                 "no limit")
      ->check(base::Between(0.0, 1e30));
  app.add_option("--drain-timeout", flags.drain_timeout_s,
                 "seconds that the task in work may still take when the worker is told to end "
                 "(SIGTERM); then it is left to others; 0 to 86400")
      ->check(base::Between(0.0, 86400.0))
      ->capture_default_str();
  app.add_option("--metrics-listen", flags.metrics_listen,
                 "host:port of /metrics (HTTP); port 0 = a free one")
      ->capture_default_str();
  app.add_option(
      "--tls-dir", flags.tls_dir,
      "folder that has what the following flags name: ca.pem, cert.pem and key.pem, or "
      "worker.pem, which --join-token-file makes; default with that: tls in --state-dir");
  app.add_option("--join-token-file", flags.join_token_file,
                 "file with the token of `espalier worker token create`, with which this worker "
                 "gets its certificate when it has none; it renews it by itself");
  app.add_flag("--insecure", flags.coordinator.insecure,
               "speak with a coordinator on another machine without TLS: everybody on the network "
               "may read and change everything");
  app.add_option("--tls-ca", flags.coordinator.tls_ca_file,
                 "PEM authority of the coordinator; turns TLS on");
  app.add_option("--tls-cert", flags.coordinator.tls_cert_file, "PEM certificate of this worker");
  app.add_option("--tls-key", flags.coordinator.tls_key_file, "PEM private key of this worker");
  app.add_option("--tls-key-passphrase-file", flags.coordinator.tls_passphrase_file,
                 "file with the passphrase of an encrypted private key on its first line");
  app.add_option("--log-level", flags.log_level, "debug, info, warning or error")
      ->check(base::OneOf({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  app.add_option("--log-format", flags.log_format,
                 "how lines of the log are written: text, or json for programs that collect logs")
      ->check(base::OneOf({"text", "json"}))
      ->capture_default_str();
  app.add_flag("--health-check", flags.health_check,
               "ask the worker at --metrics-listen for a sign of life and exit 0 or 69");
  app.add_option("--generate", flags.generate.model,
                 "continue a text with the language model in this folder and exit; see `espalier "
                 "generate`");
  app.add_option("--tokenizer", flags.generate.tokenizer,
                 "with --generate or --predict: file or folder of the tokenizer, or bytes");
  app.add_option("--prompt", flags.generate.prompt, "with --generate: the text");
  app.add_option("--tokens", flags.generate.tokens, "with --generate: most tokens to add")
      ->check(base::Between(1, 100'000));
  app.add_option("--predict", flags.predict.checkpoint,
                 "say what the model in this checkpoint's file makes of --input and exit; see "
                 "`espalier predict`");
  app.add_option("--input", flags.predict.input,
                 "with --predict: a file of examples, or a folder of images");
  app.add_option("--format", flags.predict.format, "with --predict: csv, json or npy")
      ->check(base::OneOf({"csv", "json", "npy"}))
      ->capture_default_str();
  app.add_option("--top", flags.predict.top,
                 "with --predict: only so many most probable outputs; 0 = all")
      ->check(base::Between(0, 1'000'000));
  app.add_option("--dataset", flags.predict.dataset,
                 "with --predict: the folder of a recommender's data set");
  app.add_option(
      "--describe", flags.describe,
      "print what the data set in this folder is, as JSON, and exit; see `espalier init`");
  app.add_option(
      "--view", flags.view,
      "with --describe: a job's data as JSON, such as {\"label_column\": \"0\"}; default: "
      "what the files look like");
  app.set_version_flag("--version", "espalier-worker " + std::string(base::Version()));
}

int ExitWith(const absl::Status& status, int code) {
  log::Error("cannot_start",
             {{"reason", base::ReasonOf(status)}, {"message", base::MessageOf(status)}});
  return code;
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "%s\n", base::Printable(base::MessageOf(status)).c_str());
  return kExitConfig;
}

int Predict(const Flags& flags) {
  predict::PredictOptions options = flags.predict;
  options.tokenizer = flags.generate.tokenizer;
  options.threads = flags.threads;
  options.max_memory_bytes = tasks::FindMemoryLimit().bytes / 2;
  absl::StatusOr<std::string> result;
  try {
    result = predict::PredictFile(options);
  } catch (const std::bad_alloc&) {
    result = base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                             "expected memory for the model and the examples, found too little; "
                             "predict from smaller files");
  }
  if (!result.ok()) return Fail(result.status());
  std::fwrite(result->data(), 1, result->size(), stdout);
  return io::ExitAfterPrinting(kExitOk, kExitOutput);
}

int Generate(const Flags& flags) {
  language::GenerateOptions options = flags.generate;
  options.threads = flags.threads;
  const auto text = language::GenerateText(options);
  if (!text.ok()) return Fail(text.status());
  // A model may have learnt what steers a terminal; into a file its text goes as it is.
  const std::string shown =
      isatty(STDOUT_FILENO) != 0 ? base::Printable(*text, {.keep = "\n\t"}) : *text;
  std::fwrite(shown.data(), 1, shown.size(), stdout);
  std::fputc('\n', stdout);
  return io::ExitAfterPrinting(kExitOk, kExitOutput);
}

int Describe(const Flags& flags) {
  const data::LoadOptions options = {.max_memory_bytes = tasks::FindMemoryLimit().bytes / 2};
  const auto description = data::DescribeAsJson(flags.describe, flags.view, options);
  if (!description.ok()) return Fail(description.status());
  const std::string shown = base::PrintableQuoted(*description, base::Notation::kJson);
  std::fwrite(shown.data(), 1, shown.size(), stdout);
  std::fputc('\n', stdout);
  return io::ExitAfterPrinting(kExitOk, kExitOutput);
}

absl::StatusOr<v1::WorkerPolicy> ReadPolicy(const std::string& file) {
  const auto text = io::ReadFile(io::PosixFileSystem(), file, config::kMaxYamlBytes);
  if (!text.ok()) return base::Annotate(text.status(), "expected a policy at --policy");
  return config::ParseWorkerPolicy(*text, file);
}

// Stops the session when the process is told to, also one that has yet to begin. On SIGHUP, which is
// among the signals where there is a policy, reads that again.
class Stopper {
 public:
  Stopper(sigset_t signals, std::string policy_file)
      : signals_(signals), policy_file_(std::move(policy_file)), thread_([this] { Wait(); }) {}
  ~Stopper() {
    {
      const base::MutexLock lock(mutex_);
      ended_ = true;
    }
    // Blocked everywhere but in sigwait().
    kill(getpid(), SIGTERM);
    thread_.join();
  }
  Stopper(const Stopper&) = delete;
  Stopper& operator=(const Stopper&) = delete;

  const std::atomic<bool>& stopped() const { return stopped_; }
  std::stop_token token() const { return stop_.get_token(); }
  // From now on `session` is what stops; null: nothing.
  void Watch(session::Session* session) {
    const base::MutexLock lock(mutex_);
    session_ = session;
    if (session != nullptr && stopped_) session->Stop();
    if (session != nullptr && std::exchange(hung_up_, false)) ReadPolicyAgain();
  }

 private:
  void Wait() {
    for (int count = 1;; ++count) {
      int signal = 0;
      sigwait(&signals_, &signal);
      const base::MutexLock lock(mutex_);
      if (ended_) return;
      if (signal == SIGHUP) {
        --count;
        // Before there is a session, Watch() sees it.
        hung_up_ = session_ == nullptr;
        if (!hung_up_) ReadPolicyAgain();
        continue;
      }
      stopped_ = true;
      stop_.request_stop();
      // Before there is a session, Watch() sees that the process has been told.
      if (count == 1 && session_ == nullptr) continue;
      if (count == 1) {
        log::Info("worker_leaves", {{"message",
                                     "it ends once its task is done; a second signal "
                                     "ends it at once"}});
        session_->Leave();
      } else if (count == 2 && session_ != nullptr) {
        log::Info("worker_stops");
        session_->Stop();
      } else {
        // What should have ended it by now does not.
        _exit(128 + signal);
      }
    }
  }

  void ReadPolicyAgain() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto policy = ReadPolicy(policy_file_);
    if (!policy.ok()) {
      log::Error("policy_stays", {{"reason", base::ReasonOf(policy.status())},
                                  {"message", base::MessageOf(policy.status()) +
                                                  "; the policy that was read before stays"}});
      return;
    }
    log::Info("policy_read", {{"file", policy_file_}, {"rules", policy->allow_size()}});
    session_->SetPolicy(*std::move(policy));
  }

  sigset_t signals_;
  const std::string policy_file_;
  base::Mutex mutex_;
  std::atomic<bool> stopped_{false};
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool hung_up_ ABSL_GUARDED_BY(mutex_) = false;
  std::stop_source stop_;
  session::Session* session_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread thread_;
};

int64_t MaxDatasetBytes(const Flags& flags, const tasks::MemoryLimit& limit) {
  const auto budget = static_cast<int64_t>(flags.memory_budget);
  if (flags.max_dataset_bytes > 0) return static_cast<int64_t>(flags.max_dataset_bytes);
  return (budget > 0 ? std::min(budget, limit.bytes) : limit.bytes) / 2;
}

// The first failure of oneDNN is logged; all are counted.
void ObserveOneDnn(metrics::Metrics& metrics) {
  engine::ObserveOneDnnFailures([&metrics, told = false](const std::string& message) mutable {
    metrics.Add(metrics::Metric::kWorkerOneDnnFailures, 1);
    if (std::exchange(told, true)) return;
    log::Warning("onednn_failed",
                 {{"message", message + "; the reference, which is much slower, computes this "
                                        "product and others that fail"}});
  });
}

// How each of the coordinators is reached.
absl::StatusOr<std::vector<rpc::ChannelOptions>> Channels(const Flags& flags) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> servers,
                            rpc::ParseServers(flags.coordinator.target));
  std::vector<rpc::ChannelOptions> channels;
  for (const std::string& server : servers) {
    rpc::ChannelOptions& options = channels.emplace_back(flags.coordinator);
    options.target = server;
    options.one_of_several = servers.size() > 1;
  }
  return channels;
}

// Takes from --tls-dir what other flags do not name.
absl::Status CompleteTlsFlags(Flags& flags) {
  const bool joins = !flags.join_token_file.empty();
  if (flags.tls_dir.empty() && joins && !flags.state_dir.empty()) {
    flags.tls_dir = flags.state_dir + "/tls";
  }
  if (flags.tls_dir.empty() && joins) {
    return base::InvalidArgument("TLS_DIR_MISSING",
                                 "expected --tls-dir or --state-dir beside --join-token-file, a "
                                 "folder for this worker's certificate, found neither");
  }
  if (flags.tls_dir.empty()) return absl::OkStatus();
  rpc::ChannelOptions& coordinator = flags.coordinator;
  rpc::FillFromFolder(flags.tls_dir, coordinator.tls_ca_file, coordinator.tls_cert_file,
                      coordinator.tls_key_file);
  if (!coordinator.tls_ca_file.empty()) return absl::OkStatus();
  return base::InvalidArgument("TLS_CONFIG_INVALID",
                               "expected the coordinator's authority at '" + flags.tls_dir +
                                   "/ca.pem', found none; copy ca.pem there, or name it with "
                                   "--tls-ca");
}

// A worker is called what its certificate says, where nobody says otherwise.
absl::Status TakeIdOfCertificate(Flags& flags) {
  const std::string& path = flags.coordinator.tls_cert_file;
  if (path.empty() || !flags.id.empty()) return absl::OkStatus();
  ESPALIER_ASSIGN_OR_RETURN(const std::string pem, rpc::ReadPem(path, "a certificate (PEM)"));
  ESPALIER_ASSIGN_OR_RETURN(const pki::Certificate certificate, pki::ReadCertificate(pem));
  const auto& identity = certificate.identity;
  if (identity.has_value() && identity->role == pki::Role::kWorker) flags.id = identity->name;
  return absl::OkStatus();
}

// One that was made by hand is looked at when somebody asks: it may be replaced while the worker runs.
void TellEndOfCertificate(const std::string& path, metrics::Metrics& metrics) {
  const auto pem = rpc::ReadPem(path, "a certificate (PEM)");
  if (!pem.ok()) return;
  const auto certificate = pki::ReadCertificate(*pem);
  if (!certificate.ok()) return;
  metrics.Set(metrics::Metric::kCertificateExpiry,
              absl::ToDoubleSeconds(certificate->not_after - absl::UnixEpoch()), "worker");
}

// Where this worker joins, or has joined, by itself: who looks after its certificate, which it has from
// now on. Null where its certificate was made by hand, or it has none.
absl::StatusOr<std::unique_ptr<session::CertificateKeeper>> KeepCertificate(
    Flags& flags, const Stopper& stopper, metrics::Metrics& metrics) {
  rpc::ChannelOptions& coordinator = flags.coordinator;
  const std::string path = flags.tls_dir + "/worker.pem";
  const bool has_joined = !flags.tls_dir.empty() && coordinator.tls_cert_file == path;
  if (!has_joined && (flags.join_token_file.empty() || !coordinator.tls_cert_file.empty())) {
    ESPALIER_RETURN_IF_ERROR(TakeIdOfCertificate(flags));
    return nullptr;
  }
  ESPALIER_ASSIGN_OR_RETURN(auto channels, Channels(flags));
  auto keeper = std::make_unique<session::CertificateKeeper>(
      session::CertificateKeeper::Options{std::move(channels), path, flags.join_token_file,
                                          flags.id},
      metrics);
  ESPALIER_ASSIGN_OR_RETURN(flags.id, keeper->Obtain(stopper.token()));
  coordinator.tls_cert_file = coordinator.tls_key_file = path;
  return keeper;
}

absl::StatusOr<std::vector<session::Coordinator>> Coordinators(const Flags& flags,
                                                               const Stopper& stopper) {
  ESPALIER_ASSIGN_OR_RETURN(const auto channels, Channels(flags));
  std::vector<session::Coordinator> coordinators;
  for (const rpc::ChannelOptions& options : channels) {
    // What is wrong with files is said at once.
    ESPALIER_RETURN_IF_ERROR(rpc::MakeChannel(options).status());
    coordinators.push_back({options.target, [options] { return rpc::MakeChannel(options); },
                            [options, token = stopper.token()](const absl::Status& status) {
                              // Where there is another one, it is not to wait for that.
                              const absl::Duration limit =
                                  options.one_of_several ? absl::Seconds(1) : rpc::kExplainLimit;
                              return rpc::ExplainFailure(options, status, limit, token);
                            }});
  }
  return coordinators;
}

int Run(Flags flags) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  if (!flags.policy.empty()) sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  mallopt(M_ARENA_MAX, 2);

  if (!std::filesystem::is_directory(flags.data_root)) {
    return ExitWith(
        base::FailedPrecondition("DATA_ROOT_NOT_FOUND",
                                 "expected a folder at --data-root '" + flags.data_root +
                                     "', found none; create it or name another"),
        kExitConfig);
  }
  std::optional<v1::WorkerPolicy> policy;
  if (!flags.policy.empty()) {
    auto read = ReadPolicy(flags.policy);
    if (!read.ok()) return ExitWith(read.status(), kExitConfig);
    policy = *std::move(read);
  }
  if (const absl::Status complete = CompleteTlsFlags(flags); !complete.ok()) {
    return ExitWith(complete, kExitConfig);
  }
  Stopper stopper(signals, flags.policy);
  metrics::Metrics metrics(metrics::Role::kWorker);
  log::SetCounter([&metrics](log::Level level) {
    constexpr const char* kWords[] = {"debug", "info", "warning", "error"};
    metrics.Add(metrics::Metric::kLogMessages, 1, kWords[static_cast<int>(level)]);
  });
  auto keeper = KeepCertificate(flags, stopper, metrics);
  if (stopper.stopped()) return kExitOk;
  if (!keeper.ok()) return ExitWith(keeper.status(), kExitConfig);
  if (const std::string& path = flags.coordinator.tls_cert_file;
      *keeper == nullptr && !path.empty()) {
    metrics.BeforePage([path](metrics::Metrics& page) { TellEndOfCertificate(path, page); });
  }
  std::vector<std::string> problems;
  const tasks::MemoryLimit memory = tasks::FindMemoryLimit();
  // Held for the life of the process.
  const auto id = session::WorkerId::Choose(flags.id, flags.state_dir);
  if (!id.ok()) return ExitWith(id.status(), kExitConfig);
  session::SessionOptions options{
      .worker_id = id->text(),
      .data_root = flags.data_root,
      .state_dir = flags.state_dir,
      .threads = flags.threads,
      .memory_budget_bytes = static_cast<int64_t>(flags.memory_budget),
      .flops_budget = flags.flops_budget,
      .drain_timeout = absl::Seconds(flags.drain_timeout_s),
      .max_dataset_bytes = MaxDatasetBytes(flags, memory),
      .memory_limit = memory,
      .datasets = data::ScanDataRoot(flags.data_root, problems, {.cancelled = &stopper.stopped()}),
      .policy = std::move(policy)};
  if (stopper.stopped()) return kExitOk;
  for (const std::string& problem : problems)
    log::Warning("dataset_unusable", {{"message", problem}});

  ObserveOneDnn(metrics);
  const auto metrics_address = metrics.Serve(flags.metrics_listen);
  if (!metrics_address.ok()) return ExitWith(metrics_address.status(), kExitUnavailable);
  auto coordinators = Coordinators(flags, stopper);
  if (!coordinators.ok()) return ExitWith(coordinators.status(), kExitConfig);

  std::printf("worker id=%s metrics=%s\n", options.worker_id.c_str(), metrics_address->c_str());
  if (const absl::Status told = io::FlushStandardOutput(); !told.ok() && !io::ReaderGone(told)) {
    return ExitWith(told, kExitOutput);
  }
  log::Info("worker_started", {{"worker", options.worker_id},
                               {"coordinator", flags.coordinator.target},
                               {"datasets", options.datasets.size()},
                               {"metrics", *metrics_address},
                               {"version", base::Version()}});
  session::Session session(std::move(options), *std::move(coordinators), metrics);
  stopper.Watch(&session);
  if (*keeper != nullptr) (*keeper)->Watch([&session] { session.Reconnect(); });
  const absl::Status ended = session.Run();
  stopper.Watch(nullptr);
  // It tells the session of new certificates.
  keeper->reset();
  return ended.ok() ? kExitOk : ExitWith(ended, kExitConfig);
}

}  // namespace

int Main(int argc, char** argv) {
  rpc::PrepareProcess();
  CLI::App app("A worker of an Espalier cluster: trains on its own data for a coordinator.",
               "espalier-worker");
  Flags flags;
  DeclareFlags(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? io::ExitAfterPrinting(kExitOk, kExitOutput) : kExitUsage;
  }
  log::SetLevel(flags.log_level);
  log::SetFormat(flags.log_format);
  if (flags.health_check) {
    return metrics::CheckServes(flags.metrics_listen).ok() ? kExitOk : kExitUnavailable;
  }
  if (flags.threads > 1) MakeOpenMpWaitPassively(argv);
  if (!flags.generate.model.empty()) return Generate(flags);
  if (!flags.predict.checkpoint.empty()) return Predict(flags);
  if (!flags.describe.empty()) return Describe(flags);
  return Run(std::move(flags));
}

}  // namespace espalier::worker

int main(int argc, char** argv) { return espalier::worker::Main(argc, argv); }

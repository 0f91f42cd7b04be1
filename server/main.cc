// espalier-coordinator: wiring only.
#include <fcntl.h>
#include <grpcpp/create_channel.h>
#include <malloc.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigwait and friends are POSIX
#include <sys/file.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

#include "common/base/clock.h"
#include "common/base/entropy.h"
#include "common/base/executor.h"
#include "common/base/limits.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/base/version.h"
#include "common/io/host_memory.h"
#include "common/io/standard_output.h"
#include "common/log/log.h"
#include "common/net/descriptors.h"
#include "common/rpc/health.h"
#include "common/rpc/process.h"
#include "server/backup/backup.h"
#include "server/checkpoint_place.h"
#include "server/flags.h"
#include "server/front.h"
#include "server/pretrained/model_library.h"
#include "server/quota_file.h"
#include "server/security.h"
#include "server/store/postgres/postgres_store.h"
#include "server/tenure.h"

namespace espalier::server {
namespace {

// Exit codes of daemons, after sysexits.h.
constexpr int kExitOk = 0;
constexpr int kExitUsage = 64;
constexpr int kExitData = 65;
constexpr int kExitUnavailable = 69;
constexpr int kExitSoftware = 70;
constexpr int kExitOutput = 74;
constexpr int kExitTemporary = 75;
constexpr int kExitConfig = 78;

// Descriptors that a coordinator needs to work at all: its own, and a handful of connections.
constexpr int kLeastDescriptors = 32;
constexpr int kBucketThreads = 4;
constexpr auto kTick = std::chrono::milliseconds(50);
constexpr absl::Duration kTrimEvery = absl::Seconds(10);
constexpr size_t kTrimFrom = 16 * 1024 * 1024;
constexpr auto kLastWrite = std::chrono::seconds(10);

// The lock that keeps a second coordinator off the same folder; held until the process ends.
absl::Status LockDataDir(const std::string& directory) {
  if (const absl::Status made = io::PosixFileSystem().CreateDirectories(directory + "/spool");
      !made.ok()) {
    return base::Annotate(made, "expected a writable folder at --data-dir '" + directory + "'");
  }
  const std::string path = directory + "/lock";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) {
    return base::FailedPrecondition("DATA_DIR_UNUSABLE",
                                    "expected a writable folder at '" + directory +
                                        "', found none; check --data-dir and its owner");
  }
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return base::MakeError(absl::StatusCode::kAlreadyExists, "DATA_DIR_LOCKED",
                           "another coordinator uses '" + directory +
                               "'; stop it or give this one another --data-dir");
  }
  return absl::OkStatus();
}

// Creates it if need be; what a crash left there goes. What cannot be removed, such as a folder,
// is not ours and stays.
absl::Status EmptyDirectory(const std::string& directory) {
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_RETURN_IF_ERROR(files.CreateDirectories(directory));
  ESPALIER_ASSIGN_OR_RETURN(const auto names, files.List(directory));
  for (const std::string& name : names) {
    std::string path = directory;
    path += "/" + name;
    const absl::Status removed = files.Remove(path);
    if (!removed.ok()) {
      log::Warning("leftover_stays", {{"file", path}, {"message", base::MessageOf(removed)}});
    }
  }
  return absl::OkStatus();
}

uint64_t MemoryBudget(const Flags& flags) {
  if (flags.memory_budget > 0) return flags.memory_budget;
  const auto host = static_cast<double>(io::HostMemoryBytes());
  return static_cast<uint64_t>(host * base::kMemoryBudgetShare);
}

// What a crash left of uploads goes; parts of models stay until it is known which jobs need them.
absl::Status PrepareWorkFolders(const Flags& flags, Tenure& tenure) {
  ESPALIER_RETURN_IF_ERROR(tenure.files().CreateDirectories(tenure.shared_dir() + "/parts"));
  return EmptyDirectory(flags.data_dir + "/spool");
}

base::Limits LimitsFrom(const Flags& flags) {
  base::Limits limits;
  limits.heartbeat_timeout = absl::Seconds(flags.heartbeat_timeout_s);
  limits.heartbeat_interval = std::min(limits.heartbeat_interval, limits.heartbeat_timeout / 4);
  limits.transfer_stall = limits.watch_stall = absl::Seconds(flags.stall_timeout_s);
  return limits;
}

int ExitWith(const absl::Status& status, int code) {
  log::Error("cannot_start",
             {{"reason", base::ReasonOf(status)}, {"message", base::MessageOf(status)}});
  return code;
}

int CodeOf(const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  if (reason == "SYNC_FAILED") return kExitOutput;
  if (reason == "NOT_HEARD") return kExitSoftware;
  if (reason == "PORT_IN_USE") return kExitUnavailable;
  // Worth another try: systemd does not give up on it.
  for (const char* passing : {"DATA_DIR_LOCKED", "STORAGE_FULL", "STORAGE_ERROR",
                              "STORE_LEASE_LOST", "STORE_LEASE_EXPIRED", "STORE_FELL_BACK"}) {
    if (reason == passing) return kExitTemporary;
  }
  return status.code() == absl::StatusCode::kDataLoss ? kExitData : kExitConfig;
}

// Ends the process at once: nothing may be told that depends on what was not written, and nothing done
// that another coordinator may be doing.
void EndNow(const absl::Status& status) {
  log::Error("coordinator_ends",
             {{"reason", base::ReasonOf(status)}, {"message", base::MessageOf(status)}});
  _exit(CodeOf(status));
}

jobs::Journal MakeJournal(const Flags& flags, base::Executor& core, const base::Clock& clock,
                          store::Store* store, pretrained::PartStore& parts,
                          base::Executor& writer) {
  if (store == nullptr) return jobs::Journal(core, clock);
  if (flags.store_sync == "machine") parts.SyncFiles();
  return {core, clock, {*store, parts, writer, EndNow}};
}

// The jobs of the process before this one, and the files that they need; others go.
absl::Status RestoreJobs(const Flags& flags, jobs::JobManager& manager, store::Store* store,
                         pretrained::PartStore& parts) {
  ESPALIER_ASSIGN_OR_RETURN(config::Quotas quotas, ReadQuotas(flags.quotas));
  manager.SetQuotas(std::move(quotas));
  if (store != nullptr) {
    ESPALIER_RETURN_IF_ERROR(manager.Restore(*store));
  } else if (io::PosixFileSystem().Open(StorePath(flags)).ok()) {
    // Jobs that this process does not look at may need them.
    parts.KeepFiles();
    return absl::OkStatus();
  }
  return parts.Sweep();
}

// Lets files stay that the next process needs, however this one ends. Goes before the jobs do.
class FilesStay {
 public:
  explicit FilesStay(pretrained::PartStore* parts) : parts_(parts) {}
  ~FilesStay() {
    if (parts_ != nullptr) parts_->KeepFiles();
  }
  FilesStay(const FilesStay&) = delete;
  FilesStay& operator=(const FilesStay&) = delete;

 private:
  pretrained::PartStore* const parts_;
};

// A burst of calls leaves the heap with free memory between what lives on, which glibc keeps for
// good. It is given back when there is much of it.
void GiveBackMemory() {
  if (mallinfo2().fordblks >= kTrimFrom) malloc_trim(0);
}

// After SIGHUP: what the file at --quotas says holds from now on, if it can be read.
void ReadQuotasAgain(const Flags& flags, base::Executor& core, base::Executor& files,
                     jobs::JobManager& manager) {
  files.Post([&flags, &core, &manager] {
    auto quotas = ReadQuotas(flags.quotas);
    if (!quotas.ok()) {
      log::Error("quotas_not_read",
                 {{"reason", base::ReasonOf(quotas.status())},
                  {"message", base::MessageOf(quotas.status()) + "; the former hold"}});
      return;
    }
    core.Post([&manager, quotas = *std::move(quotas)]() mutable {
      manager.SetQuotas(std::move(quotas));
      log::Info("quotas_read");
    });
  });
}

// Until SIGTERM or SIGINT, lets time pass for the state machines. `hangup` is called after SIGHUP.
void RunUntilSignal(const Tenure& tenure, base::ThreadExecutor& core, base::ThreadExecutor& pool,
                    jobs::JobManager& manager, Front& front, Security& security,
                    const std::function<void()>& hangup, const base::Clock& clock,
                    metrics::Metrics& metrics, const sigset_t& signals) {
  using metrics::Metric;
  absl::Duration trimmed = clock.Elapsed();
  std::atomic<bool> ticking{false};
  const timespec timeout{0, std::chrono::nanoseconds(kTick).count()};
  while (sigtimedwait(&signals, nullptr, &timeout) < 0) {
    metrics.Set(Metric::kExecutorQueueLength, static_cast<double>(core.queue_length()), "core");
    metrics.Set(Metric::kExecutorQueueLength, static_cast<double>(pool.queue_length()), "pool");
    // However long whoever renews the lease waits for an answer.
    if (const absl::Status ours = tenure.MayChange(); !ours.ok()) EndNow(ours);
    front.Tick();
    if (security.TakeHangup()) hangup();
    if (clock.Elapsed() - trimmed >= kTrimEvery) {
      trimmed = clock.Elapsed();
      GiveBackMemory();
    }
    // Ticks do not pile up behind a busy core.
    if (ticking.exchange(true)) continue;
    core.Post([&manager, &ticking] {
      manager.Tick();
      ticking = false;
    });
  }
  while (ticking) std::this_thread::yield();
}

// What was done so far is written; what happens from now on is not.
void WriteTheLast(base::Executor& core, jobs::Journal& journal) {
  const auto written = std::make_shared<std::promise<void>>();
  core.Post([&journal, written] { journal.Close([written] { written->set_value(); }); });
  if (written->get_future().wait_for(kLastWrite) == std::future_status::ready) return;
  // Calls that wait for the disk would never end.
  log::Error("coordinator_ends", {{"message", "the disk did not answer in time"}});
  _exit(kExitOutput);
}

// Ends all calls and waits for them.
void StopServing(Front& front, base::Executor& core, jobs::Journal& journal,
                 scheduler::Fleet& fleet, base::Executor& writer, const sigset_t& signals) {
  log::Info("coordinator_stops");
  // A second signal ends the process at once.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  // Before workers are sent away, which is nothing that happens to jobs.
  WriteTheLast(core, journal);
  // Sessions would stay open for ever: they are ended, and workers come back when there is a
  // coordinator.
  core.Post([&fleet] { fleet.CloseAll(); });
  front.Stop();
  // What ended calls left for the core to do needs the services, which go before the core does.
  for (base::Executor* executor : {static_cast<base::Executor*>(&core), &writer}) {
    std::promise<void> done;
    executor->Post([&done] { done.set_value(); });
    done.get_future().wait();
  }
}

// What was called is written, and where the log ends is told.
void FinishAudit(audit::AuditLog& audit) {
  if (const absl::Status written = audit.Flush(absl::FromChrono(kLastWrite)); !written.ok()) {
    log::Error("audit_log_unfinished", {{"message", base::MessageOf(written)}});
  }
  audit.TellHead();
}

// Of flags that do not go together.
absl::Status CheckFlags(const Flags& flags) {
  if (flags.shared_dir.empty() || store::PostgresStore::IsUrl(flags.store)) {
    return absl::OkStatus();
  }
  return base::InvalidArgument(
      "SHARED_DIR_WITHOUT_DATABASE",
      "expected --shared-dir only with --store postgresql://…, whose coordinators share it, found "
      "--store " +
          flags.store + "; leave it out, and everything is in --data-dir");
}

// Copies the data folder, or fills it from a copy.
int CopyDataDir(const Flags& flags) {
  if (store::PostgresStore::IsUrl(flags.store)) {
    return ExitWith(
        base::FailedPrecondition(
            "BACKUP_OF_DATABASE",
            "expected --store sqlite, whose file and folder are copied together, found a "
            "database; stop its coordinators, then use pg_dump or pg_restore and copy "
            "--shared-dir"),
        kExitUsage);
  }
  absl::StatusOr<backup::Contents> contents;
  if (!flags.backup.empty()) {
    contents = backup::BackUp(flags.data_dir, flags.backup);
  } else {
    const absl::Status locked = LockDataDir(flags.data_dir);
    if (!locked.ok()) return ExitWith(locked, CodeOf(locked));
    base::SystemEntropy entropy;
    contents = backup::Restore(flags.restore, flags.data_dir, Tenure::RandomNumber(entropy));
  }
  if (!contents.ok()) return ExitWith(contents.status(), CodeOf(contents.status()));
  std::printf("%s jobs=%lld parts=%lld checkpoints=%lld\n",
              flags.backup.empty() ? "restored" : "backed-up",
              static_cast<long long>(contents->jobs), static_cast<long long>(contents->parts),
              static_cast<long long>(contents->checkpoints));
  return io::ExitAfterPrinting(kExitOk, kExitOutput);
}

// With TLS the coordinator's own certificate serves as the caller's.
int HealthCheck(const Flags& flags) {
  rpc::ChannelOptions options{flags.listen, "", "", ""};
  options.insecure = flags.insecure;
  if (!flags.tls_cert.empty()) {
    options.tls_ca_file = flags.tls_client_ca.empty() ? flags.tls_cert : flags.tls_client_ca;
    options.tls_cert_file = flags.tls_cert;
    options.tls_key_file = flags.tls_key;
    options.tls_passphrase_file = flags.tls_key_passphrase_file;
  }
  const absl::Status health = rpc::CheckHealth(options);
  if (!health.ok()) std::fprintf(stderr, "%s\n", base::Printable(base::MessageOf(health)).c_str());
  return health.ok() ? kExitOk : kExitUnavailable;
}

// The signals that end the program, blocked in this thread and in those that it starts, as is SIGHUP, at
// which files are read again.
sigset_t BlockSignals() {
  sigset_t hangup;
  sigemptyset(&hangup);
  sigaddset(&hangup, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &hangup, nullptr);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// However long a bucket takes, a signal ends the program.
absl::StatusOr<std::unique_ptr<checkpoint::CheckpointStore>> OpenFolders(const Flags& flags,
                                                                         CheckpointPlace& place,
                                                                         Tenure& tenure,
                                                                         const sigset_t& signals) {
  ESPALIER_RETURN_IF_ERROR(PrepareWorkFolders(flags, tenure));
  auto opened = std::async(std::launch::async, [&place] { return place.Open(); });
  const timespec timeout{0, std::chrono::nanoseconds(kTick).count()};
  while (opened.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    if (sigtimedwait(&signals, nullptr, &timeout) < 0) continue;
    tenure.End();
    _exit(kExitOk);
  }
  return opened.get();
}

// For programs that wait for the addresses, and for the log.
absl::Status Announce(const std::string& address, const std::string& metrics_address,
                      const Flags& flags, uint64_t memory_budget, int64_t descriptors) {
  std::printf("listening address=%s metrics=%s\n", address.c_str(), metrics_address.c_str());
  const absl::Status told = io::FlushStandardOutput();
  log::Info("coordinator_started", {{"address", address},
                                    {"metrics", metrics_address},
                                    {"version", base::Version()},
                                    {"data_dir", flags.data_dir},
                                    {"memory_budget", memory_budget},
                                    {"descriptors", descriptors}});
  return io::ReaderGone(told) ? absl::OkStatus() : told;
}

// For programs that wait for the addresses of a coordinator that stands by. It has no other one yet.
void StandBy(const std::string& whom, const std::string& metrics_address, CheckpointPlace& place) {
  place.Follow();
  std::printf("stands-by metrics=%s (%s)\n", metrics_address.c_str(),
              base::Printable(whom).c_str());
  (void)io::FlushStandardOutput();
}

// What executors tell of the time that functions take.
base::ThreadExecutor::Observe Observer(metrics::Metrics& metrics, const char* executor) {
  return [&metrics, executor](double seconds) {
    metrics.Observe(metrics::Metric::kExecutorTaskDuration, seconds, executor);
  };
}

void CountLogMessages(metrics::Metrics& metrics) {
  log::SetCounter([&metrics](log::Level level) {
    constexpr const char* kWords[] = {"debug", "info", "warning", "error"};
    metrics.Add(metrics::Metric::kLogMessages, 1, kWords[static_cast<int>(level)]);
  });
}

// How much can still be written, looked up when somebody asks: a disk may take its time.
void LookAtDataDir(metrics::Metrics& metrics, const std::string& data_dir) {
  std::error_code error;
  const auto space = std::filesystem::space(data_dir, error);
  if (error) return;
  metrics.Set(metrics::Metric::kDataDirFree, static_cast<double>(space.available));
  metrics.Set(metrics::Metric::kDataDirSize, static_cast<double>(space.capacity));
}

void TuneHeap() {
  // gRPC's many threads would otherwise each keep an arena of their own.
  mallopt(M_ARENA_MAX, 2);
  // Models and reductions are given back to the system when they are freed instead of splitting the
  // heap.
  mallopt(M_MMAP_THRESHOLD, 128 * 1024);
}

int Run(const Flags& flags) {
  // Blocked before any thread exists, so that only those see them that wait for them.
  sigset_t signals = BlockSignals();
  TuneHeap();
  const auto descriptors = net::RaiseDescriptorLimit(kLeastDescriptors);
  if (!descriptors.ok()) return ExitWith(descriptors.status(), kExitConfig);
  if (const absl::Status locked = LockDataDir(flags.data_dir); !locked.ok()) {
    return ExitWith(locked, CodeOf(locked));
  }
  const base::RealClock clock;
  metrics::Metrics metrics(metrics::Role::kCoordinator);
  CountLogMessages(metrics);
  const auto security = Security::Open(flags, clock, metrics);
  if (!security.ok()) return ExitWith(security.status(), kExitConfig);
  if (const absl::Status opened = (*security)->OpenAudit(flags.data_dir + "/audit"); !opened.ok()) {
    return ExitWith(opened, CodeOf(opened));
  }
  (*security)->Watch();
  base::SystemEntropy entropy;
  auto tenure = Tenure::Open(flags, entropy);
  if (!tenure.ok()) return ExitWith(tenure.status(), CodeOf(tenure.status()));
  store::Store* const store = (*tenure)->store();
  const auto place = CheckpointPlace::Make(flags, **tenure, entropy);
  if (!place.ok()) return ExitWith(place.status(), CodeOf(place.status()));

  metrics.BeforePage([&flags](metrics::Metrics& page) { LookAtDataDir(page, flags.data_dir); });
  const auto metrics_address =
      metrics.Serve(flags.metrics_listen,
                    {.connections = descriptors->metrics, .below = descriptors->metrics_below});
  if (!metrics_address.ok()) return ExitWith(metrics_address.status(), kExitUnavailable);

  const auto incarnation = (*tenure)->Begin(
      signals, [&](const std::string& whom) { StandBy(whom, *metrics_address, **place); }, EndNow);
  if (absl::IsCancelled(incarnation.status())) return kExitOk;
  if (!incarnation.ok()) return ExitWith(incarnation.status(), CodeOf(incarnation.status()));
  const auto checkpoints = OpenFolders(flags, **place, **tenure, signals);
  if (!checkpoints.ok()) return ExitWith(checkpoints.status(), CodeOf(checkpoints.status()));
  metrics.Set(metrics::Metric::kCoordinatorActive, 1);
  const base::Limits limits = LimitsFrom(flags);
  const auto library = std::make_shared<const pretrained::ModelLibrary>(
      (*tenure)->files(), flags.models, (*tenure)->shared_dir() + "/parts", **checkpoints);
  const auto methods = methods::MethodRegistry::Builtin(library);
  round::BlobStore blobs;
  scheduler::Fleet fleet(clock, limits, entropy, *incarnation);
  base::ThreadExecutor core(1, Observer(metrics, "core"));
  base::ThreadExecutor pool(std::max(1, static_cast<int>(std::thread::hardware_concurrency()) - 1),
                            Observer(metrics, "pool"));
  // Nothing that is computed waits for a disk or a bucket. A bucket takes several checkpoints at once.
  base::ThreadExecutor files(flags.checkpoints.empty() ? 1 : kBucketThreads);
  const uint64_t memory_budget = MemoryBudget(flags);
  datasets::DatasetViews datasets(fleet, core, clock, limits);
  base::ThreadExecutor writer(1);
  jobs::Journal journal = MakeJournal(flags, core, clock, store, library->parts(), writer);
  jobs::JobManager manager(
      {fleet, core, pool, files, clock, blobs, **checkpoints, metrics, datasets, journal}, methods,
      memory_budget, flags.keep_ended_jobs);
  const FilesStay files_stay(store == nullptr ? nullptr : &library->parts());
  if (const absl::Status restored = RestoreJobs(flags, manager, store, library->parts());
      !restored.ok()) {
    return ExitWith(restored, CodeOf(restored));
  }
  Front front(flags,
              {core, pool, files, clock, entropy, manager, journal, fleet, methods, **checkpoints,
               blobs, metrics, limits, *descriptors, *metrics_address},
              **security);
  const absl::Status serves = front.Start(flags, store, EndNow);
  if (!serves.ok()) return ExitWith(serves, CodeOf(serves));
  if (const absl::Status told =
          Announce(front.address(), *metrics_address, flags, memory_budget, descriptors->limit);
      !told.ok()) {
    return ExitWith(told, kExitOutput);
  }
  RunUntilSignal(
      **tenure, core, pool, manager, front, **security,
      [&] { ReadQuotasAgain(flags, core, files, manager); }, clock, metrics, signals);
  StopServing(front, core, journal, fleet, writer, signals);
  FinishAudit(*(*security)->audit());
  // What there is to keep is written, and what executors still have is of no use to anybody.
  (*tenure)->End();
  std::fflush(nullptr);
  _exit(kExitOk);
}

}  // namespace

int Main(int argc, char** argv) {
  rpc::PrepareProcess();
  CLI::App app(
      "The coordinator of an Espalier cluster: accepts jobs, hands tasks to workers, keeps models.",
      "espalier-coordinator");
  Flags flags;
  DeclareFlags(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? io::ExitAfterPrinting(kExitOk, kExitOutput) : kExitUsage;
  }
  log::SetLevel(flags.log_level);
  log::SetFormat(flags.log_format);
  if (const absl::Status complete = CompleteTlsFlags(flags); !complete.ok()) {
    return ExitWith(complete, kExitConfig);
  }
  if (flags.describe_metrics) {
    std::fputs(metrics::CatalogueAsMarkdown().c_str(), stdout);
    return io::ExitAfterPrinting(kExitOk, kExitOutput);
  }
  if (flags.health_check) return HealthCheck(flags);
  if (const absl::Status fit = CheckFlags(flags); !fit.ok()) return ExitWith(fit, kExitUsage);
  if (!flags.backup.empty() || !flags.restore.empty()) return CopyDataDir(flags);
  return Run(flags);
}

}  // namespace espalier::server

int main(int argc, char** argv) { return espalier::server::Main(argc, argv); }

#include "server/flags.h"

#include <algorithm>

#include "common/base/flags.h"
#include "common/base/version.h"
#include "server/store/postgres/postgres_store.h"

namespace espalier::server {
namespace {

// "" or what is wrong. It is not repeated: there may be a password in it.
std::string CheckStore(const std::string& store) {
  if (store == "sqlite" || store == "memory") return "";
  if (!store::PostgresStore::IsUrl(store)) {
    return "expected sqlite, memory or postgresql://user@host:port/database, found something else";
  }
  if (std::ranges::count(store, '@') <= 1) return "";
  return "expected one @ in the URL of the database, found several; write %40 within a name or "
         "password";
}

void DeclareTlsFlags(CLI::App& app, Flags& flags) {
  app.add_option(
      "--tls-dir", flags.tls_dir,
      "folder as `espalier cert init` makes it, which has what the following flags name: "
      "ca.pem, cert.pem, key.pem, and crl.pem, workers.pem and workers.key if they are "
      "there; its files are read again when they change, and on SIGHUP");
  app.add_option("--tls-cert", flags.tls_cert, "PEM certificate; turns TLS on");
  app.add_option("--tls-key", flags.tls_key, "PEM private key");
  app.add_option("--tls-key-passphrase-file", flags.tls_key_passphrase_file,
                 "file with the passphrase of encrypted private keys on its first line");
  app.add_option("--tls-client-ca", flags.tls_client_ca,
                 "PEM authority of callers' certificates, which say who they are and what they may "
                 "do; callers without one need a token");
  app.add_option("--tls-crl", flags.tls_crl, "PEM lists of certificates that are revoked");
  app.add_option("--tls-worker-ca-cert", flags.tls_worker_ca_cert,
                 "PEM authority that signs the certificates of workers that join with a token");
  app.add_option("--tls-worker-ca-key", flags.tls_worker_ca_key, "its PEM private key");
  app.add_option("--worker-certificate-days", flags.worker_certificate_days,
                 "days that a certificate of a worker that joined is good for; it is renewed by "
                 "itself after two thirds of them; 0.0001 to 366")
      ->check(base::Between(0.0001, 366.0))
      ->capture_default_str();
  app.add_flag("--insecure", flags.insecure,
               "serve other machines without TLS, or without asking who they are: everybody on the "
               "network may read and change everything");
}

}  // namespace

void DeclareFlags(CLI::App& app, Flags& flags) {
  app.add_option("--listen", flags.listen, "host:port for workers and clients; port 0 = a free one")
      ->capture_default_str();
  app.add_option("--metrics-listen", flags.metrics_listen, "host:port of /metrics (HTTP)")
      ->capture_default_str();
  app.add_option("--data-dir", flags.data_dir, "folder for jobs, checkpoints and uploads")
      ->capture_default_str();
  app.add_option("--shared-dir", flags.shared_dir,
                 "folder for what jobs need besides --store, above all checkpoints, which several "
                 "coordinators of one database share; default: --data-dir");
  app.add_option("--checkpoints", flags.checkpoints,
                 "bucket of an S3-compatible object store that has all checkpoints, as "
                 "s3://bucket/prefix; --data-dir has copies, which are read; default: only the "
                 "folder checkpoints in --shared-dir");
  app.add_option("--store", flags.store,
                 "where jobs are kept: sqlite, a file in --data-dir, with which the next "
                 "coordinator goes on; memory, with which they end; or a database of a PostgreSQL "
                 "server, as postgresql://user@host:port/database, of which one coordinator works "
                 "and others stand by")
      ->check(CheckStore)
      ->capture_default_str();
  app.add_option("--store-sync", flags.store_sync,
                 "what jobs survive: machine, also that power is lost; or process, only "
                 "that this program ends, without waiting for the disk of this machine or of the "
                 "database's server")
      ->check(base::OneOf({"machine", "process"}))
      ->capture_default_str();
  auto* backup = app.add_option("--backup", flags.backup,
                                "copy --data-dir, whose coordinator may run, to this new folder "
                                "and exit");
  app.add_option("--restore", flags.restore,
                 "fill --data-dir, which has no jobs yet, from a folder that --backup made, and "
                 "exit; start the coordinator then")
      ->excludes(backup);
  app.add_option("--keep-ended-jobs", flags.keep_ended_jobs,
                 "of jobs that have ended, so many of the newest are kept with their events; of "
                 "older ones only the checkpoints stay")
      ->check(base::Between<int64_t>(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--models", flags.models,
                 "folder of trained language models, each in a folder of its own in Hugging Face's "
                 "layout; jobs name one as model.pretrained");
  app.add_option("--quotas", flags.quotas,
                 "file that says how much each user may take: jobs, running tasks and bytes of "
                 "checkpoints; default: no limits");
  app.add_option("--log-level", flags.log_level, "debug, info, warning or error")
      ->check(base::OneOf({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  app.add_option("--log-format", flags.log_format,
                 "how lines of the log are written: text, or json for programs that collect logs")
      ->check(base::OneOf({"text", "json"}))
      ->capture_default_str();
  DeclareTlsFlags(app, flags);
  app.add_option("--heartbeat-timeout", flags.heartbeat_timeout_s,
                 "seconds of silence after which a worker counts as lost, 0.5 to 3600")
      ->check(base::Between(0.5, 3600.0))
      ->capture_default_str();
  app.add_option("--memory-budget", flags.memory_budget,
                 "memory this coordinator may use, for example 4GB; jobs that need more are "
                 "refused, and wait while others take it; default: 80 % of what the machine or its "
                 "control group has")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true));
  app.add_option(
         "--stall-timeout", flags.stall_timeout_s,
         "seconds in which a transfer must move a chunk of 512 KiB, a watcher take an event, "
         "and a call that a peer begins to send be whole; otherwise it is ended, 0.5 to "
         "3600")
      ->check(base::Between(0.5, 3600.0))
      ->capture_default_str();
  app.add_option("--max-connections-per-source", flags.max_connections_per_source,
                 "connections of one IPv4 address, or one /64 network of IPv6 addresses, to "
                 "--listen; further ones are closed. 0: no limit of their own, as it must be "
                 "behind a proxy or a load balancer, from which all connections seem to come, and "
                 "which limits them itself; default: half of what the limit of open files allows, "
                 "at most 1024")
      ->check(base::Between(0, 1'000'000));
  // CLI11 would set an optional to false at once.
  app.add_flag_function(
      "--reflection,!--no-reflection", [&flags](int64_t count) { flags.reflection = count > 0; },
      "serve gRPC reflection, or not; default: where --listen is a loopback address");
  app.add_flag("--debug-reflection", flags.debug_reflection)
      ->group("")
      ->check([](const std::string&) {
        return "it is called --reflection now, and is on by itself where --listen is a loopback "
               "address; write --reflection, or leave it out";
      });
  app.add_flag("--health-check", flags.health_check,
               "ask the coordinator at --listen for its health and exit 0 or 69");
  app.add_flag("--describe-metrics", flags.describe_metrics, "print the metric catalogue and exit");
  app.set_version_flag("--version", "espalier-coordinator " + std::string(base::Version()));
}

}  // namespace espalier::server

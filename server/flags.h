// The flags of espalier-coordinator.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "common/base/limits.h"

namespace espalier::server {

struct Flags {
  std::string listen = "127.0.0.1:7070";
  std::string metrics_listen = "127.0.0.1:7071";
  std::string data_dir = "espalier-data";
  std::string shared_dir;   // "": data_dir
  std::string checkpoints;  // "": a folder in shared_dir
  std::string store = "sqlite";
  std::string store_sync = "machine";
  std::string backup;   // folder
  std::string restore;  // folder
  std::string models;
  std::string quotas;  // file
  std::string log_level = "info";
  std::string log_format = "text";
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  std::string tls_dir;  // has what the flags of files do not name
  std::string tls_key_passphrase_file;
  std::string tls_crl;
  std::string tls_worker_ca_cert;
  std::string tls_worker_ca_key;
  double worker_certificate_days = 7;
  bool insecure = false;
  double heartbeat_timeout_s = 10;
  uint64_t memory_budget = 0;  // bytes; 0: by what the system allows
  int64_t keep_ended_jobs = base::Limits().max_ended_jobs;
  double stall_timeout_s = 60;
  std::optional<int> max_connections_per_source;  // absent: by the limit of open files; 0: none
  std::optional<bool> reflection;                 // absent: on loopback
  bool debug_reflection = false;                  // the flag's name before 0.1.0
  bool health_check = false;
  bool describe_metrics = false;
};

// `flags` outlives `app`.
void DeclareFlags(CLI::App& app, Flags& flags);

}  // namespace espalier::server

"""Who may use whom: the table that layering_test.py enforces. Paths are folders of the project.

A rule applies to its folder and everything below it; for the lists of allowed folders the longest
matching folder decides alone.
"""
import re

# Kinds of outside code. Each has the headers and the CMake targets that give it away.
KINDS = {
    "oneDNN": (re.compile(r"(oneapi/dnnl/)?dnnl(_\w+)?\.h(pp)?$"),
               re.compile(r"(?i)(dnnl::|espalier::(onednn|dnnl)$|dnnl$)")),
    "gRPC": (re.compile(r"(grpc|grpcpp)/|.*\.grpc\.pb\.h$"),
             re.compile(r"gRPC::|Espalier::grpc$")),
    "proto": (re.compile(r"google/protobuf/|.*\.pb\.h$"),
              re.compile(r"protobuf::|Espalier::proto$")),
    "YAML": (re.compile(r"yaml-cpp/"), re.compile(r"yaml-cpp(::.*)?$")),
    "SQLite": (re.compile(r"sqlite3(ext)?\.h$"), re.compile(r"(?i)(sqlite::|sqlite3$)")),
    "PostgreSQL": (re.compile(r"libpq-fe\.h$"), re.compile(r"PkgConfig::libpq$")),
    "curl": (re.compile(r"curl/"), re.compile(r"(?i)(curl::|libcurl$|curl$)")),
    "HTTP": (re.compile(r"microhttpd\.h$|(civetweb|CivetServer)\.h$|prometheus/exposer\.h$"),
             re.compile(r"PkgConfig::microhttpd$|prometheus-cpp::pull$")),
    "sockets": (re.compile(r"(sys/(socket|un|epoll|select)|netinet/.*|arpa/inet|netdb|poll)\.h$"), None),
    "CLI11": (re.compile(r"CLI/"), re.compile(r"CLI11::")),
}

SERVER_CORE = ["server/jobs", "server/scheduler", "server/round", "server/reduce", "server/methods",
               "server/events", "server/checkpoint", "server/admission", "server/datasets", "server/pretrained"]

# folder -> kinds it never uses, directly or through a library it links.
NEVER = {
    "common/base": ["oneDNN", "gRPC", "proto", "YAML", "SQLite", "CLI11"],
    "common/io": ["oneDNN", "gRPC", "proto", "YAML", "SQLite", "CLI11"],
    "common/audit": ["oneDNN", "gRPC", "proto", "YAML", "SQLite", "CLI11"],
    "common/tensor": ["oneDNN", "gRPC", "proto", "YAML", "SQLite", "CLI11"],
    "common/sparsity": ["oneDNN", "gRPC", "proto", "YAML", "SQLite", "CLI11"],
    "common/wire": ["oneDNN", "gRPC", "YAML", "SQLite", "CLI11"],
    "common/language": ["oneDNN", "gRPC", "YAML", "SQLite", "CLI11"],
    "common/checkpoint": ["oneDNN", "gRPC", "YAML", "SQLite", "CLI11"],
    "common/language/architecture": ["proto"],
    "server/access": ["oneDNN", "gRPC", "SQLite", "PostgreSQL", "CLI11"],
    "worker/engine": ["gRPC", "proto", "YAML", "SQLite", "CLI11"],
    **{folder: ["oneDNN", "gRPC", "SQLite", "PostgreSQL", "CLI11"] for folder in SERVER_CORE},
}

# folder -> kinds it never includes itself. A library it links may use them inside: the metrics
# library serves HTTP, but no core file opens a socket.
NEVER_INCLUDED = {
    **{folder: ["sockets", "HTTP", "YAML", "curl"] for folder in SERVER_CORE},
    # A client like any other: what speaks to a coordinator is the client library.
    "client/dashboard": ["gRPC", "YAML", "CLI11"],
}

# kind -> the only folders that include its headers, tests apart.
ONLY_IN = {
    "HTTP": ["client/dashboard/http", "common/metrics"],
    "oneDNN": ["worker/engine/onednn"],
    "YAML": ["common/config"],
    "SQLite": ["server/store"],
    "PostgreSQL": ["server/store/postgres"],
    "curl": ["server/object_store"],
    "CLI11": ["client/cli", "server/flags.cc", "server/flags.h", "server/main.cc", "worker/main.cc"],
}

_PURE = ["common/base", "common/io", "common/tensor", "common/sparsity"]
_CORE_MAY = _PURE + ["common/checkpoint", "common/language", "common/wire", "common/config", "common/log", "common/metrics"]

# folder -> project folders it may include and link besides itself.
MAY_USE = {
    "common/base": [],
    "common/io": ["common/base"],
    "common/audit": ["common/base", "common/io"],
    "common/tensor": ["common/base", "common/io"],
    "common/sparsity": ["common/base", "common/io", "common/tensor"],
    "common/wire": _PURE + ["common/language/architecture", "proto"],
    "common/language": _PURE + ["common/wire", "proto"],
    "common/checkpoint": _PURE + ["common/wire", "proto"],
    # Below the wire: a transformer's tensors follow from its config.json wherever it is trained or pruned.
    "common/language/architecture": ["common/base"],
    # Which layers fit each other is known where the tensors are derived from them.
    "common/config": _PURE + ["common/wire/model_spec", "proto"],
    "common/log": ["common/base", "common/io"],
    "common/net": ["common/base"],
    "common/pki": ["common/base"],
    "common/metrics": ["common/base", "common/io", "common/log", "common/net"],
    "common/rpc": ["common/base", "common/io", "common/config", "common/log", "common/metrics",
                   "common/net", "common/pki", "common/wire", "proto"],
    **{folder: _CORE_MAY + SERVER_CORE + ["server/store/store.h", "server/store/records", "proto"] for folder in SERVER_CORE},
    # The journal, which writes its records down, is part of the core's library.
    "server/access": _CORE_MAY + SERVER_CORE + ["common/pki", "proto", "server/store/store.h", "server/store/records"],
    "server/api": ["common", "proto", "server/access", "server/audit"] + SERVER_CORE,
    "server/store": ["common", "proto"] + SERVER_CORE,
    "server/audit": ["common/audit", "common/base", "common/io", "common/log", "common/metrics"],
    "server/object_store": ["common/base", "common/io"],
    "server/dashboard": ["common", "proto"] + SERVER_CORE,
    "server": ["common", "proto", "server"],
    "worker/engine": _PURE,
    "worker/language": _PURE + ["common/language", "common/wire", "proto", "worker/engine"],
    "worker/data": _PURE + ["common/config", "common/language", "common/log", "common/wire", "proto"],
    "worker": ["common", "proto", "worker"],
    "client/lib": ["common", "proto"],
    "client/json": ["common/base", "common/config", "common/wire", "proto"],
    "client/dashboard": ["client/json", "client/lib", "common", "proto"],
    "client": ["common", "proto", "client"],
}

# Folders whose decisions must be replayable: time comes from the injected clock, randomness from
# base::Rng.
NO_CLOCK = SERVER_CORE + ["common/tensor", "common/sparsity"]
NO_RANDOM = NO_CLOCK + ["worker/engine", "worker/recommender"]
CLOCK = re.compile(
    r"std::chrono::\w*_clock::now|\bsteady_clock::now|\bsystem_clock::now|absl::Now\s*\(|"
    r"absl::GetCurrentTimeNanos|\bclock_gettime\s*\(|\bgettimeofday\s*\(|"
    r"(?<![\w.>:])(std::)?time\s*\(\s*(nullptr|NULL|0|&)|"
    r"absl::SleepFor|this_thread::sleep_|SleepUnlessStopped|(?<![\w.>:])(sleep|usleep|nanosleep)\s*\(")
RANDOM = re.compile(
    r"std::random_device|std::mt19937|std::default_random_engine|std::\w+_distribution\b|"
    r"absl::BitGen|(?<![\w.>:])(std::)?s?rand\s*\(|std::(random_)?shuffle\b")

# Locks whose use is not checked; base::Mutex has annotations for that.
NO_BARE_LOCK = ["common", "server", "worker", "client"]
BARE_LOCK = re.compile(
    r"\bstd::(\w+_)?mutex\b|\bstd::(lock_guard|unique_lock|scoped_lock|shared_lock|condition_variable(_any)?)\b|"
    r"\babsl::(Mutex|CondVar|(Reader|Writer)?MutexLock)\b|\bpthread_(mutex|cond|rwlock)_\w+")

# rule -> the files that it is not for.
EXEMPT = {"lock": ["common/base/mutex.h"]}

SOURCE_ROOTS = ["common", "server", "worker", "client", "proto"]
CODE_SUFFIXES = (".h", ".cc")
SIZED_SUFFIXES = (".h", ".cc", ".py", ".sh", ".proto", ".cmake", ".ts")
MAX_LINES = 599
MAX_FILES_PER_FOLDER = 30

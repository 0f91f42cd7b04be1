#!/usr/bin/env python3
"""Proves that layering_test.py sees what it should: trees with one violation each, and a clean one."""
import os
import tempfile
import unittest

import layering_test

CLEAN = {
    "common/base/README.md": "Base.\n",
    "common/base/clock.h": "#include <chrono>\ninline auto T() { return std::chrono::steady_clock::now(); }\n",
    "common/base/mutex.h": "class Mutex { std::mutex mutex_; };\n",
    "common/base/CMakeLists.txt": "espalier_library(common_base SOURCES clock.cc DEPS absl::status)\n",
    "common/wire/README.md": "Wire.\n",
    "common/wire/codec.h": '#include "common/base/clock.h"\n#include "espalier/v1/model.pb.h"\n',
    "common/rpc/README.md": "Rpc.\n",
    "common/rpc/channel.h": "#include <grpcpp/grpcpp.h>\n",
    "common/rpc/CMakeLists.txt": "espalier_library(common_rpc SOURCES channel.cc DEPS gRPC::grpc++)\n",
    "worker/engine/onednn/README.md": "oneDNN.\n",
    "worker/engine/onednn/matmul.cc": "#include <dnnl.hpp>\n",
    "server/round/README.md": "Rounds.\n",
    "server/round/round.cc": '#include "common/base/clock.h"\n'
                             "// time(nullptr) and std::random_device only in words here\n"
                             'const char* kText = "absl::Now()"; int n = 1\'000\'000; // sleep(1)\n'
                             "int F() { return lease.time(0) + wall_time(0); }\n",
    "tests/unit/round_test.cc": "#include <yaml-cpp/yaml.h>\nstd::mutex mutex;\n",
}

# name: (file, content, rule that must fire)
VIOLATIONS = {
    "wire_includes_grpc": ("common/wire/bad.cc", "#include <grpcpp/server.h>\n", "never"),
    "tensor_includes_proto": ("common/tensor/bad.h", '#include "espalier/v1/model.pb.h"\n', "never"),
    "tensor_includes_onednn": ("common/tensor/bad.h", "#include <oneapi/dnnl/dnnl.hpp>\n", "never"),
    "sparsity_includes_rpc": ("common/sparsity/bad.cc", '#include "common/rpc/channel.h"\n', "may-use"),
    "core_includes_grpc": ("server/jobs/bad.cc", "#include <grpcpp/grpcpp.h>\n", "never"),
    "core_includes_generated_grpc": ("server/jobs/bad.cc", '#include "espalier/v1/job.grpc.pb.h"\n', "never"),
    "core_includes_sqlite": ("server/scheduler/bad.cc", "#include <sqlite3.h>\n", "never"),
    "core_opens_a_socket": ("server/round/bad.cc", "#include <sys/socket.h>\n", "never"),
    "core_reads_steady_clock": ("server/round/bad.cc", "auto t = std::chrono::steady_clock::now();\n", "clock"),
    "core_reads_absl_now": ("server/reduce/bad.cc", "auto t = absl::Now();\n", "clock"),
    "core_reads_c_time": ("server/methods/bad.cc", "auto t = time(nullptr);\n", "clock"),
    "core_sleeps": ("server/events/bad.cc", "void F() { std::this_thread::sleep_for(x); }\n", "clock"),
    "core_sleeps_until_it_is_stopped": ("server/jobs/bad.cc", "void F() { base::SleepUnlessStopped(x, stop); }\n", "clock"),
    "bare_mutex": ("server/api/bad.h", "#include <mutex>\nclass A { std::mutex mutex_; };\n", "lock"),
    "bare_mutex_of_another_kind": ("common/io/bad.cc", "std::recursive_mutex mutex;\n", "lock"),
    "bare_lock": ("worker/data/bad.cc", "void F() { const std::lock_guard lock(mutex); }\n", "lock"),
    "bare_condition_variable": ("client/cli/bad.cc", "std::condition_variable_any wake;\n", "lock"),
    "mutex_of_abseil": ("server/round/bad.cc", "absl::Mutex mutex;\n", "lock"),
    "core_uses_system_randomness": ("server/methods/bad.cc", "std::random_device device;\n", "random"),
    "engine_uses_std_random": ("worker/engine/bad.cc", "std::mt19937 generator;\n", "random"),
    "engine_includes_dnnl_outside_onednn": ("worker/engine/bad.cc", "#include <dnnl.hpp>\n", "only-in"),
    "engine_includes_proto": ("worker/engine/bad.cc", "#include <google/protobuf/message.h>\n", "never"),
    "server_includes_worker": ("server/api/bad.cc", '#include "worker/engine/onednn/matmul.cc"\n', "may-use"),
    "worker_includes_server": ("worker/tasks/bad.cc", '#include "server/round/round.cc"\n', "may-use"),
    "client_includes_server": ("client/cli/bad.cc", '#include "server/round/round.cc"\n', "may-use"),
    "api_includes_store": ("server/api/bad.cc", '#include "server/store/bad.h"\n', "may-use"),
    "yaml_outside_config": ("client/lib/bad.cc", "#include <yaml-cpp/yaml.h>\n", "only-in"),
    "long_file": ("common/base/bad.cc", "\n" * 600, "length"),
    "folder_without_readme": ("common/log/bad.cc", "\n", "readme"),
    "machine_path": ("docs/bad.md", "cd /wor" + "k/checkout\n", "machine-path"),
    "core_library_links_grpc": ("server/jobs/CMakeLists.txt",
                                "espalier_library(server_jobs SOURCES a.cc DEPS gRPC::grpc++)\n", "link-never"),
    "core_library_reaches_grpc": ("server/jobs/CMakeLists.txt",
                                  "espalier_library(server_jobs SOURCES a.cc\n  DEPS Espalier::common_rpc)\n",
                                  "link-never"),
    "core_library_of_several_folders_links_store": (
        "server/CMakeLists.txt",
        "espalier_library(server_core SOURCES jobs/a.cc round/b.cc DEPS Espalier::server_store)\n"
        "espalier_library(server_store SOURCES store/c.cc DEPS SQLite::SQLite3)\n", "link"),
    "base_library_links_rpc": ("common/tensor/CMakeLists.txt",
                               "espalier_library(common_tensor SOURCES a.cc PRIVATE_DEPS Espalier::common_rpc)\n",
                               "link"),
    "link_by_target_command": ("common/wire/CMakeLists.txt",
                               "espalier_library(common_wire SOURCES a.cc)\n"
                               "target_link_libraries(espalier_common_wire PRIVATE gRPC::grpc++)\n",
                               "link-never"),
}


def violations_of(extra):
    with tempfile.TemporaryDirectory() as root:
        for path, content in {**CLEAN, **extra}.items():
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as stream:
                stream.write(content)
        return layering_test.check_tree(root)


class LayeringSelfTest(unittest.TestCase):
    def test_clean_tree_has_no_violation(self):
        self.assertEqual(violations_of({}), [])

    def test_every_kind_of_violation_is_detected_where_it_is(self):
        for name, (path, content, rule) in VIOLATIONS.items():
            extra = {path: content}
            if name == "api_includes_store":
                extra["server/store/bad.h"] = "\n"
            with self.subTest(name):
                found = [(v.path, v.rule) for v in violations_of(extra)]
                where = os.path.dirname(path) if rule == "readme" else path
                self.assertIn((where, rule), found)

    def test_crowded_folder_is_detected(self):
        extra = {f"common/base/file_{number}.txt": "" for number in range(40)}
        self.assertIn("folder-size", [v.rule for v in violations_of(extra)])


if __name__ == "__main__":
    unittest.main()

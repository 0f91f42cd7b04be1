#!/usr/bin/env python3
"""Runs the tests under sanitizers, and says what these found.

    tests/sanitize/run.py                      everything: address and undefined behaviour, then threads
    tests/sanitize/run.py asan-ubsan           all tests under the address and undefined-behaviour sanitizers
    tests/sanitize/run.py tsan                 the coordinator's core and the simulations under the thread sanitizer
    tests/sanitize/run.py asan-ubsan -R sim    only tests whose names match

Programs that tests start are sanitized too. What a sanitizer has to say of any of them is in build/PRESET/reports, also where the
test did not notice; the exit code is 0 when all tests passed and there is no report.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

SOURCE = pathlib.Path(__file__).parents[2]
# Libraries of the system are not instrumented for threads: where gRPC or OpenMP has threads, what is reported is not so.
THREADS_OF_OURS = r"^(coordinator_sim_test|links_sim_test|server_jobs_test|server_store_test|server_reduce_test|common_base_test|common_metrics_test|mirrored_file_system_test|client_dashboard_test)$"
# What a sanitizer itself takes is more than these allow, or it cannot be traced.
MEASURES_MEMORY = r"^(e2e_resources_test|e2e_hostile_calls_test|e2e_hostile_connections_test|e2e_syscalls_test|e2e_disks_test)$"
# So many times longer may programs take.
SLOWNESS = "4"


def environment(reports):
    common = f"log_path={reports}/report:exitcode=86"
    return os.environ | {
        "ESPALIER_SLOWNESS": SLOWNESS,
        # It measures times and memory.
        "GTEST_FILTER": "-AbsurdNumbersTest.*",
        "ASAN_OPTIONS": f"{common}:detect_stack_use_after_return=1:check_initialization_order=1",
        "UBSAN_OPTIONS": f"{common}:print_stacktrace=1:halt_on_error=1",
        "TSAN_OPTIONS": f"{common}:halt_on_error=1:second_deadlock_stack=1",
    }


def run(preset, only, jobs):
    build = SOURCE / "build" / preset
    reports = build / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    subprocess.run(["cmake", "--preset", preset, "-DESPALIER_BUILD_TESTS=ON"], cwd=SOURCE, check=True)
    names = THREADS_OF_OURS if preset == "tsan" else ""
    targets = names.strip("^()$").split("|") if names else []
    subprocess.run(["cmake", "--build", build, *(["--target", *targets] if targets else [])], cwd=SOURCE, check=True)
    select = ["-R", only or names] if only or names else []
    tests = subprocess.run(
        ["ctest", "--preset", preset, "--parallel", str(jobs), *select, "-E", MEASURES_MEMORY],
        cwd=SOURCE,
        env=environment(reports),
        check=False,
    )
    found = sorted(reports.iterdir())
    for report in found:
        print(f"== {report.relative_to(SOURCE)}\n{report.read_text()[:4000]}")
    print(f"{preset}: tests {'passed' if tests.returncode == 0 else 'FAILED'}, {len(found)} reports")
    return tests.returncode == 0 and not found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", choices=["asan-ubsan", "tsan", []], help="default: both")
    parser.add_argument("-R", dest="only", help="tests whose names match")
    parser.add_argument("-j", dest="jobs", type=int, default=2)
    arguments = parser.parse_args()
    results = [run(preset, arguments.only, arguments.jobs) for preset in arguments.presets or ["asan-ubsan", "tsan"]]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""`make bench`: runs the cases side by side, in network namespaces of its own, and writes bench/RESULTS.md with its plots.

run.py [--report] [--list] [--keep] [PATTERN...]: only cases (or CASE.SERVER) that match a shell pattern. A result that was made by the same programs is
not made again: an interrupted run goes on where it was. Root, Linux, Python's standard library alone.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import cases
import report
from lab import CLIENT_CORE, SERVER_CORE, Lab, Meter, stop
from servers import ALL, nodes

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.abspath(os.path.join(HERE, "..", os.environ.get("CARGO_TARGET_DIR", "target")))
BENCH = os.path.join(TARGET, "bench")
RESULTS = os.path.join(BENCH, "results")
BUILD = os.path.join(TARGET, os.environ.get("BENCH_PROFILE", "release"))
EXCHANGE_SECONDS = 3
STORMS = 10
CAPACITY = 10_000


def paths():
    root = os.path.join(BENCH, "root")
    os.makedirs(root, exist_ok=True)
    for name, size in cases.SIZES.items():
        path = os.path.join(root, name)
        if not os.path.exists(path) or os.path.getsize(path) != size:
            # The same bytes on every machine, different everywhere.
            blocks = (hashlib.sha256(f"{name}{n}".encode()).digest() for n in range(size // 32))
            with open(path, "wb") as file:
                file.writelines(blocks)
    os.chmod(root, 0o755)
    programs = {"musterd": "musterd", "storm": "muster-storm", "bare": "examples/bare-sender"}
    return SimpleNamespace(root=root, peers=os.path.join(BENCH, "peers"), **{key: os.path.join(BUILD, path) for key, path in programs.items()})


def fingerprint(where):
    """Of the programs that a result depends on."""
    digest = hashlib.sha256()
    for path in where:
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()[:16]


def warm(root):
    for name in os.listdir(root):
        with open(os.path.join(root, name), "rb") as file:
            file.read()


def storm(lab, where, case, server):
    """One storm against a running server; the tool's JSON and what is known only here."""
    words = [where.storm, "-i", "eth0", "--json", "-n", str(case.nodes), "-p", case.profile, "--spread", str(case.spread)]
    words += [word for name in case.files for word in ("-f", name)]
    words += [word for pid in server.pids for word in ("--server-pid", str(pid))]
    words += ["--verify-root", where.root, "--timeout", str(case.seconds), *case.more]
    meter = Meter(lab)
    told = json.loads(lab.call("rack", CLIENT_CORE, words, case.seconds + 60))
    return told | {"meter": meter.told()}


def run_storm(lab, where, case, name):
    server = ALL[name](lab, where, max(case.nodes, 64))
    if name != "muster" and case.nodes > 500:
        lab.neighbours((address, mac) for mac, address in nodes(case.nodes))
    return storm(lab, where, case, server)


def run_exchange(lab, where, case, name):
    server = ALL[name](lab, where, 512)
    words = [where.storm, "-i", "eth0", "--json", "-n", str(case.nodes), "--exchanges", str(EXCHANGE_SECONDS)]
    words += [word for pid in server.pids for word in ("--server-pid", str(pid))]
    meter = Meter(lab)
    told = json.loads(lab.call("rack", CLIENT_CORE, words, EXCHANGE_SECONDS + 30))
    return told | {"meter": meter.told()}


def run_bare(lab, where, case, name):
    """Frames to a MAC that nobody has, which muster-storm receives as it receives those of a server, and drops."""
    sink = lab.start("rack", CLIENT_CORE, [where.storm, "-i", "eth0", "-n", "1", "--timeout", "60"], os.path.join(lab.work, "sink.log"))
    address = "10.54.200.1"
    lab.neighbours([(address, "02:4d:7f:ff:ff:ff")])
    time.sleep(0.5)
    mode, window = {"gso": ("gso", 16), "gso-1": ("gso", 1), "mmsg": ("mmsg", 16)}[name]
    meter = Meter(lab)
    words = [where.bare, mode, f"{address}:9", os.path.join(where.root, cases.BIG), "1456", str(window), "3"]
    told = json.loads(lab.call("head", SERVER_CORE, words, 30))
    told["meter"] = meter.told()
    stop(sink)
    return told


def run_memory(lab, where, case, name):
    """Ten storms against one server of capacity 10,000: what is resident and open after the first and after the last."""
    server = ALL[name](lab, where, CAPACITY)
    told = {"before": process(server.pids[0]), "after": []}
    for seed in range(STORMS):
        case.more = ["--seed", str(seed)]
        summary = storm(lab, where, case, server)
        told["after"].append({**process(server.pids[0]), "up": summary["up"]})
    return told


def process(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        fields = dict(line.split(":", 1) for line in status)
    kib = {key: int(fields[name].split()[0]) for key, name in (("resident_kib", "VmRSS"), ("peak_kib", "VmHWM"))}
    return {**kib, "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}


RUN = {"storm": run_storm, "exchange": run_exchange, "bare": run_bare, "memory": run_memory}


def result_path(case, name, repeat):
    return os.path.join(RESULTS, f"{case.name}.{name}.{repeat}.json")


def wanted(patterns):
    """(case, server, repeat) in the order in which they run: repeats of a case go round its servers."""
    for case in cases.matrix():
        for repeat in range(case.repeats):
            for name in case.servers:
                whole = f"{case.name}.{name}"
                if not patterns or any(fnmatch.fnmatch(case.name, p) or fnmatch.fnmatch(whole, p) for p in patterns):
                    yield case, name, repeat


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def one(case, name, repeat, where, keep):
    """Runs one case against one server, and keeps its result; `keep`: one of other programs is good enough."""
    uses = [os.path.join(HERE, name) for name in ("run.py", "lab.py", "servers.py")]
    uses += [where.storm] + ([where.musterd] if name == "muster" else []) + ([where.bare] if case.kind == "bare" else [])
    programs, path = fingerprint(uses), result_path(case, name, repeat)
    flags = {"nodes": case.nodes, "rate": case.rate, "files": case.files, "profile": case.profile, "spread": case.spread, "more": case.more}
    known = load(path)
    if known and "failed" not in known and known["flags"] == flags and (keep or known["programs"] == programs):
        return f"{report.brief(known)} (kept)"
    began = time.time()
    result = {"case": case.name, "kind": case.kind, "server": name, "repeat": repeat, "flags": flags, "programs": programs}
    result["version"] = subprocess.run([where.musterd, "-V"], capture_output=True, text=True, check=True).stdout.strip()
    try:
        with Lab(case.rate, os.path.join(TMPFS, f"muster-bench-{os.getpid()}")) as lab:
            result["told"] = RUN[case.kind](lab, where, case, name)
    except (RuntimeError, ValueError, OSError, subprocess.SubprocessError) as error:
        result["failed"] = str(error)
    result |= {"unix": int(began), "took_s": round(time.time() - began, 1)}
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    os.replace(path + ".new", path)
    return report.brief(result)


TMPFS = "/dev/shm"


def leave(signum, _frame):
    # The lab is closed on the way out.
    raise SystemExit(128 + signum)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--report", action="store_true", help="write RESULTS.md from the results that are there")
    parser.add_argument("--list", action="store_true", help="tell what would be run")
    parser.add_argument("--keep", action="store_true", help="keep results of earlier programs too")
    parser.add_argument("--no-report", action="store_true", help="leave RESULTS.md as it is")
    asked = parser.parse_args()
    everything = list(wanted(asked.patterns))
    if asked.list:
        print("\n".join(f"{case.name}.{name}" for case, name, repeat in everything if repeat == 0))
        return
    os.makedirs(RESULTS, exist_ok=True)
    if not asked.report:
        if os.geteuid() != 0:
            sys.exit("bench: needs root, for network namespaces")
        if os.cpu_count() < 2:
            sys.exit("bench: needs two cores: one for the server, one for the clients")
        for interrupt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(interrupt, leave)
        where = paths()
        warm(where.root)
        for n, (case, name, repeat) in enumerate(everything, 1):
            print(f"{n:3}/{len(everything)} {time.strftime('%T')} {case.name}.{name}.{repeat}: ", end="", flush=True)
            print(one(case, name, repeat, where, asked.keep), flush=True)
    if not asked.no_report:
        results = [load(result_path(case, name, repeat)) for case, name, repeat in wanted([])]
        report.write([result for result in results if result], HERE)


if __name__ == "__main__":
    main()


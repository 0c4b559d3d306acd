#!/usr/bin/python3
"""Names beside a boot storm: machines boot while dnsperf asks at a steady rate. Tells what was answered, and whether any machine had to wait.

dns.py [--rate Q] [--nodes N] [--link BITS] [--seconds S]: one storm without questions and one with them, each in network namespaces of its own. A
third run has the questions alone. Root, Linux, dnsperf (scripts/setup installs it). The programs are those of BENCH_PROFILE (release).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time

import run as bench
from lab import CLIENT_CORE, HEAD, SERVER_CORE, Lab, Meter
from servers import ALL

ASKER = "10.54.200.2"
# The storm begins when the questions do, and ends before them.
LEAD = 1


def questions(work, nodes):
    """Names and addresses of all nodes, and one of a hundred that nobody has."""
    path = os.path.join(work, "questions")
    with open(path, "w", encoding="ascii") as file:
        for number in range(nodes):
            file.write(f"n{number}.cluster A\n{number % 256}.{1 + number // 256}.54.10.in-addr.arpa PTR\n")
            if number % 50 == 0:
                file.write(f"nobody{number}.cluster A\n")
    return path


def number(text, name):
    found = re.search(rf"{re.escape(name)}\s+([0-9.]+)", text)
    if not found:
        raise RuntimeError(f"dnsperf told no {name!r}: {text[-400:]}")
    return float(found.group(1))


def one(where, options, boots, asks):
    """A storm, or none, beside questions, or none."""
    with Lab(options.link, os.path.join(bench.BENCH, "dns")) as lab:
        # Who asks is beside the rack, not in it.
        lab.ip("rack", "address", "add", f"{ASKER}/16", "dev", "eth0")
        server = ALL["muster"](lab, where, options.nodes)
        log = os.path.join(lab.work, "dnsperf.out")
        told = {}
        meter = Meter(lab)
        if asks:
            words = ["dnsperf", "-s", HEAD, "-d", questions(lab.work, options.nodes), "-l", str(options.seconds), "-Q", str(options.rate), "-c", "8", "-q", "1000"]
            asking = lab.start("rack", CLIENT_CORE, words, log)
            time.sleep(LEAD)
        if boots:
            words = [where.storm, "-i", "eth0", "--json", "-n", str(options.nodes), "-f", "small", "-f", "image", "--spread", str(options.spread)]
            words += ["--timeout", str(options.seconds), "--verify-root", where.root]
            told = json.loads(lab.call("rack", CLIENT_CORE, words, options.seconds + 60))
        if asks:
            asking.wait(options.seconds + 60)
            with open(log, encoding="utf-8", errors="replace") as text:
                told["dnsperf"] = text.read()
        meter = meter.told()
        if not os.path.exists(f"/proc/{server.pids[0]}"):
            raise RuntimeError("the server has ended")
        return told | {"meter": meter}


def show(title, told):
    print(f"{title}:")
    if "machines" in told:
        gaps = ", ".join(f"{count} above {bound:g} ms" for bound, count in told["gaps_ms"] if count)
        print(f"  storm: {told['up']} of {told['machines']} machines up, {told['lost']} lost; longest gap {told['longest_gap']:.3f} s ({gaps or 'none'})")
    if "dnsperf" in told:
        text = told["dnsperf"]
        sent, back = number(text, "Queries sent:"), number(text, "Queries completed:")
        seconds, latency = number(text, "Run time (s):"), number(text, "Average Latency (s):")
        print(f"  names: {sent / seconds:.0f} asked and {back / seconds:.0f} answered a second, {sent - back:.0f} lost, {latency * 1e3:.2f} ms on average")
    meter = told["meter"]
    cpu = "unknown" if meter["cpu_s"] is None else f"{meter['cpu_s']:.1f} s"
    print(f"  cost: server {cpu} of CPU, its core busy {meter['core_s']:.1f} s, the clients' {meter['client_core_s']:.1f} s, of {meter['at_s']:.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=50_000)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--link", type=int, default=0, help="bits a second; 0: a cable without a switch")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--spread", type=int, default=5)
    options = parser.parse_args()
    options.link = options.link or None
    if subprocess.run(["which", "dnsperf"], stdout=subprocess.DEVNULL, check=False).returncode != 0:
        sys.exit("dns.py: dnsperf is missing: run scripts/setup as root")
    where = bench.paths()
    bench.warm(where.root)
    print(f"{options.nodes} machines, {options.rate} questions a second; head on core {SERVER_CORE}, rack and dnsperf on core {CLIENT_CORE}")
    runs = {"the storm alone": (True, False), "questions alone": (False, True), "both": (True, True)}
    results = {title: one(where, options, *what) for title, what in runs.items()}
    for title, told in results.items():
        show(title, told)
    storm = results["both"]
    if storm["lost"] or storm["up"] < storm["machines"]:
        sys.exit("dns.py: machines were lost")


if __name__ == "__main__":
    main()

"""The network that the benchmark makes: namespaces for the head and the rack, and a switch between them where a link is slow.

Every process that is started is known by its id, and everything is removed when the lab is closed.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

HEAD = "10.54.0.1"
SERVER_CORE, CLIENT_CORE = "0", "1"
# A frame in the switch's queue is a packet of it; the queue is a FIFO behind a token bucket.
QUEUE = 256
FRAME_OVERHEAD = 14 + 20 + 8 + 4  # Ethernet, IPv4, UDP and TFTP headers: what the token bucket counts beside the content
OFFLOADS = ["tx", "tso", "gso", "gro", "tx-udp-segmentation"]
PREFIX = "muster-bench-"


def run(*words, **more):
    """A command that must succeed; gives what it printed."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Lab:
    """`with Lab(...) as lab`: `rate` in bits a second, or None for a cable without a switch."""

    def __init__(self, rate, work):
        self.rate, self.work = rate, work
        self.names = {place: f"{PREFIX}{os.getpid()}-{place}" for place in ("head", "switch", "rack")}
        self.children = []
        self.group = None

    def __enter__(self):
        sweep()
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for child in self.children:
            stop(child)
        for name in self.names.values():
            with contextlib.suppress(RuntimeError):
                run("ip", "netns", "delete", name)
        if self.group:
            with contextlib.suppress(OSError):
                os.rmdir(self.group)
        shutil.rmtree(self.work, ignore_errors=True)

    def make(self):
        with open("/proc/mounts", encoding="utf-8") as mounts:
            hierarchy = next((line.split()[1] for line in mounts if line.split()[2] == "cgroup2"), None)
        if hierarchy:
            with contextlib.suppress(OSError):
                group = os.path.join(hierarchy, f"{PREFIX}{os.getpid()}")
                os.mkdir(group)
                self.group = group
        for place, name in self.names.items():
            run("ip", "netns", "add", name)
            self.sysctl(place, "net/ipv6/conf/all/disable_ipv6", "1")
            self.sysctl(place, "net/ipv6/conf/default/disable_ipv6", "1")
            self.ip(place, "link", "set", "lo", "up")
        if self.rate is None:
            self.wire("head", "eth0", "rack", "eth0")
        else:
            self.ip("switch", "link", "add", "switch", "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
            self.ip("switch", "link", "set", "switch", "up")
            self.wire("head", "eth0", "switch", "head")
            self.wire("rack", "eth0", "switch", "rack")
            for port in ("head", "rack"):
                self.ip("switch", "link", "set", port, "master", "switch")
            tc = ("ip", "netns", "exec", self.names["switch"], "tc", "qdisc", "add", "dev", "rack")
            run(*tc, "root", "handle", "1:", "tbf", "rate", f"{self.rate}bit", "burst", "16k", "limit", "10m")
            run(*tc, "parent", "1:1", "handle", "10:", "pfifo", "limit", str(QUEUE))
        self.ip("head", "address", "add", f"{HEAD}/16", "dev", "eth0")
        for _ in range(200):
            if all("state UP" in self.ip(place, "link", "show", "dev", "eth0") for place in ("head", "rack")):
                return
            time.sleep(0.02)
        raise RuntimeError("the wires have no carrier")

    def ip(self, place, *words):
        return run("ip", "-n", self.names[place], *words)

    def sysctl(self, place, path, value):
        # sysctl(8) need not be installed.
        run("ip", "netns", "exec", self.names[place], "sh", "-c", f"if [ -e /proc/sys/{path} ]; then echo {value} >/proc/sys/{path}; fi")

    def wire(self, one, name, other, peer):
        self.ip(one, "link", "add", name, "type", "veth", "peer", "name", peer, "netns", self.names[other])
        for place, interface in ((one, name), (other, peer)):
            for offload in OFFLOADS:
                run("ip", "netns", "exec", self.names[place], "ethtool", "-K", interface, offload, "off")
            self.ip(place, "link", "set", interface, "up")

    def neighbours(self, pairs):
        """Permanent neighbour entries of the head: the kernel's table, which namespaces share, would hold 1,024 others."""
        lines = "".join(f"neigh replace {address} lladdr {mac} nud permanent dev eth0\n" for address, mac in pairs)
        run("ip", "-n", self.names["head"], "-batch", "-", input=lines)

    def start(self, place, core, words, log, **more):
        """A process in a group of its own, on one core, that does not outlive this one. `ip`, `setpriv` and `taskset` become it."""
        before = ["ip", "netns", "exec", self.names[place], "setpriv", "--pdeathsig", "KILL", "taskset", "-c", core]
        with open(log, "wb") as out:
            child = subprocess.Popen([*before, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, **more)
        self.children.append(child)
        if place == "head" and self.group:
            with open(os.path.join(self.group, "cgroup.procs"), "w", encoding="ascii") as procs:
                procs.write(str(child.pid))
        return child

    def cpu(self):
        """Seconds of CPU time that everything used that was started in the head, with children that nobody waits for; None without cgroups."""
        if not self.group:
            return None
        with open(os.path.join(self.group, "cpu.stat"), encoding="ascii") as stat:
            return int(stat.readline().split()[1]) / 1e6

    def call(self, place, core, words, seconds):
        """A command to its end, or its kill after so many seconds; gives what it printed on standard output."""
        before = ["ip", "netns", "exec", self.names[place], "setpriv", "--pdeathsig", "KILL", "taskset", "-c", core]
        child = subprocess.Popen([*before, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.children.append(child)
        try:
            out, err = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            stop(child)
            raise RuntimeError(f"{words[0]} had not ended after {seconds} s") from error
        self.children.remove(child)
        if not out.strip():
            raise RuntimeError(f"{' '.join(words)}: {err.strip()[-400:] or child.returncode}")
        return out

    def drops(self):
        """Packets that the switch's queue dropped so far."""
        if self.rate is None:
            return 0
        shown = run("ip", "netns", "exec", self.names["switch"], "tc", "-s", "qdisc", "show", "dev", "rack")
        return int(re.search(r"qdisc tbf.*?dropped (\d+)", shown, re.S).group(1))

    def received(self):
        """Packets that reached the rack's interface so far."""
        return int(run("ip", "netns", "exec", self.names["rack"], "cat", "/proc/net/dev").split("eth0:")[1].split()[1])


def stop(child):
    """Ends a process that we started, with its group."""
    for how, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(patience)
    # Children of a server that has left.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def sweep():
    """Removes namespaces of a benchmark that was killed, with the processes in them."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0] if line.split() else ""
        maker = re.fullmatch(rf"{PREFIX}(\d+)-\w+", name)
        if maker and not os.path.exists(f"/proc/{maker.group(1)}"):
            for pid in run("ip", "netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            run("ip", "netns", "delete", name)


class Meter:
    """What a run costs, in seconds: CPU of the server, of its core and of the clients' core with all interrupts, and on the clock."""

    def __init__(self, lab):
        self.lab, self.began = lab, self.read(lab)

    @staticmethod
    def read(lab):
        with open("/proc/stat", encoding="ascii") as stat:
            cores = {line.split()[0]: list(map(int, line.split()[1:8])) for line in stat if line.startswith("cpu")}

        def busy(core):
            user, nice, system, _idle, _iowait, irq, softirq = cores[f"cpu{core}"]
            return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")

        costs = {"cpu_s": lab.cpu(), "core_s": busy(SERVER_CORE), "client_core_s": busy(CLIENT_CORE), "at_s": time.monotonic()}
        return costs | {"queue_drops": lab.drops(), "packets_to_rack": lab.received()}

    def told(self):
        now = self.read(self.lab)
        return {key: None if now[key] is None else round(now[key] - then, 6) for key, then in self.began.items()}

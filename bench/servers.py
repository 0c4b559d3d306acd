"""The servers that are compared, each with its best settings, all with the same machines known by MAC and address.

Lease files lie on a tmpfs, so that no peer waits for a disk; no peer pings an address first.
"""

import ipaddress
import json
import os
import resource
import time

from lab import HEAD, SERVER_CORE

MASK = "255.255.0.0"
NODE0 = ipaddress.IPv4Address("10.54.1.0")


def mac(number):
    return "02:4d:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(4, "big"))


def nodes(count):
    return [(mac(number), str(NODE0 + number)) for number in range(count)]


class Server:
    """Started in the lab's head when made; `pids` are its processes."""

    name, title = "", ""

    def __init__(self, lab, paths, count):
        self.lab, self.paths, self.work = lab, paths, lab.work
        self.known, self.pids = nodes(count), []
        self.boot(count)

    def boot(self, count):
        raise NotImplementedError

    def write(self, name, text):
        path = os.path.join(self.work, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def launch(self, words, ready, environment=None):
        """Starts a program and waits until `ready` says so of its log."""
        log = os.path.join(self.work, os.path.basename(words[0]) + ".out")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        raised = ["prlimit", f"--nofile={limit}:{limit}"]
        child = self.lab.start("head", SERVER_CORE, raised + words, log, env={**os.environ, **(environment or {})})
        self.pids.append(child.pid)
        end = time.monotonic() + 60
        while not ready(log):
            if child.poll() is not None or time.monotonic() > end:
                with open(log, encoding="utf-8", errors="replace") as text:
                    raise RuntimeError(f"{words[0]} did not start: {text.read()[-600:]}")
            time.sleep(0.02)

    def peer(self, program):
        """Path and environment of a program that scripts/setup-bench unpacked."""
        root = self.paths.peers
        libraries = [os.path.join(folder, "") for folder, _, files in os.walk(os.path.join(root, "usr/lib")) if any(".so" in name for name in files)]
        return os.path.join(root, "usr/sbin", program), {"LD_LIBRARY_PATH": ":".join(libraries)}

    def bound(self, port):
        """Whether a UDP port is bound in the head's namespace."""

        def look(_log):
            wanted = f":{port:04X} "
            with open(f"/proc/{self.pids[-1]}/net/udp", encoding="ascii") as table:
                return any(wanted in line for line in table)

        return look


def says(word):
    def look(log):
        with open(log, encoding="utf-8", errors="replace") as text:
            return word in text.read()

    return look


# What `dhcp-boot=small` says to dnsmasq.
PROGRAM = '[boot]\nprogram = { bios = "small", efi-x64 = "small" }\n'


class Muster(Server):
    name, title = "muster", "muster"

    def boot(self, count):
        machines = "".join(f'[[node]]\nnumber = {number}\nmacs = ["{mac(number)}"]\n' for number in range(count))
        config = f'[cluster]\nnode0 = "{NODE0}"\nnodes = {max(count, 16)}\n[server]\ncapacity = {max(count, 64)}\n{PROGRAM}{machines}'
        path, run_dir = self.write("muster.toml", config), os.path.join(self.work, "run")
        os.mkdir(run_dir)
        words = [self.paths.musterd, "-f", "-c", path, "-i", "eth0", "-r", self.paths.root, "--run-dir", run_dir, "--state-dir", os.path.join(run_dir, "state")]
        self.launch(words, says(" ready"))


class Dnsmasq(Server):
    name, title = "dnsmasq", "dnsmasq"

    def boot(self, count):
        hosts = "".join(f"dhcp-host={mac},{address}\n" for mac, address in self.known)
        # A socket for each transfer costs less than tftp-single-port, where it searches a list for each packet. leasefile-ro: it writes no leases.
        config = f"""port=0
interface=eth0
user=root
pid-file={self.work}/dnsmasq.pid
log-facility={self.work}/dnsmasq.log
quiet-dhcp
quiet-tftp
dhcp-range=10.54.1.0,static,{MASK},12h
dhcp-lease-max=100000
leasefile-ro
dhcp-authoritative
no-ping
dhcp-boot=small
enable-tftp
tftp-root={self.paths.root}
tftp-max=100000
"""
        program, environment = self.peer("dnsmasq")
        if not os.path.exists(program):
            program, environment = "/usr/sbin/dnsmasq", {}
        self.launch([program, "--keep-in-foreground", "--conf-file=" + self.write("dnsmasq.conf", config + hosts)], self.bound(67), environment)


class IscHpa(Server):
    name, title = "isc", "ISC dhcpd + tftpd-hpa"

    def boot(self, count):
        hosts = "".join(f"host n{n} {{ hardware ethernet {mac}; fixed-address {ip}; }}\n" for n, (mac, ip) in enumerate(self.known))
        config = f"""authoritative;
ping-check false;
ddns-update-style none;
default-lease-time 43200;
log-facility local7;
subnet 10.54.0.0 netmask {MASK} {{ next-server {HEAD}; filename "small"; }}
"""
        leases = self.write("dhcpd.leases", "")
        program, environment = self.peer("dhcpd")
        pid = os.path.join(self.work, "dhcpd.pid")
        words = [program, "-4", "-f", "-q", "-cf", self.write("dhcpd.conf", config + hosts), "-lf", leases, "-pf", pid, "eth0"]
        self.launch(words, self.bound(67), environment)
        program, environment = self.peer("in.tftpd")
        self.launch([program, "--foreground", "--listen", "--ipv4", "--user", "nobody", "--address", f"{HEAD}:69", "--secure", self.paths.root], self.bound(69), environment)


class KeaAtftpd(Server):
    name, title = "kea", "Kea + atftpd"

    def boot(self, count):
        subnet = {
            "subnet": "10.54.0.0/16",
            "next-server": HEAD,
            "boot-file-name": "small",
            "reservations": [{"hw-address": mac, "ip-address": address} for mac, address in self.known],
        }
        config = {
            "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "raw"},
            "lease-database": {"type": "memfile", "persist": True, "name": f"{self.work}/kea.csv", "lfc-interval": 0},
            "host-reservation-identifiers": ["hw-address"],
            "reservations-in-subnet": True,
            "reservations-out-of-pool": True,
            "authoritative": True,
            "cache-threshold": 0.25,
            "valid-lifetime": 43200,
            # One core is all there is here.
            "multi-threading": {"enable-multi-threading": False},
            "subnet4": [subnet],
            "loggers": [{"name": "kea-dhcp4", "severity": "ERROR", "output_options": [{"output": "stdout"}]}],
        }
        program, environment = self.peer("kea-dhcp4")
        environment |= {"KEA_PIDFILE_DIR": self.work, "KEA_LOCKFILE_DIR": "none"}
        self.launch([program, "-c", self.write("kea.json", json.dumps({"Dhcp4": config}))], self.bound(67), environment)
        program, environment = self.peer("atftpd")
        words = [program, "--daemon", "--no-fork", "--user", "root.root", "--verbose=0", "--logfile", "/dev/null", "--maxthread", "100000", "--prevent-sas"]
        self.launch([*words, "--bind-address", HEAD, self.paths.root], self.bound(69), environment)


ALL = {server.name: server for server in (Muster, Dnsmasq, IscHpa, KeaAtftpd)}
PEERS = [name for name in ALL if name != Muster.name]


"""What is run. A case is a network, a fleet and the servers that meet it; its name is its place in results and in `make bench CASES=...`.

The full product of nodes, rates, windows, losses and firmware would take days: each value stands here at least once for muster, each bar of
the table has its cases, and the peers run where a comparison is asked for.
"""

from dataclasses import dataclass, field

from servers import ALL, PEERS

MUSTER, EVERYBODY = ["muster"], list(ALL)
G1, M100 = 1_000_000_000, 100_000_000
SMALL, IMAGE, BIG = "small", "image", "big"
SIZES = {SMALL: 64 << 10, IMAGE: 1 << 20, BIG: 8 << 20}
FIRMWARE = ["edk2", "ipxe", "grub", "pxelinux", "pi", "uboot", "mix"]


@dataclass
class Case:
    name: str
    kind: str = "storm"  # or exchange, bare, memory
    nodes: int = 1000
    rate: int | None = G1
    files: list = field(default_factory=lambda: [SMALL, IMAGE])
    profile: str = "rom"
    spread: float = 0
    more: list = field(default_factory=list)  # further flags of muster-storm
    servers: list = field(default_factory=lambda: MUSTER)
    repeats: int = 1
    seconds: int = 150  # when the storm is ended

    def wire_seconds(self, blksize):
        """The time of the DATA packets on the link, as its token bucket counts them; None where it has no rate."""
        if self.rate is None:
            return None
        from lab import FRAME_OVERHEAD  # noqa: PLC0415

        packets = sum(SIZES[name] // blksize + 1 for name in self.files)
        return self.nodes * (sum(SIZES[name] for name in self.files) + packets * FRAME_OVERHEAD) * 8 / self.rate


def label(rate):
    return {None: "free", G1: "1g", M100: "100m"}[rate]


def matrix():
    cases = []
    add = lambda name, **more: cases.append(Case(name, **more))  # noqa: E731
    # Small racks, all servers.
    for nodes in (40, 100):
        add(f"{nodes}-1g", nodes=nodes, files=[SMALL, IMAGE], servers=EVERYBODY)
    # The storms of the first row: known to lose machines under the peers.
    for rate in (None, G1):
        for spread in (0, 2):
            name = f"1000-{label(rate)}-{spread}s"
            add(name, rate=rate, spread=spread, servers=EVERYBODY)
            peers = ["dnsmasq"] if (rate, spread) == (G1, 2) else []
            add(f"4000-{label(rate)}-{spread}s", nodes=4000, rate=rate, spread=spread, servers=MUSTER + peers, seconds=240)
    add("10000-1g-0s", nodes=10_000, seconds=400)
    add("1000-100m-0s", rate=M100, seconds=300)
    # Firmware, wake-up of switch ports, deaf machines, loss, windows.
    for profile in FIRMWARE:
        add(f"1000-1g-{profile}", profile=profile)
    for profile in ("rom", "mix"):
        add(f"1000-1g-{profile}-wake2", profile=profile, more=["--wake", "2"])
    add("1000-1g-deaf30", more=["--deaf", "300"])
    add("1000-free-deaf30", rate=None, more=["--deaf", "300"])
    add("4000-1g-deaf30", nodes=4000, more=["--deaf", "300"], seconds=240)
    add("1000-1g-loss0.1", more=["--loss", "1000"], servers=MUSTER + ["dnsmasq"])
    add("1000-free-loss0.1", rate=None, more=["--loss", "1000"])
    add("4000-1g-loss0.1", nodes=4000, more=["--loss", "1000"], seconds=240)
    add("1000-1g-loss1-64k", files=[SMALL], more=["--loss", "10000"])
    for window in (4, 16):
        add(f"1000-1g-window{window}", more=["--windowsize", str(window)])
    # Throughput and CPU: enough machines to keep a core busy, few enough for every peer. Interleaved repeats; medians are told.
    for window in (1, 4, 16):
        flags = ["--windowsize", str(window), "--blksize", "1456"]
        add(f"throughput-window{window}", nodes=100, rate=None, files=[BIG], more=flags, servers=MUSTER if window == 4 else EVERYBODY, repeats=3)
        if window == 16:
            add("bare", kind="bare", rate=None, servers=["gso", "gso-1", "mmsg"], repeats=3)
    add("cost-100", nodes=100, files=[BIG])
    # A machine's number is its weight in memory: capacity 10,000, ten storms.
    add("memory", kind="memory", nodes=300, rate=None, files=[SMALL])
    for machines in (1, 8, 32, 128, 512):
        add(f"exchange-{machines}", kind="exchange", nodes=machines, rate=None, servers=EVERYBODY, repeats=2)
    return cases


__all__ = ["EVERYBODY", "FIRMWARE", "MUSTER", "PEERS", "SIZES", "Case", "label", "matrix"]

"""Results to bench/RESULTS.md and its plots: the table of bars, then a table for each comparison, ratios first.

`bench/NOTES.md`, written by hand, is taken in: what falls short, and why.
"""

import os
import platform
import statistics

import cases
import svg
from servers import ALL, PEERS

BLKSIZE = {"rom": 1456}
GIGA = 1e9
NOT_MEASURED = "not measured"


def brief(result):
    """One line of progress."""
    if "failed" in result:
        return "FAILED: " + result["failed"]
    told = result["told"]
    if result["kind"] == "storm":
        causes = "".join(f"; {lost['machines']} in {lost['stage']}: {lost['cause']}" for lost in told["lost_by"])
        return f"{told['up']} of {told['machines']} up, last after {told['up_at']['last']:.2f} s, {mb_s(told):.0f} MB/s, {told['meter']['queue_drops']} drops{causes}"
    if result["kind"] == "exchange":
        return f"{told['per_second']:.0f} exchanges/s, p99 {told['p99_ms']:.1f} ms"
    if result["kind"] == "bare":
        return f"{told['payload_bytes'] / 1e6 / told['seconds']:.0f} MB/s"
    return f"{told['before']['resident_kib']} KiB, then {', '.join(str(after['resident_kib']) for after in told['after'])}"


def mb_s(told):
    return told["bytes"] / 1e6 / told["up_at"]["last"] if told["up_at"]["last"] else 0.0


def cpu(told):
    """The server's CPU seconds: by control group, else what its core was busy: processes come and go, and /proc forgets them."""
    return told["meter"]["cpu_s"] if told["meter"]["cpu_s"] is not None else told["meter"]["core_s"]


def cpu_per_gb(told):
    return cpu(told) / (told["bytes"] / GIGA) if told["bytes"] else 0.0


def lost(told):
    return told["machines"] - told["up"]


def sound(told):
    """Every byte was right, as far as machines loaded any."""
    return told["agreed"] and all(verdict == "same" for _, verdict in told.get("verified", []))


def ratio(a, b):
    return f"{a / b:.2f}" if b else "-"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


class Results:
    def __init__(self, results):
        self.all = [result for result in results if "failed" not in result]
        self.failed = [result for result in results if "failed" in result]
        self.cases = {case.name: case for case in cases.matrix()}

    def told(self, case, server="muster"):
        """What the repeats of a case told."""
        return [result["told"] for result in self.all if (result["case"], result["server"]) == (case, server)]

    def first(self, case, server="muster"):
        return next(iter(self.told(case, server)), None)

    def median(self, case, server, figure):
        values = [figure(told) for told in self.told(case, server)]
        return statistics.median(values) if values else None

    def storms(self, names):
        """(case, told) of muster's storms that were run, and how many were not."""
        found = [(self.cases[name], told) for name in names for told in self.told(name)[:1]]
        return found, len(names) - len(found)

    def fastest_peer(self, case, figure):
        rates = {peer: self.median(case, peer, figure) for peer in PEERS}
        rates = {peer: rate for peer, rate in rates.items() if rate is not None}
        return max(rates.items(), key=lambda item: item[1]) if rates else None

    def best_exchange(self, server):
        """(rate, told) of the number of machines with the best median rate."""
        names = [case.name for case in self.cases.values() if case.kind == "exchange"]
        rates = [(self.median(name, server, lambda told: told["per_second"]), name) for name in names if self.told(name, server)]
        return (max(rates)[0], self.first(max(rates)[1], server)) if rates else None


# The bars of the issue. Each gives (figure, measured, bar, met), where met is True, False or None for "not measured".


def over(results, names, title, figure, shown, bar, holds, fold=max):
    """A bar on the worst of several storms of muster's."""
    found, missing = results.storms(names)
    if not found:
        return title, NOT_MEASURED, bar, None
    values = [(figure(case, told), case.name) for case, told in found]
    worst, where = fold(values)
    note = f"; {missing} of {len(names)} cases {NOT_MEASURED}" if missing else ""
    return title, f"{shown(worst)} ({where}, the worst of {len(found)}{note})", bar, holds(worst) and (not missing or None)


def losses(results, names, title):
    found, missing = results.storms(names)
    if not found:
        return title, NOT_MEASURED, "0", None
    bad = [f"{lost(told)} in {case.name}" for case, told in found if lost(told)]
    wrong = [f"wrong bytes in {case.name}" for case, told in found if not sound(told)]
    measured = ", ".join(bad + wrong) or f"0 in {len(found)} cases"
    note = f"; {missing} cases {NOT_MEASURED}" if missing else ""
    return title, measured + note, "0", not bad + wrong and (not missing or None)


def bars(results):
    storms = [case for case in results.cases.values() if case.kind == "storm" and "muster" in case.servers]
    lossy = lambda case: "--loss" in case.more  # noqa: E731
    deaf = lambda case: "--deaf" in case.more  # noqa: E731
    plain = [case.name for case in storms if not lossy(case) and not deaf(case)]
    harsh = [case.name for case in storms if lossy(case) or deaf(case)]
    calm = [case.name for case in storms if not lossy(case)]
    tenth = [case.name for case in storms if case.more[:2] == ["--loss", "1000"]]
    equal = [case.name for case in storms if case.spread == 0 and case.profile == "rom" and not case.more and case.repeats == 1]
    shaped = [name for name in equal if results.cases[name].rate and results.cases[name].nodes >= 1000]
    at_once = ["1000-free-0s", "1000-1g-0s"]
    seconds = lambda value: f"{value:.3f} s"  # noqa: E731
    wire = lambda case, told: told["up_at"]["last"] / case.wire_seconds(BLKSIZE["rom"])  # noqa: E731
    yield losses(results, plain, "nodes lost, no packet loss")
    yield losses(results, harsh, "nodes lost, 30 % deaf, 0.1 % loss, 1 % loss with 64 KiB")
    gap = lambda case, told: told["longest_gap"]  # noqa: E731
    yield over(results, calm, "longest gap of a running transfer, no loss", gap, seconds, "0.5 s", lambda v: v <= 0.5)
    yield over(results, tenth, "longest gap, 0.1 % loss", gap, seconds, "1.0 s", lambda v: v <= 1.0)
    yield over(results, shaped, "last node up / time of the bytes on the wire", wire, lambda v: f"{v:.3f}", "1.05 at most", lambda v: v <= 1.05)
    lease = lambda case, told: told["lease"]["p99"]  # noqa: E731
    yield over(results, at_once, "DHCP of 1,000 at once, p99 (a ROM takes the first offer: it has no waits of its own)", lease, seconds, "0.2 s", lambda v: v <= 0.2)
    yield over(results, equal, "Jain's index, equal nodes starting together", lambda _, told: told["fairness"], lambda v: f"{v:.4f}", "0.99", lambda v: v >= 0.99, min)
    yield from ratios(results)
    yield from memory(results)


def ratios(results):
    case = "throughput-window1"
    own, peer = results.median(case, "muster", mb_s), results.fastest_peer(case, mb_s)
    title = "unshaped throughput at windowsize 1 / the fastest peer's"
    if own is None or peer is None:
        yield title, NOT_MEASURED, "2", None
        yield "CPU per GB / that peer's", NOT_MEASURED, "0.5 at most", None
    else:
        costs = [results.median(case, name, cpu_per_gb) for name in ("muster", peer[0])]
        yield title, f"{own / peer[1]:.2f} ({ALL[peer[0]].title})", "2", own / peer[1] >= 2
        yield "CPU per GB / that peer's", ratio(*costs), "0.5 at most", costs[0] <= 0.5 * costs[1]
    own, bare = results.median("throughput-window16", "muster", mb_s), results.median("bare", "gso", bare_mb_s)
    title = "throughput at windowsize 16 / a bare GSO sender's"
    yield (title, NOT_MEASURED, "0.7", None) if own is None or bare is None else (title, f"{own / bare:.2f}", "0.7", own / bare >= 0.7)
    own, peers = results.best_exchange("muster"), {peer: results.best_exchange(peer) for peer in PEERS}
    peers = {peer: best[0] for peer, best in peers.items() if best}
    title = "DHCP exchanges a second / the fastest peer's"
    if own is None or not peers:
        yield title, NOT_MEASURED, "8", None
    else:
        peer = max(peers, key=peers.get)
        yield title, f"{own[0] / peers[peer]:.2f} ({ALL[peer].title})", "8", own[0] / peers[peer] >= 8
    title = "cost per packet at 10,000 clients / at 100"
    many, few = results.first("10000-1g-0s"), results.first("cost-100")
    if many and few:
        value = (cpu(many) / many["meter"]["packets_to_rack"]) / (cpu(few) / few["meter"]["packets_to_rack"])
        yield title, f"{value:.2f}", "1.2 at most", value <= 1.2
    else:
        yield title, NOT_MEASURED, "1.2 at most", None


def memory(results):
    told = results.first("memory")
    if not told:
        yield "descriptors and memory after start, ten storms", NOT_MEASURED, "0, 0", None
        yield "memory at capacity 10,000", NOT_MEASURED, "64 MiB at most", None
        return
    yield "allocations after start", "held by `make test` (`tests/allocations.rs`, `tests/shell_steady.rs`)", "0", True
    # It keeps boot files open, one each in a fixed table; here there is one.
    descriptors = told["after"][-1]["descriptors"] - told["before"]["descriptors"] - 1
    yield "descriptors opened after start, ten storms, beside the boot file", max(descriptors, 0), "0", descriptors <= 0
    growth = told["after"][-1]["resident_kib"] - told["after"][0]["resident_kib"]
    yield "memory growth from the first of ten storms to the last", f"{growth} KiB", "0", growth <= 0
    peak = max([told["after"][-1]["peak_kib"]] + [told["server"]["memory_kib"]["peak"] for told in results.told("10000-1g-0s")]) / 1024
    yield "memory at capacity 10,000", f"{peak:.1f} MiB", "64 MiB at most", peak <= 64


def bare_mb_s(told):
    return told["payload_bytes"] / 1e6 / told["seconds"]


def storms_of_all(results):
    """Cases that peers met as well."""
    rows = []
    for case in results.cases.values():
        if case.kind != "storm" or len(case.servers) == 1 or case.repeats > 1:
            continue
        for server in case.servers:
            told = results.first(case.name, server)
            if not told:
                rows.append([case.name, ALL[server].title, NOT_MEASURED] + [""] * 7)
                continue
            base = results.first(case.name)
            times = ratio(told["up_at"]["last"], base["up_at"]["last"]) if base else "-"
            wire = case.wire_seconds(BLKSIZE.get(case.profile, 1456))
            link = ratio(told["bytes"] / sum(cases.SIZES[name] for name in case.files) * wire / case.nodes, told["up_at"]["last"]) if wire else "-"
            causes = "; ".join(f"{entry['machines']} {entry['stage']}: {entry['cause']}" for entry in told["lost_by"])
            rows.append([case.name, ALL[server].title, f"**{lost(told)}**" if lost(told) else 0, times, link, f"{told['up_at']['last']:.1f}", f"{told['longest_gap']:.2f}"]
                        + [f"{told['lease']['p99']:.3f}", f"{cpu_per_gb(told):.2f}", causes])
    return table(["case", "server", "lost", "last up / muster's", "of the link", "last up, s", "longest gap, s", "DHCP p99, s", "CPU s/GB", "lost by"], rows)


def storms_of_muster(results):
    rows = []
    for case in results.cases.values():
        told = results.first(case.name)
        if case.kind != "storm" or case.repeats > 1:
            continue
        if not told:
            rows.append([case.name, NOT_MEASURED] + [""] * 9)
            continue
        wire = case.wire_seconds(BLKSIZE["rom"]) if case.profile == "rom" else None
        at_wire = ratio(told["up_at"]["last"], wire) if wire and case.spread == 0 else "-"
        quantiles = "/".join(f"{told['up_at'][key]:.2f}" for key in ("first", "median", "p99", "last"))
        causes = "; ".join(f"{entry['machines']} {entry['stage']}: {entry['cause']}" for entry in told["lost_by"])
        meter = told["meter"]
        rows.append([case.name, lost(told), at_wire, f"{told['fairness']:.4f}", f"{told['longest_gap']:.3f}", f"{told['lease']['p99']:.3f}", quantiles]
                    + [f"{told['retries']}/{told['duplicates']}", meter["queue_drops"], f"{cpu_per_gb(told):.2f}", causes])
    header = ["case", "lost", "last up / wire", "Jain", "longest gap, s", "DHCP p99, s", "first/median/p99/last up, s", "retries/duplicates", "queue drops", "CPU s/GB", "lost by"]
    return table(header, rows)


def throughput(results):
    rows = []
    for window in (1, 4, 16):
        case = f"throughput-window{window}"
        own = results.median(case, "muster", mb_s)
        for server in results.cases[case].servers:
            rate, cost = (results.median(case, server, figure) for figure in (mb_s, cpu_per_gb))
            if rate is None:
                rows.append([window, ALL[server].title, NOT_MEASURED, "", "", "", "", ""])
                continue
            busy = results.median(case, server, lambda told: told["meter"]["core_s"] / told["meter"]["at_s"])
            client = results.median(case, server, lambda told: told["meter"]["client_core_s"] / told["meter"]["at_s"])
            own_cost = results.median(case, "muster", cpu_per_gb)
            ratios = [ratio(rate, own) if own else "-", ratio(cost, own_cost) if own_cost else "-"]
            rows.append([window, ALL[server].title, *ratios, f"{rate:.0f}", f"{cost:.2f}", f"{busy:.0%}", f"{client:.0%}"])
    for mode, title in (("gso", "bare sender, UDP_SEGMENT, 16 a call"), ("gso-1", "bare sender, UDP_SEGMENT, 1 a call"), ("mmsg", "bare sender, sendmmsg, 16 a call")):
        own, own_cost = (results.median("throughput-window16", "muster", figure) for figure in (mb_s, cpu_per_gb))
        rate = results.median("bare", mode, bare_mb_s)
        if rate is None:
            rows.append(["-", title, NOT_MEASURED, "", "", "", "", ""])
            continue
        cost = results.median("bare", mode, lambda told: told["cpu_s"] / (told["payload_bytes"] / GIGA))
        client = results.median("bare", mode, lambda told: told["meter"]["client_core_s"] / told["meter"]["at_s"])
        busy = results.median("bare", mode, lambda told: told["meter"]["core_s"] / told["meter"]["at_s"])
        ratios = [ratio(rate, own) if own else "-", ratio(cost, own_cost) if own_cost else "-"]
        rows.append(["-", title, *ratios, f"{rate:.0f}", f"{cost:.2f}", f"{busy:.0%}", f"{client:.0%}"])
    return table(["windowsize", "server", "rate / muster's", "CPU per GB / muster's", "MB/s", "CPU s/GB", "server's core busy", "clients' core busy"], rows)


def exchanges(results):
    rows, own = [], results.best_exchange("muster")
    for server in ALL:
        best = results.best_exchange(server)
        if not best:
            rows.append([ALL[server].title, NOT_MEASURED, "", "", "", "", "", "", ""])
            continue
        rate, told = best
        meter = told["meter"]
        cost = cpu(told) / told["exchanges"] * 1e6
        own_cost = cpu(own[1]) / own[1]["exchanges"] * 1e6 if own else None
        ratios = [ratio(rate, own[0]) if own else "-", ratio(cost, own_cost) if own_cost else "-"]
        busy = [f"{meter[key] / meter['at_s']:.0%}" for key in ("core_s", "client_core_s")]
        rows.append([ALL[server].title.split(" + ")[0], *ratios, f"{rate:.0f}", f"{cost:.1f}", told["machines"], f"{told['p50_ms']:.2f}/{told['p99_ms']:.2f}", *busy])
    header = ["server", "rate / muster's", "CPU per exchange / muster's", "exchanges/s", "CPU µs each", "machines", "p50/p99, ms", "server's core busy", "clients' core busy"]
    return table(header, rows)


def plots(results, folder):
    """Writes the SVGs that there are results for; gives their names and titles."""
    made = []

    def keep(name, title, text):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
        made.append((name, title))

    for case, words in (("1000-1g-0s", "1,000 nodes at once, 1 Gbit/s, queue of 256"), ("4000-1g-2s", "4,000 nodes over 2 s, 1 Gbit/s, queue of 256")):
        met = [(server, told) for server in ALL for told in results.told(case, server)[:1]]
        if met:
            title = f"Nodes up: {words}"
            steps = lambda done: [point for n, at in enumerate(done) for point in ((at, n), (at, n + 1))]  # noqa: E731
            keep(f"up-{case}.svg", title, svg.lines(title, "seconds since power came back", "nodes up", [(server, ALL[server].title, [(0, 0), *thin(steps(told["completions_s"]))]) for server, told in met]))
            title = f"Gaps between packets of a transfer: {words}"
            keep(f"gaps-{case}.svg", title, svg.lines(title, "gap, ms", "share of gaps at least so long", [(server, ALL[server].title, tail(told["gaps_ms"])) for server, told in met], True, True))
    groups = []
    for window in (1, 16):
        costs = [(server, ALL[server].title, results.median(f"throughput-window{window}", server, cpu_per_gb)) for server in ALL]
        costs = [cost for cost in costs if cost[2] is not None]
        if costs:
            groups.append((f"windowsize {window}", costs))
    if groups:
        title = "CPU of the server per GB, 100 nodes, no shaping"
        keep("cpu-per-gb.svg", title, svg.bars(title, "seconds per GB", groups))
    return made


def thin(points, most=1500):
    step = max(len(points) // most, 1)
    return points[::step] + points[-1:]


def tail(classes):
    """Share of gaps above each class's lower end, from a histogram of [upper end, count]."""
    total, left, points, lower = sum(count for _, count in classes) or 1, 0, [], 0.05
    left = total
    for upper, count in classes:
        points.append((lower, left / total))
        left, lower = left - count, upper
    return [*points, (lower, 0)]


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), platform.machine())
    return f"Linux {platform.release()}, {os.cpu_count()} CPUs ({model})"


def write(results, here):
    """Writes RESULTS.md and the plots into the folder `here`."""
    gathered = Results(results)
    with open(os.path.join(here, "HEADER.md"), encoding="utf-8") as header:
        parts = [header.read().strip()]
    versions = " and ".join(sorted({result["version"] for result in results})) or "nothing"
    parts.append(f"{machine()}; {versions}; {len(results)} runs, {sum(result['took_s'] for result in results) / 60:.0f} minutes.")
    marks = {True: "yes", False: "**no**", None: "-"}
    parts += ["## The bars", table(["figure", "measured", "bar", "met"], [[title, measured, bar, marks[met]] for title, measured, bar, met in bars(gathered)])]
    notes = os.path.join(here, "NOTES.md")
    if os.path.exists(notes):
        with open(notes, encoding="utf-8") as text:
            parts += ["## What falls short, and why", text.read().strip()]
    drawn = plots(gathered, here)
    parts += ["## Storms, side by side", storms_of_all(gathered), *[f"![{title}]({name})" for name, title in drawn if not name.startswith("cpu")]]
    parts += ["## Throughput and CPU, 100 nodes, no shaping", throughput(gathered), *[f"![{title}]({name})" for name, title in drawn if name.startswith("cpu")]]
    parts += ["## DHCP exchanges to saturation, known nodes", exchanges(gathered)]
    parts += ["## Every storm of muster's", storms_of_muster(gathered)]
    if gathered.failed:
        parts += ["## Runs that failed", table(["run", "why"], [[f"{result['case']}.{result['server']}", " ".join(result["failed"].split())] for result in gathered.failed])]
    with open(os.path.join(here, "RESULTS.md"), "w", encoding="utf-8") as file:
        file.write("\n\n".join(parts) + "\n")

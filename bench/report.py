def brief(r):
    if "failed" in r: return "FAILED: "+r["failed"]
    t=r["told"]
    if r["kind"]=="storm": return f"{t['up']} of {t['machines']} up, last {t['up_at']['last']:.2f} s, p99 lease {t['lease']['p99']:.3f}, gap {t['longest_gap']:.2f} s, {t['bytes']/1e6/max(t['up_at']['last'],.001):.0f} MB/s, CPU {t['server']['cpu_s']} {t['meter']}"+"".join(f"; {l['machines']} {l['stage']}: {l['cause']}" for l in t['lost_by'])
    if r["kind"]=="exchange": return f"{t['per_second']:.0f}/s p99 {t['p99_ms']} ms, retries {t['retries']} CPU {t['server']['cpu_s']} {t['meter']}"
    return str(t)[:300]
def write(results, here): pass

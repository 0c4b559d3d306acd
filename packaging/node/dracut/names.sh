#!/bin/sh
# Hands the cluster's names to the system, for libnss_muster(8).

if [ -s /run/muster-names ]; then
    if ! { mkdir -p "$NEWROOT/var/lib/muster" && cp /run/muster-names "$NEWROOT/var/lib/muster/names"; } 2>/dev/null; then
        warn "muster: the names of the cluster stay in /run/muster-names: the root is not writable"
    fi
fi

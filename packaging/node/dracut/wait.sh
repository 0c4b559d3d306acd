#!/bin/sh
# The root is not mounted before muster-in has an address.
# shellcheck disable=SC2154 # dracut sets hookdir

if getargbool 0 rd.muster; then
    mkdir -p "$hookdir/initqueue/finished"
    echo '[ -e /run/muster-in ]' >"$hookdir/initqueue/finished/muster.sh"
fi

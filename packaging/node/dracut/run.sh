#!/bin/sh
# Tests the node and configures its address, once. Without an address dracut calls it again, until rd.retry is over. /run/muster-in has
# what muster-in(8) said.

if getargbool 0 rd.muster && [ ! -e /run/muster-in ]; then
    muster-in --names /run/muster-names >/run/muster-in.new
    musterStatus=$?
    case $musterStatus in
    3) die "muster: this node has failed its test" ;;
    4) warn "muster: the head has no number for this node" ;;
    esac
    case $musterStatus in
    0 | 4)
        mv /run/muster-in.new /run/muster-in
        # shellcheck source=/dev/null
        musterInterface=$(. /run/muster-in && echo "$INTERFACE")
        # As after any other configuration of a card: a root behind it is mounted.
        if command -v source_hook >/dev/null; then source_hook initqueue/online "$musterInterface"; fi
        if [ -x /sbin/netroot ]; then /sbin/netroot "$musterInterface"; fi
        ;;
    *) warn "muster: no address yet (muster-in: exit status $musterStatus)" ;;
    esac
fi
